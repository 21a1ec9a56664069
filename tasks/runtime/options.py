"""Options of the workers and of the driver."""

from pydantic import Field

from aai.options import Options


class PoolOptions(Options):
    """Workers: how many, with which resources, and how failures are handled."""

    address: str | None = None
    """Ray cluster: `host:port`, `auto` for one that runs on this machine, `local` for a new one. By default the
    environment variable RAY_ADDRESS, and without it `local`."""

    num_workers: int | None = Field(None, ge=0)
    """Maximum number of workers. By default as many as the cluster has room for; 0 runs everything in this process,
    without Ray."""

    cpus_per_worker: float = Field(1, gt=0)
    """CPUs reserved for a worker."""

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


class RunOptions(Options):
    """Commits and rejects."""

    max_reject_fraction: float = Field(0.5, ge=0, le=1)
    """A stage stops when more than this fraction of all its items is rejected, earlier runs included."""

    retry_rejects: bool = False
    """Try items again that were rejected before."""

    commit_slices: int = Field(32, gt=0)
    """Finished slices per commit; more in a run of more than 10,000 slices."""

    commit_s: float = Field(2, gt=0)
    """Maximum time that a finished slice waits for its commit, in seconds; more in a run of over two minutes."""
