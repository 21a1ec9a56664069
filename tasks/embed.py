"""Embed: the frozen encoders hear clips and see images."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from aai.errors import BadItem
from aai.identity import int64_of
from aai.media import audio, images
from aai.media.files import read_bytes
from aai.models.device import best_device, dtype_on
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import constants, to_lists
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.tables import TableSource
from tasks.runtime.work import Batched, Outcome, Reject

_WHERE = ("uri", "offset", "num_bytes")


def embed_audio(run: Run) -> StageSummary:
    """Make a vector of every clip that has none of this recipe."""
    columns = ("clip_id", *_WHERE, "start_s", "duration_s")
    source = TableSource(run.workspace, "clips", run.recipe("clips"), columns)
    return run.drive("audio_vectors", source, partial(AudioEmbedder, run.config, run.pinned("audio")))


def embed_images(run: Run) -> StageSummary:
    """Make a vector of every image that has none of this recipe."""
    source = TableSource(run.workspace, "images", run.recipe("images"), ("image_id", *_WHERE))
    return run.drive("image_vectors", source, partial(ImageEmbedder, run.config, run.pinned("image_text")))


class AudioEmbedder(Batched):
    """The audio encoder, loaded once per worker: clips in, vectors out."""

    def __init__(self, config: Config, pinned: tuple[str, str]) -> None:
        from aai.models.clap import AudioEncoder

        device, model = best_device(), config.models.audio
        self.encoder = AudioEncoder(model.name, model.revision, device, dtype_on(device, config.models.dtype))
        self.options, self.pinned, self.batch_size = config.ingest.audio, pinned, config.embed.batch_size

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice; a file that holds several of its clips is decoded once."""
        waves: dict[str, np.ndarray] = {}
        rejects = []
        rows = rows.sort_by([("uri", "ascending"), ("offset", "ascending"), ("start_s", "ascending")])
        decoded = _Last(self._decode)
        for row in rows.to_pylist():
            try:
                waves[row["clip_id"]] = self._cut(row, decoded)
            except BadItem as error:
                rejects.append(Reject.of(row["clip_id"], error, row["uri"]))
        vectors = self.encoder.embed_clips(list(waves.values()), self.encoder.rate_hz, self.batch_size).numpy()
        return Outcome(_vector_rows("audio_vectors", list(waves), vectors, self.pinned), rejects)

    def _decode(self, uri: str, offset: int | None, num_bytes: int | None) -> tuple[np.ndarray, int]:
        recording = audio.decode(read_bytes(uri, offset, num_bytes), uri, self.options)
        return audio.to_mono(recording.samples), recording.rate_hz

    def _cut(self, row: dict, decoded: "_Last") -> np.ndarray:
        wave, rate_hz = decoded(row["uri"], row["offset"], row["num_bytes"])
        part = audio.cut(wave, rate_hz, audio.Window(row["start_s"], row["duration_s"]))
        return audio.resample(np.ascontiguousarray(part), rate_hz, self.encoder.rate_hz)


class ImageEmbedder(Batched):
    """The image-text encoder, loaded once per worker: images in, vectors out."""

    def __init__(self, config: Config, pinned: tuple[str, str]) -> None:
        from aai.models.clip import ImageTextEncoder

        device, model = best_device(), config.models.image_text
        self.encoder = ImageTextEncoder(model.name, model.revision, device, dtype_on(device, config.models.dtype))
        self.options, self.pinned, self.batch_size = config.ingest.images, pinned, config.embed.batch_size

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice, a batch of decoded images at a time."""
        ids: list[str] = []
        parts, rejects = [np.empty((0, self.encoder.dim), np.float32)], []
        for batch in _batches(rows.to_pylist(), self.batch_size):
            pixels = {}
            for row in batch:
                try:
                    data = read_bytes(row["uri"], row["offset"], row["num_bytes"])
                    pixels[row["image_id"]] = images.decode(data, row["uri"], self.options).pixels
                except BadItem as error:
                    rejects.append(Reject.of(row["image_id"], error, row["uri"]))
            ids += pixels
            parts.append(self.encoder.embed_images(list(pixels.values()), self.batch_size).numpy())
        return Outcome(_vector_rows("image_vectors", ids, np.concatenate(parts), self.pinned), rejects)


class _Last:
    """Remembers the last result of a function: neighbouring rows ask for the same file."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._key: tuple | None = None
        self._value: Any = None

    def __call__(self, *key: Any) -> Any:
        if key != self._key:
            self._value, self._key = self._function(*key), key
        return self._value


def _batches(rows: list[dict], size: int) -> Iterator[list[dict]]:
    for first in range(0, len(rows), size):
        yield rows[first : first + size]


def _vector_rows(table: str, ids: list[str], vectors: np.ndarray, pinned: tuple[str, str]) -> pa.Table:
    schema = SCHEMAS[table]
    columns = {schema.id: ids, "vector": to_lists(vectors)}
    columns |= constants(len(ids), model=pinned[0], revision=pinned[1])
    if "number" in schema.columns.names:
        columns["number"] = [int64_of(item_id) for item_id in ids]
    return pa.table([pa.array(columns[c.name], c.type) if isinstance(columns[c.name], list) else columns[c.name]
                     for c in schema.columns], schema=schema.columns)  # fmt: skip
