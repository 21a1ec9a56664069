"""A whole training of an aligner from captions alone."""

from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

import numpy as np

from aai.align.pair_vectors import HELD_OUT, TRAIN, VALIDATION, PairVectors, PairWriter
from aai.align.train_options import TextOnlyOptions
from aai.errors import BadConfig
from aai.identity import content_id, seed_of
from tasks.aligner.config import ALIGNER, CHECKPOINT, VECTORS, TextTrainingConfig
from tasks.aligner.result import KEPT, RECALLS, Result, kept, publish
from tasks.aligner.train import Job, run_training
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run

if TYPE_CHECKING:
    from aai.align.projector import Projector
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
    is_new: bool = True
    """False if the aligner was there."""


@dataclass(frozen=True)
class Captions:
    """Captions with their vectors in both encoders' spaces."""

    texts: list[str]
    audio_side: np.ndarray
    image_side: np.ndarray
    sounds: np.ndarray | None
    """Vectors of the bank's sounds, if it has any."""
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


def embed_captions(run: Run, captions: list[str], options: TextOnlyOptions) -> Captions:
    """The vectors of captions in both spaces, and those of the bank's sounds, for their mean.

    Raises:
        BadConfig: a model cannot be loaded, or too few captions fit into the encoders.
    """
    from tasks.runtime.models import open_audio, open_image_text

    audio, image_text = open_audio(run.config), open_image_text(run.config)
    heard = {text: options.audio_prompt.replace("*", text) for text in captions}
    seen = {text: options.image_prompt.replace("*", text) for text in captions}
    fitting = [text for text in captions if not (audio.fault_of(heard[text]) or image_text.fault_of(seen[text]))]
    notes = []
    if len(fitting) < len(captions):
        notes.append(f"{len(captions) - len(fitting):,} captions are longer than an encoder reads, and are left out")
    if len(fitting) < MIN_CAPTIONS:
        raise BadConfig(f"{len(fitting)} captions fit into the encoders: shorten the others", key=_KEY)
    sounds = _bank_vectors(run, "audio_vectors")
    if sounds is None:
        notes.append("the bank has no vectors of sounds, so their mean is unknown: build it first for a better aligner")
    sides = (
        audio.embed_texts([heard[text] for text in fitting]).numpy(),
        image_text.embed_texts([seen[text] for text in fitting]).numpy(),
    )
    return Captions(fitting, *sides, sounds, notes)


def _bank_vectors(run: Run, table: str) -> np.ndarray | None:
    with run.query() as query:
        rows = query.table(f"SELECT vector FROM {table} ORDER BY clip_id LIMIT {_MAX_VECTORS}")
    return to_array(rows["vector"]) if rows.num_rows else None


def train_on_captions(
    run: Run, training: TextTrainingConfig, captions: list[str], output: Path, watch: "Watch", stop: Event
) -> TextOutcome:
    """Train projector and ridge regression on captions, and write the one that is better on held-out captions.

    A second call with the same captions, options and sounds does nothing.

    Raises:
        BadConfig: the captions or options cannot be used.
    """
    from aai.align.text_only import hear_sounds

    if training.train.tower_blocks:
        raise BadConfig("captions have no sounds to train the audio encoder on: set it to 0", key="train.tower_blocks")
    embedded = embed_captions(run, captions, training.text_only)
    pairs, digest = _written(embedded, training, output / VECTORS)
    options = training.train.model_copy(update={"noise": training.text_only.noise})
    job = Job(output / VECTORS, options, digest, output / CHECKPOINT, training.seed)
    num, name = len(pairs.members(HELD_OUT)), _name_of(job, training, embedded)
    if (known := kept(output, name)) is not None:
        return TextOutcome(output / ALIGNER, *known, num, embedded.notes, is_new=False)
    trained = run_training(job, watch, stop)
    if not trained.is_finished:
        return TextOutcome(output / ALIGNER, "", {}, num, embedded.notes, is_finished=False)
    chosen, scores, projector = _better(embedded, pairs, trained.projector, training)
    if embedded.sounds is not None:
        projector = hear_sounds(projector, embedded.audio_side[pairs.members(TRAIN)], embedded.sounds)
    settings = options.settings() | training.text_only.settings()
    result = Result(name, trained.progress, trained.steps, settings, embedded.notes)
    facts = {"captions": len(embedded.texts), KEPT: chosen, RECALLS: scores}
    publish(run, output, projector, result, facts)
    job.checkpoint.unlink(missing_ok=True)
    return TextOutcome(output / ALIGNER, chosen, scores, num, embedded.notes)


def _name_of(job: Job, training: TextTrainingConfig, embedded: Captions) -> str:
    """A digest of all that the result depends on."""
    sounds = b"" if embedded.sounds is None else embedded.sounds.tobytes()
    return content_id(f"{job.name} {training.text_only.model_dump_json()} {content_id(sounds)}".encode())


def _better(
    embedded: Captions, pairs: PairVectors, projector: "Projector", training: TextTrainingConfig
) -> tuple[str, dict[str, float], "Projector"]:
    """The better of projector and ridge regression on held-out captions, with the recall of both."""
    from aai.align.text_only import judge, ridge_projector

    options, inputs, targets = training.text_only, embedded.audio_side, embedded.image_side
    own, judged, held_out = (pairs.members(part) for part in (TRAIN, VALIDATION, HELD_OUT))
    judged = judged if len(judged) else own

    def scored(model: "Projector", rows: np.ndarray) -> tuple[float, float]:
        return judge(model, inputs[rows], targets[rows], options.noise, np.random.default_rng(training.seed))

    ridges = [ridge_projector(inputs[own], targets[own], penalty) for penalty in options.ridge]
    ridge = max(ridges, key=lambda model: scored(model, judged)[1])
    candidates = {"projector": projector, "ridge regression": ridge}
    scores = {name: scored(model, held_out) for name, model in candidates.items()}
    chosen = max(scores, key=lambda name: scores[name])
    return chosen, {name: score[0] for name, score in scores.items()}, candidates[chosen]


def _written(embedded: Captions, training: TextTrainingConfig, folder: Path) -> tuple[PairVectors, str]:
    num, targets = len(embedded.texts), embedded.image_side
    dims = {"audio": embedded.audio_side.shape[1], "image": targets.shape[1]}
    writer = PairWriter(folder, num, dims)
    writer.arrays["audio"][:], writer.arrays["image"][:] = embedded.audio_side, targets
    _, first, same = np.unique(targets.round(4), axis=0, return_index=True, return_inverse=True)
    names = [embedded.texts[first[group]] for group in same.ravel()]  # captions that are seen alike are on one side
    drawn = np.array([seed_of(training.seed, "align", content_id(t.encode()), "part") / 2**63 for t in names])
    share = training.text_only.held_out
    parts = np.select([drawn < share, drawn < 1.5 * share], [HELD_OUT, VALIDATION], TRAIN)
    parts[drawn == drawn.min()] = HELD_OUT  # there is one at least
    numbers = np.arange(num)
    digest = content_id(embedded.audio_side.tobytes() + targets.tobytes() + parts.tobytes())
    return writer.finish(np.stack([numbers, same.ravel(), np.full(num, -1), parts], axis=1), digest), digest
