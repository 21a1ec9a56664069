"""Kubernetes with KubeRay: a RayJob with a cluster of its own, or a RayCronJob."""

import subprocess
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from aai.errors import BadConfig
from flows.schedules import check_schedule
from flows.submit.places import pod_faults
from flows.submit.submission import Submission
from flows.submit.target import Target, fill

_CONFIG_FOLDER = "/etc/aai"
_SECONDS_PER_HOUR = 3600
_NO_CLUSTER = ("connect", "dial tcp", "no such host", "timeout", "context", "kubeconfig", "openapi", "no such file")
"""Words in what kubectl says if it finds no cluster."""

_REMEDIES = {
    "no matches for kind": "install the KubeRay operator in the cluster (a RayCronJob needs its feature gate)",
    "Unauthorized": "log in to the cluster again",
    "Forbidden": "ask for the right to create it there, or name another namespace (submit.namespace)",
    'namespaces "': "create the namespace, or name another one (submit.namespace)",
}
"""What to do, by words in what Kubernetes says."""


def _render(submission: Submission) -> str:
    values = {
        "contents": submission.contents,
        "config_folder": _CONFIG_FOLDER,
        "ray_version": version("ray"),
        "seconds": round(submission.options.hours * _SECONDS_PER_HOUR),
        "words": submission.there(_CONFIG_FOLDER),
    }
    return fill("kuberay/rayjob.yaml.j2", submission, values)


def _faults(submission: Submission) -> Iterator[BadConfig]:
    if submission.options.image is None:
        yield BadConfig("it is missing: name a container image with AAI (infra/docker builds one)", key="submit.image")
    yield from pod_faults(submission)
    if schedule := submission.options.schedule:
        try:
            check_schedule(schedule, "submit.schedule")
        except BadConfig as error:
            yield error


def _trial(submission: Submission) -> Iterator[BadConfig]:
    """What Kubernetes says against a job. Some webhooks take no trials; then `kubectl apply` itself decides."""
    call = ["kubectl", "apply", "--dry-run=server", "--request-timeout=10s", "--filename", "-"]
    trial = subprocess.run(call, input=_render(submission), capture_output=True, text=True, check=False)
    said = trial.stderr.strip().splitlines()
    if not trial.returncode or "does not support dry run" in trial.stderr:
        return
    reason = next((line for line in said if line.lower().startswith("error")), said[0] if said else "no reason given")
    remedy = next((remedy for word, remedy in _REMEDIES.items() if word in trial.stderr), None)
    if remedy is None and any(word in reason.lower() for word in _NO_CLUSTER):
        yield BadConfig(
            f"kubectl reaches no cluster ({_short(reason)}): choose one by `kubectl config use-context`, or set "
            "KUBECONFIG to its file; `kubectl get nodes` shows whether it answers",
            key="--to kuberay",
        )
        return
    yield BadConfig(
        f"Kubernetes refuses the job ({_short(reason)}): {remedy or 'mend that, and submit again'}", key="submit"
    )


def _short(reason: str) -> str:
    """The point of a message of kubectl, without where it was found and how to turn the check off."""
    return reason.removeprefix("error: ").split("; if you choose to ignore", 1)[0].split("error validating data: ")[-1]


def _command(submission: Submission, path: Path, wait: bool) -> list[str]:
    if not wait:
        return ["kubectl", "apply", "--filename", str(path)]
    job = ["kubectl", "--namespace", submission.options.namespace, "get", "rayjob", submission.name]
    return ["bash", "-c", _WAITING, "kubectl", str(path), *job]


_WAITING = """
pause_s=5 tries=12
kubectl apply --filename "$1" || exit
shift
failed=0
while :; do
    if state=$("$@" --output 'jsonpath={.status.jobDeploymentStatus}'); then failed=0
    else
        code=$?
        failed=$((failed + 1))
        [ "$failed" -lt "$tries" ] || exit "$code"
    fi
    case "$state" in Complete) exit 0 ;; Failed) "$@" --output 'jsonpath={.status.message}' >&2; exit 1 ;; esac
    sleep "$pause_s"
done
"""
"""Submits, and looks until the job has ended; a cluster that does not answer for a minute ends it as well."""

KUBERAY = Target(
    name="kuberay",
    program="kubectl",
    render=_render,
    faults=_faults,
    trial=_trial,
    command=_command,
    min_ray_nodes=1,
    suffix=".yaml",
    uses=frozenset(["nodes", "memory_gib", "head_memory_gib", "hours", "image", "namespace", "schedule", "volumes"]),
    listing="kubectl --namespace {namespace} get rayjobs --output name",
    watch="kubectl --namespace {namespace} get rayjob {name} --watch\n"
    "  kubectl --namespace {namespace} logs --follow --selector job-name={name}\n"
    "  kubectl --namespace {namespace} delete rayjob {name}",
    watch_schedule="kubectl --namespace {namespace} get raycronjob {name}\n"
    "  kubectl --namespace {namespace} get rayjob --watch\n"
    "  kubectl --namespace {namespace} delete raycronjob {name}",
)
