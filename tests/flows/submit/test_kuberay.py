"""Manifests are valid for KubeRay's resource definitions, and the validation finds what is wrong."""

import copy
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from aai.errors import BadConfig
from flows.submit.kuberay import KUBERAY
from tests.flows.submit.manifests import SCHEMAS, faults_of
from tests.flows.submit.submissions import check, submission

IMAGE = {"image": "registry.example/aai:1"}
with_schemas = pytest.mark.skipif(not SCHEMAS.is_dir(), reason="no resource definitions beside the clone")


def manifests(folder, **options):
    return list(yaml.safe_load_all(KUBERAY.render(submission(folder, submit=IMAGE | options))))


CLUSTER = Path(__file__).parents[3] / "infra" / "kuberay" / "raycluster.yaml"


@with_schemas
def test_the_cluster_that_stays_is_valid():
    [cluster] = [part for part in yaml.safe_load_all(CLUSTER.read_text()) if part["kind"] == "RayCluster"]
    assert faults_of(cluster) == []


@with_schemas
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gpus": 0},
        {"nodes": 16, "gpus": 8, "cpus": 64},
        {"schedule": "0 2 * * *"},
        {"volumes": {"models": "/models"}, "env": {"HF_HOME": "/models"}, "secrets": ["AWS_SECRET_ACCESS_KEY"]},
    ],
)
def test_every_manifest_is_valid(tmp_path, options):
    _, job = manifests(tmp_path, **options)
    assert faults_of(job) == []


def test_the_job_says_what_was_asked_for(tmp_path):
    config, job = manifests(tmp_path, nodes=3, gpus=2, cpus=16, memory_gib=64, hours=2, namespace="sounds")
    spec = job["spec"]
    [group] = spec["rayClusterSpec"]["workerGroupSpecs"]
    [container] = group["template"]["spec"]["containers"]
    assert yaml.safe_load(config["data"]["aai.yaml"])["workspace"] == "s3://bucket/bank"
    assert (job["kind"], job["metadata"]["namespace"], config["metadata"]["namespace"]) == (
        "RayJob",
        "sounds",
        "sounds",
    )
    assert (group["minReplicas"], group["maxReplicas"], spec["activeDeadlineSeconds"]) == (0, 3, 7200)
    assert container["resources"]["limits"] == {"cpu": "16", "memory": "64Gi", "nvidia.com/gpu": "2"}
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["entrypoint"] == "aai build -c /etc/aai/aai.yaml"


def test_awkward_names_and_values_stay_what_they_are(tmp_path):
    env, volumes = (
        {"yes": "off", "N": "1", "PLACE": "🙂 \x7f\u2028\x85 \\ud83d <a & b>: '\n"},
        {"123": "/models", "true": "/data"},
    )
    config, job = manifests(tmp_path, namespace="true", env=env, volumes=volumes, secrets=["on"])
    [group] = job["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    spec = group["template"]["spec"]
    values = {each["name"]: each.get("value") for each in spec["containers"][0]["env"]}
    assert values == env | {"on": None, "RAY_USAGE_STATS_ENABLED": "0"}
    assert {each["name"] for each in spec["volumes"]} == {"shared-memory", "configuration", "123", "true"}
    assert config["metadata"]["namespace"] == job["metadata"]["namespace"] == "true"


def test_a_secret_is_named_and_never_written(tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    text = KUBERAY.render(submission(tmp_path, submit=IMAGE | {"secrets": ["AWS_SECRET_ACCESS_KEY"]}))
    assert "hunter2" not in text
    assert '{secretKeyRef: {name: aai, key: "AWS_SECRET_ACCESS_KEY"}}' in text


def test_an_image_is_needed(tmp_path):
    with pytest.raises(BadConfig) as error:
        check(KUBERAY, submission(tmp_path))
    assert error.value.key == "submit.image"


def _misspelt(job):
    job["spec"]["entryPoint"] = job["spec"].pop("entrypoint")


def _text_for_number(job):
    job["spec"]["backoffLimit"] = "2"


def _unknown_mode(job):
    job["spec"]["rayClusterSpec"]["authOptions"]["mode"] = "password"


def _two_clean_ups(job):
    job["spec"]["deletionStrategy"] = {"onSuccess": {"policy": "DeleteCluster"}, "onFailure": {"policy": "DeleteNone"}}


def _time_without_clean_up(job):
    del job["spec"]["shutdownAfterJobFinishes"]


def _retry_on_a_shared_cluster(job):
    job["spec"]["clusterSelector"] = {"ray.io/cluster": "mine"}


def _more_than_the_maximum(job):
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["replicas"] = 99


def _undeclared_volume(job):
    pod = job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    pod["containers"][0]["volumeMounts"].append({"name": "elsewhere", "mountPath": "/x"})


def _no_image_key(job):
    del job["spec"]["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["name"]


def _limit_in_the_wrong_place(job):
    job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["limits"] = {"cpu": 1}


@with_schemas
@pytest.mark.parametrize(
    "break_it",
    [
        _misspelt,
        _text_for_number,
        _unknown_mode,
        _two_clean_ups,
        _time_without_clean_up,
        _retry_on_a_shared_cluster,
        _more_than_the_maximum,
        _undeclared_volume,
        _no_image_key,
        _limit_in_the_wrong_place,
    ],
)
def test_the_validation_finds_what_is_wrong(tmp_path, break_it):
    _, job = manifests(tmp_path)
    wrong = copy.deepcopy(job)
    break_it(wrong)
    assert faults_of(job) == []
    assert len(faults_of(wrong)) >= 1


@pytest.mark.parametrize(
    "said, key, sentence",
    [
        (
            'error: error validating "STDIN": error validating data: failed to download openapi: Get "http://localhost'
            ':8080/openapi/v2": dial tcp 127.0.0.1:8080: connect: connection refused; if you choose to ignore these '
            "errors, turn validation off with --validate=false",
            "--to kuberay",
            "kubectl reaches no cluster (failed to download openapi: Get",
        ),
        ('error: context "none" does not exist', "--to kuberay", 'no cluster (context "none" does not exist): choose'),
        (
            'error: resource mapping not found for name: "a" namespace: "b" from "STDIN": no matches for kind "RayJob" '
            'in version "ray.io/v1"\nensure CRDs are installed first',
            "submit",
            "install the KubeRay operator",
        ),
        (
            'Error from server (NotFound): error when creating "STDIN": namespaces "b" not found',
            "submit",
            "create the namespace",
        ),
        ("error: You must be logged in to the server (Unauthorized)", "submit", "log in to the cluster again"),
        ("Error from server: something else", "submit", "(Error from server: something else): mend that"),
    ],
)
def test_what_kubernetes_says_in_a_trial_is_a_sentence_with_a_remedy(tmp_path, monkeypatch, said, key, sentence):
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(
        f'#!/bin/bash\necho "$@" > {tmp_path}/call\ncat > {tmp_path}/asked\ncat {tmp_path}/said >&2; exit 1\n'
    )
    kubectl.chmod(0o755)
    (tmp_path / "said").write_text(said)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    made = submission(tmp_path, submit=IMAGE)
    [fault] = KUBERAY.trial(made)
    assert fault.key == key and sentence in fault.sentence and "--validate" not in fault.sentence
    assert "--dry-run=server" in (tmp_path / "call").read_text()
    assert (tmp_path / "asked").read_text() == KUBERAY.render(made)
    (tmp_path / "said").write_text("admission webhook x does not support dry run")
    assert not list(KUBERAY.trial(made)), "kubectl apply itself decides"


KUBECTL = """#!/bin/bash
case "$*" in
*dry-run*|*apply*) exit ;;
esac
echo "$@" >> calls
case "$(wc -l < calls)" in 1|3) exit 1 ;; 2) echo Running ;; *) [ "$gone" ] && exit 9; echo "$last" ;; esac
"""


@pytest.mark.parametrize(("last", "code", "num"), [("Complete", 0, 4), ("Failed", 1, 5), ("", 9, 7)])
def test_waiting_bears_that_the_cluster_does_not_answer_now_and_then(tmp_path, monkeypatch, last, code, num):
    monkeypatch.chdir(tmp_path)
    Path("kubectl").write_text(KUBECTL)
    Path("kubectl").chmod(0o755)
    call = KUBERAY.command(submission(tmp_path, submit=IMAGE), tmp_path / "job.yaml", True)
    call[2] = call[2].replace("pause_s=5 tries=12", "pause_s=0 tries=5")
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "last": last, "gone": "" if last else "yes"}
    assert subprocess.run(call, env=environment, check=False).returncode == code
    assert len(Path("calls").read_text().splitlines()) == num
