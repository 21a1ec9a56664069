"""Confidence: how sure the encoders are of each clip, measured with altered copies of its sound."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Literal

import numpy as np
import pyarrow as pa
from pydantic import Field

from aai.align.confidence import ImageSpace, confidence_of
from aai.media import audio, windows
from aai.media.altered import altered
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.options import SPEED_ONLY, Options
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.config import Config
from tasks.runtime.indexes import open_index
from tasks.runtime.loader import Loader, RecentResults, Row, default_threads
from tasks.runtime.models import open_sounds, sound_role
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Batched, Outcome, Reject, Worker

_ROWS = """
    SELECT n.clip_id, n.image_ids, v.vector, c.content_id, c.uri, c."offset", c.num_bytes, c.start_s, c.duration_s
    FROM neighbours n JOIN aligned_vectors v ON n.clip_id = v.clip_id
    JOIN present_clips c ON n.clip_id = c.clip_id
"""


class ConfidenceOptions(Options):
    """How sure the encoders are of a clip."""

    method: Literal["copies", "none"] = "copies"
    """`copies`: altered copies of a clip are encoded and compared with it, which takes about six times as long as
    embedding it. `none`: clips have no confidence."""

    num_images: int = Field(1024, ge=1)
    """Number of images of the bank whose differences count when vectors are compared: a random sample."""

    batch_size: int = Field(32, gt=0, json_schema_extra=SPEED_ONLY)
    """Batch size in copies; halved after an out-of-memory error. It changes the speed, not the confidence."""


class ConfidenceWorker(Batched):
    """Encoder and aligner, and the subspace in which the bank's images differ.

    Args:
        context: the run's.
        align: makes the aligner.

    Raises:
        BadConfig: a model cannot be loaded.
    """

    def __init__(self, context: Context, align: Callable[[Context], Worker]) -> None:
        options = context.options(ConfidenceOptions)
        self.encoder, self.align = open_sounds(context.config), align(context)
        self.images, _ = open_index(context, self)
        self.audio, self.batch_size = context.options(IngestOptions).audio, options.batch_size
        sample = self.images.sample(options.num_images)
        self.space, self.num_images = ImageSpace.of(sample), len(sample)
        self._decoded = RecentResults(self._decode, default_threads())

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice; a recording that holds several of its clips is decoded once."""
        rows = rows.sort_by([("content_id", "ascending"), ("start_s", "ascending")])
        rejects: list[Reject] = []
        loader = Loader(self._load, lambda row, error: rejects.append(Reject.of(row["clip_id"], error, row["uri"])))
        measured = []
        for batch in loader.batches(rows.to_pylist(), self.batch_size):
            copies = self._aligned([waves for _, waves in batch])
            measured += [self._measured(row, own) for (row, _), own in zip(batch, copies, strict=True)]
        return Outcome(pa.Table.from_pylist(measured, schema=SCHEMAS["confidences"].columns), rejects)

    def _measured(self, row: Row, copies: np.ndarray) -> dict[str, object]:
        ids = [
            id for id, is_there in zip(row["image_ids"], self.images.holds(row["image_ids"]), strict=True) if is_there
        ]
        vector = np.array(row["vector"], np.float32)
        found = confidence_of(vector, copies, self.images.vectors_by_id(ids), self.space)
        return {"clip_id": row["clip_id"], **found._asdict(), "num_others": self.num_images}

    def _aligned(self, waves: Sequence[list[np.ndarray]]) -> Iterator[np.ndarray]:
        """The aligned vectors of each clip's copies."""
        from aai.models.batches import embed_all  # plans do not need torch

        flat = [wave for copies in waves for wave in copies]
        vectors = embed_all(flat, self.encoder.embed_prepared, self.encoder.dim, self.batch_size).numpy()
        ids = [str(number) for number in range(len(flat))]
        outcome = self.align(pa.table({"clip_id": ids, "vector": to_lists(vectors)}))
        assert outcome.rows is not None, "align rejects nothing"
        ends = np.cumsum([len(copies) for copies in waves])[:-1]
        yield from np.split(to_array(outcome.rows["vector"]), ends)

    def _load(self, row: Row) -> list[np.ndarray]:
        """A clip's copies as the encoder takes them."""
        wave, rate_hz = self._decoded(row["uri"], row["offset"], row["num_bytes"], row["content_id"])
        window = windows.cut(wave, rate_hz, windows.Window(row["start_s"], row["duration_s"]))
        return [self.encoder.prepare(copy, rate_hz) for copy in altered(np.ascontiguousarray(window), rate_hz)]

    def _decode(self, uri: str, offset: int | None, num_bytes: int | None, digest: str) -> tuple[np.ndarray, int]:
        recording = audio.decode(read_content(uri, offset, num_bytes, digest), uri, self.audio)
        return audio.to_mono(recording.samples), recording.rate_hz


def confidence_stage(align: Callable[[Context], Worker]) -> Stage:
    """The stage, with the aligner of the stage that makes aligned vectors."""
    return Stage(
        name="confidence",
        table="confidences",
        reads=("neighbours", "aligned_vectors", "index"),
        rows=_ROWS,
        items="SELECT clip_id FROM neighbours n SEMI JOIN present_audio_ids p ON n.clip_id = p.id",
        options=ConfidenceOptions,
        models=lambda config: (sound_role(config),),
        worker=partial(ConfidenceWorker, align=align),
        is_needed=_is_needed,
        gpu=True,
        code_version=4,
    )


def _is_needed(config: Config) -> bool:
    return config.options(ConfidenceOptions).method != "none"
