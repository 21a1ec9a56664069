"""A whole training of an aligner from pairs: vectors, training, and the files that it writes."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION
from aai.errors import BadConfig
from tasks.aligner.card import LICENCES
from tasks.aligner.config import ALIGNER, AUDIO, CHECKPOINT, VECTORS, TrainingConfig
from tasks.aligner.inputs import INPUTS, write_inputs
from tasks.aligner.licences import licences_of
from tasks.aligner.pairs import Pairs, pairs_of
from tasks.aligner.result import Result, finished, publish
from tasks.aligner.reuse import reuse_vectors
from tasks.aligner.tower import TowerJob
from tasks.aligner.train import Job, run_training, smaller_batch
from tasks.aligner.unpaired import refused
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run

if TYPE_CHECKING:
    from aai.align.checkpoints import Progress
    from aai.align.training import Watch

UNTIL = ("embed_images", "embed_audio")
"""The stages whose tables a training reads; those before them run, too."""


@dataclass(frozen=True)
class Outcome:
    """What a training did."""

    folder: Path
    """Of the aligner."""
    counts: dict[str, int]
    """Pairs by what they are for."""
    notes: list[str]
    is_new: bool
    """False if the aligner was there."""
    is_finished: bool = True
    encoder: Path | None = None
    """Folder of the audio encoder that is trained with it, if one is."""


def embed(
    run: Run, do: Callable[[str, Callable[[Run], StageSummary], Run], StageSummary], bank: Run | None = None
) -> list[StageSummary]:
    """Run the stages up to the vectors, and take those that a bank has from there; a second call does nothing.

    Raises:
        BadConfig: a stage cannot start, or rejected too much.
        Transient: the store failed, or a slice failed too often.
    """
    last = max(number for number, stage in enumerate(run.stages) if stage.name in UNTIL)
    done = []
    for stage in run.stages[: last + 1]:
        if stage.is_needed(run.config):
            if bank and stage.name in UNTIL:
                reuse_vectors(run, bank, stage)
            try:
                done.append(do(stage.name, lambda run, stage=stage: run.do(stage), run))  # type: ignore[misc]
            except BadConfig as error:
                raise refused(run, stage.name, error) from error
            if done[-1].stopped:
                break
    return done


def gather(run: Run, training: TrainingConfig, before: Sequence[str] = ()) -> Pairs:
    """The pairs of a training, with their vectors.

    Args:
        run: the workspace in which they are embedded.
        training: where they come from.
        before: sentences of `prepare`, for the page and the card.

    Raises:
        BadConfig: there are no pairs, or a file cannot be written.
        Transient: the store failed.
    """
    folder = Path(training.output) / VECTORS
    return replace(pairs_of(run, training.pairs, training.train, folder, training.seed), before=before)


def train_aligner(run: Run, training: TrainingConfig, pairs: Pairs, watch: "Watch", stop: Event) -> Outcome:
    """Train an aligner on pairs, unless it is there, and write it with its card and curves.

    Raises:
        BadConfig: the pairs or options cannot be used.
        Transient: Ray failed.
    """
    output, num_blocks = Path(training.output), training.train.tower_blocks
    encoder = output / AUDIO if num_blocks else None
    job, counts = _job(run, training, pairs), _counts(pairs)
    notes = [*pairs.notes, *smaller_batch(job, counts["training"])]
    outcome = Outcome(output / ALIGNER, counts, notes, True, encoder=encoder)
    if finished(output) == job.name:
        return replace(outcome, is_new=False)
    if num_blocks and not write_inputs(run, pairs.table["clip_id"], pairs.vectors, (job.pairs, num_blocks), stop):
        return replace(outcome, is_finished=False)
    trained = run_training(job, watch, stop)
    if not trained.is_finished:
        return replace(outcome, is_finished=False)
    result = Result(
        job.name, trained.progress, trained.steps, training.train.settings(), [*pairs.before, *notes], trained.tower
    )
    facts = {"pairs": outcome.counts, "passes over the training pairs": _passes(job, outcome.counts, trained.progress)}
    facts |= {"digest of the pairs": job.digest, LICENCES: licences_of(run, pairs)}
    publish(run, output, trained.projector, result, facts)
    job.checkpoint.unlink(missing_ok=True)
    return outcome


def _passes(job: Job, counts: Mapping[str, int], progress: "Progress") -> float:
    """How often each training pair was used; more than `train.epochs` where `train.min_steps` asks for more."""
    from aai.align.training import Plan

    plan = Plan.of(counts["training"], job.options, job.num_workers)
    return round(progress.step / plan.steps_per_epoch, 1)


def _job(run: Run, training: TrainingConfig, pairs: Pairs) -> Job:
    output, num_blocks = Path(training.output), training.train.tower_blocks
    vectors = output / VECTORS
    tower = TowerJob(run.config.models.audio, num_blocks, vectors / INPUTS) if num_blocks else None
    return Job(
        vectors,
        training.train,
        pairs.digest(),
        output / CHECKPOINT,
        training.seed,
        training.num_workers,
        run.config.pool.address,
        tower,
    )


def _counts(pairs: Pairs) -> dict[str, int]:
    names = {"training": TRAIN, "validation": VALIDATION, "held out": HELD_OUT}
    return {name: len(pairs.vectors.members(part)) for name, part in names.items()}


def prepare(training: TrainingConfig) -> list[str]:
    """Extract sounds and frames from videos, where the pairs are videos; sentences about what cannot be read.

    Raises:
        BadConfig: there are no videos, or the extra `av` is missing.
    """
    if not training.pairs.videos:
        return []
    from tasks.aligner.videos import extract_videos

    return extract_videos(training)
