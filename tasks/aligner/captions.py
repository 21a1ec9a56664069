"""A whole training of an aligner from captions alone."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION, PairVectors, PairWriter
from aai.errors import BadConfig, Transient
from aai.identity import content_id, seed_of
from tasks.aligner.config import ALIGNER, CHECKPOINT, VECTORS, TextTrainingConfig
from tasks.aligner.result import Result, publish
from tasks.aligner.train import Job, run_training
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run

if TYPE_CHECKING:
    from aai.align.projector import Projector
    from aai.align.text_only import Means
    from aai.align.training import Watch

MIN_CAPTIONS = 50
_MAX_VECTORS = 100_000
"""Sounds and images that means are measured on."""
_KEY = "--text-only"


@dataclass(frozen=True)
class TextOutcome:
    """What a training from captions did."""

    folder: Path
    chosen: str
    """`projector` or `ridge regression`."""
    recalls: dict[str, float]
    """R@1 on held-out captions, by candidate."""
    num_held_out: int
    notes: list[str]
    is_finished: bool = True


@dataclass(frozen=True)
class Captions:
    """Captions with their vectors in both encoders' spaces, and what shifts them."""

    texts: list[str]
    audio_side: np.ndarray
    image_side: np.ndarray
    means: "Means"
    notes: list[str]


def read_captions(path: Path) -> list[str]:
    """The distinct captions of a text file, one a line.

    Raises:
        BadConfig: it cannot be read, or has too few.
    """
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        sentence = f"it cannot be read ({type(error).__name__}): name a UTF-8 text file with a caption a line"
        raise BadConfig(sentence, key=_KEY, uri=str(path)) from error
    captions = list(dict.fromkeys(text for line in lines if (text := line.strip())))
    if len(captions) < MIN_CAPTIONS:
        sentence = f"it has {len(captions)} captions: write at least {MIN_CAPTIONS} different ones, one a line"
        raise BadConfig(sentence, key=_KEY, uri=str(path))
    return captions


def embed_captions(run: Run, captions: list[str]) -> Captions:
    """The vectors of captions in both spaces; the bank's sounds and images give the means if there are any.

    Raises:
        BadConfig: a model cannot be loaded, or too few captions fit into the encoders.
    """
    from aai.align.text_only import Means
    from tasks.runtime.models import open_audio, open_image_text

    audio, image_text = open_audio(run.config), open_image_text(run.config)
    fitting = [text for text in captions if not (audio.fault_of(text) or image_text.fault_of(text))]
    notes = []
    if len(fitting) < len(captions):
        notes.append(f"{len(captions) - len(fitting):,} captions are longer than an encoder reads, and are left out")
    if len(fitting) < MIN_CAPTIONS:
        raise BadConfig(f"{len(fitting)} captions fit into the encoders: shorten them", key=_KEY)
    sides = audio.embed_texts(fitting).numpy(), image_text.embed_texts(fitting).numpy()
    known = {name: _bank_vectors(run, f"{name}_vectors") for name in ("audio", "image")}
    for name, what in (("audio", "sounds"), ("image", "images")):
        if known[name] is None:
            notes.append(f"the bank has no vectors of {what}: their mean is taken to be that of the captions")
    return Captions(fitting, *sides, Means.of(*sides, known["audio"], known["image"]), notes)


def _bank_vectors(run: Run, table: str) -> np.ndarray | None:
    try:
        with run.query() as query:
            rows = query.table(f"SELECT vector FROM {table} LIMIT {_MAX_VECTORS}")
    except Transient:
        raise
    return to_array(rows["vector"]) if rows.num_rows else None


def train_on_captions(
    run: Run, training: TextTrainingConfig, captions: list[str], output: Path, watch: "Watch", stop: Event
) -> TextOutcome:
    """Train projector and ridge regression on captions, and write the one that is better on held-out captions.

    Raises:
        BadConfig: the captions or options cannot be used.
    """
    from aai.align.text_only import hear_sounds, mean_cosine, recall, shifted_targets

    embedded = embed_captions(run, captions)
    targets = shifted_targets(embedded.image_side, embedded.means)
    pairs, digest = _written(embedded, targets, training, output / VECTORS)
    options = training.train.model_copy(update={"noise": training.text_only.noise})
    job = Job(output / VECTORS, options, digest, output / CHECKPOINT, training.seed)
    trained = run_training(job, watch, stop)
    held_out = pairs.members(HELD_OUT)
    if not trained.is_finished:
        return TextOutcome(output / ALIGNER, "", {}, len(held_out), embedded.notes, is_finished=False)
    candidates: dict[str, Projector] = {"projector": trained.projector}
    candidates["ridge regression"] = _best_ridge(embedded.audio_side, targets, pairs, training.text_only.ridge)
    own, aims = embedded.audio_side[held_out], targets[held_out]
    scores = {name: (recall(model, own, aims), mean_cosine(model, own, aims)) for name, model in candidates.items()}
    chosen = max(scores, key=lambda name: scores[name])
    recalls = {name: score[0] for name, score in scores.items()}
    result = Result(job.name, trained.progress, trained.steps, options.settings(), embedded.notes)
    facts = {"captions": len(embedded.texts), "chosen": chosen, "recall on held-out captions": recalls}
    publish(run, output, hear_sounds(candidates[chosen], embedded.means), result, facts)
    job.checkpoint.unlink(missing_ok=True)
    return TextOutcome(output / ALIGNER, chosen, recalls, len(held_out), embedded.notes)


def _written(
    embedded: Captions, targets: np.ndarray, training: TextTrainingConfig, folder: Path
) -> tuple[PairVectors, str]:
    num = len(embedded.texts)
    dims = {"audio": embedded.audio_side.shape[1], "image": targets.shape[1]}
    writer = PairWriter(folder, num, dims)
    writer.arrays["audio"][:], writer.arrays["image"][:] = embedded.audio_side, targets
    drawn = np.array([seed_of(training.seed, "align", content_id(t.encode()), "part") / 2**63 for t in embedded.texts])
    share = training.text_only.held_out
    parts = np.select([drawn < share, drawn < 1.5 * share], [HELD_OUT, VALIDATION], TRAIN)
    _, same = np.unique(targets.round(4), axis=0, return_inverse=True)
    numbers = np.arange(num)
    digest = content_id(embedded.audio_side.tobytes() + targets.tobytes() + parts.tobytes())
    return writer.finish(np.stack([numbers, same.ravel(), np.full(num, -1), parts], axis=1), digest), digest


def _best_ridge(
    inputs: np.ndarray, targets: np.ndarray, pairs: PairVectors, penalties: tuple[float, ...]
) -> "Projector":
    """The ridge regression whose penalty is best on the validation captions."""
    from aai.align.text_only import mean_cosine, ridge_projector

    own, judged = pairs.members(TRAIN), pairs.members(VALIDATION)
    judged = judged if len(judged) else own
    fitted = [ridge_projector(inputs[own], targets[own], penalty) for penalty in penalties]
    return max(fitted, key=lambda model: mean_cosine(model, inputs[judged], targets[judged]))
