"""Strict validation of KubeRay's manifests: by the schemas of its resource definitions, and by rules across fields."""

from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

SCHEMAS = Path(__file__).parents[4] / "shared" / "data" / "kuberay"


def faults_of(manifest: dict[str, Any]) -> list[str]:
    """What the cluster would refuse, or silently leave out; empty if the manifest is right."""
    found = [f"{error.json_path}: {error.message}" for error in _validator(manifest["kind"]).iter_errors(manifest)]
    spec = manifest.get("spec", {})
    if manifest["kind"] == "RayCluster":
        spec = {"rayClusterSpec": spec}
    return found + _faults_of_job(spec.get("jobTemplate", spec))


def _faults_of_job(job: dict[str, Any]) -> list[str]:
    """Rules of KubeRay's own validation that its schema does not state."""
    found = []
    if job.get("shutdownAfterJobFinishes") and "deletionStrategy" in job:
        found.append("deletionStrategy and shutdownAfterJobFinishes exclude one another")
    if "ttlSecondsAfterFinished" in job and not job.get("shutdownAfterJobFinishes"):
        found.append("ttlSecondsAfterFinished needs shutdownAfterJobFinishes")
    if job.get("backoffLimit") and ("clusterSelector" in job or job.get("submissionMode") == "InteractiveMode"):
        found.append("backoffLimit excludes clusterSelector and InteractiveMode")
    cluster = job.get("rayClusterSpec", {})
    for group in cluster.get("workerGroupSpecs", []):
        if not group.get("minReplicas", 0) <= group.get("replicas", 0) <= group.get("maxReplicas", 2**31):
            found.append(f"{group.get('groupName')}: replicas are outside minReplicas and maxReplicas")
    for group in [cluster.get("headGroupSpec", {}), *cluster.get("workerGroupSpecs", [])]:
        found += _faults_of_pod(group.get("template", {}).get("spec", {}))
    return found


def _faults_of_pod(pod: dict[str, Any]) -> list[str]:
    volumes = {volume.get("name") for volume in pod.get("volumes", [])}
    mounted = {mount["name"] for container in pod.get("containers", []) for mount in container.get("volumeMounts", [])}
    return [f"volume {name!r} is mounted and not declared" for name in sorted(mounted - volumes)]


@cache
def _validator(kind: str) -> jsonschema.Draft202012Validator:
    text = (SCHEMAS / f"ray.io_{kind.lower()}s.yaml").read_text()
    definition = yaml.load(text, Loader=yaml.CSafeLoader)  # a tenth of the time of the loader in Python
    [stored] = [version for version in definition["spec"]["versions"] if version["storage"]]
    schema = _strict(stored["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(schema)


def _strict(schema: Any) -> Any:
    """A schema in which an object with declared properties has no others."""
    if isinstance(schema, list):
        return [_strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        strict["additionalProperties"] = False
    return strict
