"""Kubernetes with KubeRay: a RayJob with a cluster of its own, or a RayCronJob."""

from importlib.metadata import version
from pathlib import Path

from aai.errors import BadConfig
from flows.schedules import check_schedule
from flows.submit.places import check_places
from flows.submit.submission import Submission
from flows.submit.target import Target, fill

_CONFIG_FOLDER = "/etc/aai"
_SECONDS_PER_HOUR = 3600


def _render(submission: Submission) -> str:
    values = {
        "contents": submission.contents,
        "config_folder": _CONFIG_FOLDER,
        "ray_version": version("ray"),
        "seconds": round(submission.options.hours * _SECONDS_PER_HOUR),
        "words": submission.there(_CONFIG_FOLDER),
    }
    return fill("kuberay/rayjob.yaml.j2", submission, values)


def _check(submission: Submission) -> None:
    if submission.options.image is None:
        raise BadConfig("it is missing: name a container image with AAI (infra/docker builds one)", key="submit.image")
    check_places(submission)
    if schedule := submission.options.schedule:
        check_schedule(schedule, "submit.schedule")


def _command(submission: Submission, path: Path, wait: bool) -> list[str]:
    if not wait:
        return ["kubectl", "apply", "--filename", str(path)]
    job = ["kubectl", "--namespace", submission.options.namespace, "get", "rayjob", submission.name]
    return ["bash", "-c", _WAITING, "kubectl", str(path), *job]


_WAITING = """
kubectl apply --filename "$1" || exit
shift
while :; do
    state=$("$@" --output 'jsonpath={.status.jobDeploymentStatus}') || exit
    case "$state" in Complete) exit 0 ;; Failed) "$@" --output 'jsonpath={.status.message}' >&2; exit 1 ;; esac
    sleep 5
done
"""

KUBERAY = Target(
    name="kuberay",
    program="kubectl",
    render=_render,
    check=_check,
    command=_command,
    suffix=".yaml",
    watch="kubectl --namespace {namespace} get rayjob {name} --watch\n"
    "  kubectl --namespace {namespace} logs --follow --selector job-name={name}\n"
    "  kubectl --namespace {namespace} delete rayjob {name}",
    watch_schedule="kubectl --namespace {namespace} get raycronjob {name}\n"
    "  kubectl --namespace {namespace} get rayjob --watch\n"
    "  kubectl --namespace {namespace} delete raycronjob {name}",
)
