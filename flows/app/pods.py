"""What a Kubernetes pod of a scheduled run needs, from the section `submit`; `deploy.py` hands it to Prefect."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aai.errors import BadConfig
from aai.yaml_reader import read_yaml
from flows.infra import FOLDER
from flows.submit.kuberay import KUBERAY
from flows.submit.submission import make_submission
from tasks.runtime.options import SubmitOptions
from tasks.stages import load_config


def pool_template() -> dict[str, Any]:
    """The base job template of a work pool of kind `kubernetes`."""
    template: dict[str, Any] = read_yaml(FOLDER / "prefect" / "kubernetes.yaml", "it belongs to AAI")
    return template


def check_pods(config: Path, changes: Mapping[str, Any], jobs: Path | None) -> None:
    """Check that pods have an image, and see the configuration, the job file and all folders.

    Raises:
        BadConfig: `submit.image` is missing, or something is on a disk that pods do not see.
    """
    submission = make_submission(("build",), config, changes, jobs)
    for fault in KUBERAY.faults(submission):
        raise fault
    mounts = submission.options.volumes.values()
    for file in filter(None, (config, jobs)):
        if not any(file.absolute().is_relative_to(mount) for mount in mounts):
            raise BadConfig(
                f"{file.absolute()} is not below one of its paths, so the pods of scheduled runs would not see it: "
                "mount the volume that has the file, at the same path as here",
                key="submit.volumes",
                uri=str(config),
            )


def job_variables(config: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The values for the template of the pool."""
    options = load_config(config, changes).submit
    claims = {claim: {"persistentVolumeClaim": {"claimName": claim}} for claim in options.volumes}
    claims["shared-memory"] = {"emptyDir": {"medium": "Memory", "sizeLimit": f"{max(options.memory_gib // 4, 1)}Gi"}}
    paths = options.volumes | {"shared-memory": "/dev/shm"}  # Ray's object store
    limits = _limits(options)
    return {
        "image": options.image,
        "namespace": options.namespace,
        "env": options.env,
        "secrets": [
            {"name": name, "valueFrom": {"secretKeyRef": {"name": "aai", "key": name}}} for name in options.secrets
        ],
        "resources": {"requests": limits, "limits": limits},
        "volumes": [{"name": name, **claim} for name, claim in claims.items()],
        "volume_mounts": [{"name": name, "mountPath": path} for name, path in paths.items()],
    }


def _limits(options: SubmitOptions) -> dict[str, str]:
    limits = {"cpu": str(options.cpus), "memory": f"{options.memory_gib}Gi"}
    return limits | {"nvidia.com/gpu": str(options.gpus)} if options.gpus else limits
