"""Options of the workers and of the driver."""

import re
from typing import Annotated

from pydantic import AfterValidator, Field, field_validator, model_validator

from aai.options import Options


def _like(pattern: str, words: str) -> AfterValidator:
    """Text that matches a pattern; `words` says what that is."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"{value!r} has to be {words}")
        return value

    return AfterValidator(check)


_Word = Annotated[
    str, _like(r"[A-Za-z0-9][A-Za-z0-9._/:@,+-]*", "one word of letters, digits and . _ / : @ , + -, such as gpu-long")
]
_Path = Annotated[str, _like(r"(/[A-Za-z0-9._-]+)+/?", "an absolute path of letters, digits and . _ -, such as /data")]
_Name = Annotated[
    str,
    _like(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", "a name of Kubernetes: up to 63 small letters, digits and hyphens"),
]
_Variable = Annotated[str, _like(r"[A-Za-z_][A-Za-z0-9_]*", "a name of letters, digits and _, such as HF_HOME")]
_SECRET = re.compile(r"(?i)(secret|token|password|passwd|credential|_key$|_key_id$|apikey)")


_TAKEN = ("/dev/shm", "/etc/aai")
"""Where pods have Ray's object store and the configuration."""


class PoolOptions(Options):
    """Workers: how many, with which resources, and how failures are handled."""

    address: str | None = None
    """Ray cluster: `host:port`, `auto` for one that runs on this machine, `local` for a new one. By default the
    environment variable RAY_ADDRESS, and without it `local`."""

    num_workers: int | None = Field(None, ge=0)
    """Maximum number of workers. By default as many as the cluster has room for; 0 runs everything in this process,
    without Ray."""

    cpus_per_worker: float | None = Field(None, gt=0)
    """CPUs reserved for a worker, which are also its threads. By default 1; for a worker with a GPU its share of the
    node's CPUs."""

    gpus_per_worker: float | None = Field(None, ge=0)
    """GPUs reserved for a worker; a fraction lets several share one. By default 1 for stages that run a model on a
    cluster with GPUs, else 0."""

    slice_size: int = Field(256, gt=0)
    """Items per slice, the unit of work of a worker; at most two slices are lost when a worker dies. By default it
    depends on the stage; slices are smaller if there would be fewer of them than workers."""

    deadline_s: float | None = Field(None, gt=0)
    """Maximum time for a slice in seconds; then its worker is killed and the slice is split. Needs Ray."""

    start_s: float = Field(900, gt=0)
    """Maximum time until the first worker is ready, in seconds; then the run gives up. Raise it on a busy cluster."""

    grace_s: float = Field(10, ge=0)
    """Maximum time in seconds that slices in flight may continue after Ctrl-C or SIGTERM."""

    max_attempts: int = Field(5, gt=0)
    """Attempts per slice when failures are transient (store, network, a lost node)."""

    backoff_s: float = Field(1, ge=0)
    """Pause before the second attempt in seconds; it doubles with each further attempt."""

    @field_validator("gpus_per_worker")
    @classmethod
    def _is_a_share_or_whole(cls, value: float | None) -> float | None:
        if value is not None and value > 1 and not value.is_integer():
            raise ValueError(f"{value:g} is more than one GPU, and no whole number: use 1, 2 and so on, or less than 1")
        return value


class RunOptions(Options):
    """Commits, rejects and limits."""

    max_reject_fraction: float = Field(0.5, ge=0, le=1)
    """A stage stops when more than this fraction of all its items is rejected, earlier runs included."""

    retry_rejects: bool = False
    """Try items again that were rejected before."""

    commit_slices: int = Field(32, gt=0)
    """Finished slices per commit; more in a run of more than 10,000 slices."""

    commit_s: float = Field(2, gt=0)
    """Maximum time that a finished slice waits for its commit, in seconds; more in a run of over two minutes."""

    filter_s: int = Field(60, gt=0)
    """Maximum processor time of a cue filter in SQL, in seconds."""

    max_pictures: int = Field(100_000_000, gt=0)
    """Maximum number of pictures of one job file; more are a mistake in most cases."""


class SubmitOptions(Options):
    """Jobs on clusters: what `aai submit` asks for."""

    nodes: int = Field(1, gt=0, le=100_000)
    """Nodes (machines) of a job; for KubeRay the maximum number of worker pods, which start at 0."""

    tasks: int = Field(4, gt=0)
    """For `slurm-array`: number of independent drivers, which share the items."""

    cpus: int = Field(8, gt=0)
    """CPU cores per node."""

    gpus: int = Field(1, ge=0)
    """GPUs per node."""

    memory_gib: int = Field(32, gt=0)
    """Memory per node in GiB."""

    head_memory_gib: int = Field(8, gt=0)
    """For KubeRay: memory of the head pod, in which the driver works: 2 GiB for a million clips, and Ray."""

    accelerator: _Word | None = None
    """Type of the GPUs: H100, L4 and so on for SkyPilot, the type of a generic resource for Slurm."""

    hours: float = Field(24, ge=0.01, le=100_000)
    """Time limit of a job in hours. A job that reaches it is queued again and goes on where it was (Slurm)."""

    grace_s: int = Field(120, ge=30)
    """For Slurm: seconds before the time limit at which a job is asked to stop."""

    partition: _Word | None = None
    """Slurm partition."""

    account: _Word | None = None
    """Slurm account."""

    address: str = "http://127.0.0.1:8265"
    """For `ray`: address of the cluster's dashboard, which takes jobs."""

    image: _Word | None = None
    """Container image with AAI, for KubeRay and SkyPilot; infra/docker builds one."""

    namespace: _Name = "default"
    """Kubernetes namespace."""

    schedule: str | None = None
    """For KubeRay: submit a RayCronJob with this cron schedule in UTC, such as "0 2 * * *"."""

    infra: _Word | None = None
    """For SkyPilot: cloud, Kubernetes context or Slurm cluster, such as aws/us-east-1; by default the cheapest."""

    spot: bool = False
    """For SkyPilot: spot instances, which cost less and may be taken away; the job goes on elsewhere."""

    shared_disk: bool = False
    """Whether all nodes see the folders of the configuration under the same paths. Without it only bucket URLs, and
    network file systems that are recognised, are accepted where several nodes work together."""

    volumes: dict[_Name, _Path] = {}
    """For KubeRay: names of persistent volume claims and the paths at which they are mounted."""

    env: dict[_Variable, str] = {}
    """Environment variables of the job. They are stored readable by the target: no passwords and tokens."""

    secrets: tuple[_Variable, ...] = ()
    """Names of environment variables with passwords and tokens. Slurm and SkyPilot take their values from the shell
    that submits, KubeRay from the keys of the Kubernetes secret `aai`."""

    setup: str = ""
    """Shell commands before AAI starts, such as `module load cuda`. By default the Python environment of the submitting
    `aai` is used (Slurm)."""

    @field_validator("volumes")
    @classmethod
    def _is_free(cls, volumes: dict[str, str]) -> dict[str, str]:
        for name in ("shared-memory", "configuration"):
            if name in volumes:
                raise ValueError(f"{name} is a volume that AAI makes: name the claim differently")
        paths = [path.rstrip("/") for path in volumes.values()]
        for path in paths:
            if ".." in path.split("/") or paths.count(path) > 1 or path in _TAKEN:
                raise ValueError(f"{path} cannot be mounted: it is taken, or has parts `..`: name another path")
        return volumes

    @field_validator("env")
    @classmethod
    def _has_no_secrets(cls, env: dict[str, str]) -> dict[str, str]:
        for name in env:
            if _SECRET.search(name):
                raise ValueError(f"{name} looks like a secret: name it under submit.secrets, without its value")
        return env

    @model_validator(mode="after")
    def _are_apart(self) -> "SubmitOptions":
        names = [*self.env, *self.secrets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: given more than once in env and secrets: keep one of them")
        return self
