"""Embed: the frozen encoders turn clips and images into vectors."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from pydantic import Field

from aai.errors import BadConfig
from aai.media import images
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.options import SPEED_ONLY, Options
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import constants, to_lists
from tasks.runtime.clip_reader import ClipReader
from tasks.runtime.loader import Loader, Row
from tasks.runtime.models import image_role, open_images, open_sounds, sound_role
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Batched, Outcome, Reject

if TYPE_CHECKING:
    from aai.models.joint import ImageEncoder, SoundEncoder


class EmbedOptions(Options):
    """Embedding by the frozen encoders."""

    batch_size: int = Field(32, gt=0, json_schema_extra=SPEED_ONLY)
    """Batch size in clips or images; halved after an out-of-memory error. It changes the speed, not the vectors."""


class AudioEmbedder(Batched):
    """The model that hears, loaded once per worker.

    Raises:
        BadConfig: it cannot be loaded, or hears less than a clip.
    """

    def __init__(self, context: Context) -> None:
        self.encoder = open_sounds(context.config)
        self.options = context.options(IngestOptions).audio
        self.revision = context.revisions[sound_role(context.config)]
        check_window(self.options.window_s, self.encoder.duration_s)
        self.batch_size = context.options(EmbedOptions).batch_size
        self._load = ClipReader(self.encoder.prepare, self.options)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice; a recording that holds several of its clips is decoded once."""
        rows = rows.sort_by([("content_id", "ascending"), ("start_s", "ascending")])
        return _embedded("audio_vectors", self.encoder, self._load, rows, self.batch_size, self.revision)


def check_window(window_s: float, heard_s: float) -> None:
    """Check that the audio encoder hears whole clips.

    Raises:
        BadConfig: the end of a clip would be cut off.
    """
    if window_s > heard_s:
        raise BadConfig(
            f"a clip of {window_s:g} s is longer than the {heard_s:g} s that the audio encoder hears: set at most "
            f"{heard_s:g}, and a hop_s that is no longer",
            key="ingest.audio.window_s",
        )


class ImageEmbedder(Batched):
    """The model that sees, loaded once per worker."""

    def __init__(self, context: Context) -> None:
        self.encoder = open_images(context.config)
        self.options = context.options(IngestOptions).images
        self.revision = context.revisions[image_role(context.config)]
        self.batch_size = context.options(EmbedOptions).batch_size

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice, a batch of decoded images at a time."""
        return _embedded("image_vectors", self.encoder, self._load, rows, self.batch_size, self.revision)

    def _load(self, row: Row) -> np.ndarray:
        """An image as the encoder takes it."""
        data = read_content(row["uri"], row["offset"], row["num_bytes"], row["image_id"])
        return self.encoder.prepare(images.decode(data, row["uri"], self.options).pixels)


def _embedded(  # noqa: PLR0913
    table: str,
    encoder: "SoundEncoder | ImageEncoder",
    load: Callable[[Row], np.ndarray],
    rows: pa.Table,
    batch_size: int,
    revision: tuple[str, str],
) -> Outcome:
    """The vectors of a slice, which stay on the encoder's device until its end, so that nothing waits for it."""
    import torch  # plans do not need it

    rejects: list[Reject] = []
    ids: list[str] = []
    vectors = [torch.empty(0, encoder.dim)]
    key = SCHEMAS[table].id
    loader = Loader(load, lambda row, error: rejects.append(Reject.of(row[key], error, row["uri"])))
    for loaded, batch in loader.stacked(rows.to_pylist(), batch_size):
        ids += [row[key] for row in loaded]
        vectors.append(encoder.embed_prepared(batch))
    joined = torch.cat([some.cpu() for some in vectors]).numpy()
    return Outcome(_vector_rows(table, ids, joined, revision), rejects)


def _vector_rows(table: str, ids: list[str], vectors: np.ndarray, revision: tuple[str, str]) -> pa.Table:
    columns = constants(len(ids), model=revision[0], revision=revision[1])
    schema = SCHEMAS[table]
    return pa.table(columns | {schema.id: ids, "vector": to_lists(vectors)}, schema=schema.columns)


IMAGE_VECTORS = Stage(
    name="embed_images",
    table="image_vectors",
    reads=("images",),
    rows='SELECT image_id, uri, "offset", num_bytes FROM present_images',
    items="SELECT id AS image_id FROM present_image_ids",
    options=EmbedOptions,
    section="embed",
    models=lambda config: (image_role(config),),
    worker=ImageEmbedder,
    gpu=True,
)
AUDIO_VECTORS = Stage(
    name="embed_audio",
    table="audio_vectors",
    reads=("clips",),
    rows='SELECT clip_id, content_id, uri, "offset", num_bytes, start_s, duration_s FROM present_clips',
    items="SELECT id AS clip_id FROM present_audio_ids",
    options=EmbedOptions,
    section="embed",
    models=lambda config: (sound_role(config),),
    worker=AudioEmbedder,
    gpu=True,
)
