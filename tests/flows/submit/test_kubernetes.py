"""Objects of Kubernetes itself are valid: ConfigMaps, pods, and the job that Prefect's worker makes of a scheduled run.

Needs packages that AAI does not: `pip install kubernetes-validate prefect-kubernetes`, in an environment of its own.
"""

import asyncio
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from flows.app.pods import job_variables, pool_template
from flows.infra import FOLDER
from flows.submit.kuberay import KUBERAY
from tests.flows.submit.submissions import ON_BUCKETS, submission

kubernetes_validate = pytest.importorskip("kubernetes_validate")

VERSIONS = ("1.28", "1.34")
OPTIONS = {
    "image": "registry.example/aai:cuda", "gpus": 2, "cpus": 16, "memory_gib": 64, "namespace": "sounds",
    "env": {"AWS_REGION": "eu-central-1", "EMPTY": ""}, "secrets": ["HF_TOKEN"], "volumes": {"models": "/models"},
}  # fmt: skip
_OF_PREFECT = ("parallelism", "completions")
"""Prefect's worker wants them in the pod, where Kubernetes, which has them in the job, leaves them out."""


def check(manifest):
    for version in VERSIONS:
        kubernetes_validate.validate(manifest, version, strict=True)


def pods_of(cluster) -> list[dict]:
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    return [{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, **group["template"]} for group in groups]


@pytest.mark.parametrize("options", [OPTIONS, {"image": "aai", "gpus": 0, "schedule": "0 2 * * *"}])
def test_the_objects_of_a_job_on_kuberay_are_valid(tmp_path, options):
    config, job = yaml.safe_load_all(KUBERAY.render(submission(tmp_path, submit=options)))
    spec = job["spec"].get("jobTemplate", job["spec"])
    for manifest in (config, *pods_of(spec["rayClusterSpec"])):
        check(manifest)


def test_the_objects_of_a_cluster_that_stays_are_valid():
    parts = list(yaml.safe_load_all((FOLDER / "kuberay" / "raycluster.yaml").read_text()))
    found = [part for part in parts if part["kind"] != "RayCluster"]
    found += [pod for part in parts if part["kind"] == "RayCluster" for pod in pods_of(part["spec"])]
    assert len(found) >= 3
    for manifest in found:
        check(manifest)


def scheduled_job(config: Path) -> dict:
    """The job of a scheduled run, as Prefect's worker hands it to Kubernetes."""
    worker = pytest.importorskip("prefect_kubernetes.worker")
    from prefect.client.schemas.objects import FlowRun

    template, variables = pool_template(), job_variables(config, {})
    made = worker.KubernetesWorkerJobConfiguration.from_template_and_values(template, variables, client=object())
    configuration = asyncio.run(made)
    configuration.prepare_for_flow_run(FlowRun(id=uuid4(), flow_id=uuid4(), name="brave-otter"), worker_name="a worker")
    return configuration.job_manifest


def test_the_job_of_a_scheduled_run_is_valid_and_says_what_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PREFECT_API_URL", "http://prefect.example:4200/api")
    path = tmp_path / "aai.yaml"
    path.write_text(yaml.safe_dump(ON_BUCKETS | {"submit": OPTIONS}))
    job = scheduled_job(path)
    pod = job["spec"]["template"]["spec"]
    assert [pod.pop(name) for name in _OF_PREFECT] == [1, 1]
    check(job)
    [container] = pod["containers"]
    assert job["metadata"]["namespace"] == "sounds" and container["image"] == OPTIONS["image"]
    assert container["args"] == ["prefect", "flow-run", "execute"]
    assert container["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    variables = {each["name"]: each.get("value") or each.get("valueFrom") for each in container["env"]}
    assert variables["AWS_REGION"] == "eu-central-1"
    assert variables["HF_TOKEN"] == {"secretKeyRef": {"name": "aai", "key": "HF_TOKEN"}}
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


def test_what_is_wrong_is_found(tmp_path):
    config, _ = yaml.safe_load_all(KUBERAY.render(submission(tmp_path, submit=OPTIONS)))
    with pytest.raises(kubernetes_validate.ValidationError):
        check(config | {"data": {"aai.yaml": 1}})
