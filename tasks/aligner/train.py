"""The training of an aligner in this process, or by Ray Train in several."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from aai.align.pair_vectors import PairVectors
from aai.align.train_options import TrainAlignerOptions
from aai.identity import content_id
from tasks.aligner.tower import TowerJob

if TYPE_CHECKING:
    from aai.align.training import Setup, Trained, Watch


@dataclass(frozen=True)
class Job:
    """A training: pairs in a folder, options, and where its checkpoint and result are."""

    pairs: Path
    options: TrainAlignerOptions
    digest: str
    """Of the pairs."""
    checkpoint: Path
    seed: int = 0
    num_workers: int = 1
    address: str | None = None
    """Ray cluster, for several workers."""
    tower: TowerJob | None = None
    """The last blocks of the audio encoder, if they are trained, too."""

    @property
    def name(self) -> str:
        """A digest of all that the result depends on."""
        return content_id(f"{self.digest} {self.seed} {json.dumps(self.options.settings(), sort_keys=True)}".encode())


def run_training(job: Job, watch: "Watch", stop: Event) -> "Trained":
    """Train, from the last checkpoint on; a stopped training has saved one.

    Raises:
        BadConfig: the pairs or options cannot be used, or the cluster has no room for the workers.
        Transient: Ray failed.
    """
    if job.num_workers == 1:
        from aai.align.training import train

        return train(PairVectors.open(job.pairs), setup_of(job, stop.is_set), watch)
    from tasks.aligner.ray_train import train_on_ray

    return train_on_ray(job, watch, stop)


def smaller_batch(job: Job, num_pairs: int) -> list[str]:
    """A sentence where the workers' equal shares make a batch smaller than it is with one worker."""
    of_one, batch = job.options.batch_of(num_pairs), job.options.batch_of(num_pairs, job.num_workers)
    if batch == of_one:
        return []
    return [
        f"a batch has {batch:,} pairs, and not {of_one:,} as with one worker, so that {job.num_workers} workers have "
        "equal shares: the result is another one than with one worker"
    ]


def setup_of(job: Job, stop: Callable[[], bool], **ranks: Any) -> "Setup":
    """How to train in this process.

    Raises:
        BadConfig: the audio encoder is to be trained, and cannot be loaded.
    """
    from aai.align.ranks import Ranks
    from aai.align.training import Setup
    from aai.models.device import best_device

    tower = job.tower.open() if job.tower else None
    return Setup(job.options, job.name, job.checkpoint, best_device(), job.seed, Ranks(**ranks), stop, tower)
