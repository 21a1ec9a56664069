"""What every table holds: a line per column, with a sentence that readers of the Delta table see as its comment.

Rows are append-only and belong to a recipe, the partition column. Paths are relative to the workspace, so that it can
be moved or copied as a whole.
"""

from dataclasses import dataclass

import pyarrow as pa

RECIPE = "recipe"
SHARD = "shard"

_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_FLOAT, _FLOATS = pa.float32(), pa.list_(pa.float32())
_SECONDS = pa.float64()
_INT, _LONG = pa.int32(), pa.int64()


@dataclass(frozen=True)
class Schema:
    """The columns of a table's rows, and which of them name a row within its recipe: the item's id comes first."""

    key: tuple[str, ...]
    columns: pa.Schema

    @property
    def id(self) -> str:
        """The column with the id of the item that the row is about."""
        return self.key[0]

    @property
    def stored(self) -> pa.Schema:
        """The columns as they are read: the recipe comes last."""
        return self.columns.append(_column(RECIPE, _TEXT, "The computation that made the row."))


def _column(name: str, kind: pa.DataType, sentence: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"comment": sentence})


def _optional(name: str, kind: pa.DataType, sentence: str) -> pa.Field:
    return _column(name, kind, sentence).with_nullable(True)


def _schema(key: str, *columns: pa.Field) -> Schema:
    return Schema(tuple(key.split()), pa.schema(columns))


_CLIP = _column("clip_id", _TEXT, "The clip: digest of the audio file's bytes and the window.")
_IMAGE = _column("image_id", _TEXT, "The image: digest of its file's bytes.")
_RENDER = _column("render_id", _TEXT, "The picture: digest of all that was asked for.")
_URI = _column("uri", _TEXT, "The file it was read from.")
_SEED = _column("seed", _LONG, "The seed of its random numbers.")
_WIDTH, _HEIGHT = _column("width", _INT, "Pixels across."), _column("height", _INT, "Pixels down.")
_STORED = (
    _URI,
    _optional("offset", _LONG, "Where in that file its bytes begin, for a member of a tar; none for the whole file."),
    _optional("num_bytes", _LONG, "How many bytes of it there are; none for the whole file."),
)
_DESCRIBED = (
    _optional("label", _TEXT, "What is heard or seen, as one class name."),
    _optional("caption", _TEXT, "What is heard or seen, as a sentence."),
    _optional("licence", _TEXT, "The licence it came with."),
    _optional("attributes", _TEXT, "What else its sidecar says, as a JSON object."),
)
_ENCODER = (
    _column("model", _TEXT, "The encoder's name."),
    _column("revision", _TEXT, "The encoder's revision."),
)
_DIFFUSION = (
    _column("base_model", _TEXT, "The diffusion model's name."),
    _column("base_revision", _TEXT, "The diffusion model's revision."),
)

SCHEMAS = {
    "recipes": _schema(
        "stage",
        _column("stage", _TEXT, "The stage that the recipe is of."),
        _column("options", _TEXT, "Its options, as JSON."),
        _column("models", _TEXT, "The models it uses with their revisions, as JSON."),
        _column("upstream", _TEXT, "The tables and artifacts it reads, with the recipes of these, as JSON."),
        _column("code_version", _INT, "The version of its code."),
    ),
    "runs": _schema(
        "run_id",
        _column("run_id", _TEXT, "One run of one stage that had something to do."),
        _column("stage", _TEXT, "The stage."),
        _column("started_at", _TEXT, "When, as ISO 8601 in UTC."),
        _column("took_s", _FLOAT, "How long it took, workers' loading included."),
        _column("new", _LONG, "Items that have rows since."),
        _column("rejected", _LONG, "Items it rejected."),
        _column("stopped", pa.bool_(), "Whether it was told to stop before all was done."),
        _column("host", _TEXT, "The driver's machine."),
    ),
    "files": _schema(
        "file_id",
        _column("file_id", _TEXT, "The file as it was found: digest of address, size and time of change."),
        _URI,
        _column("num_bytes", _LONG, "Its size."),
        _column("num_items", _INT, "How many clips or images it gave."),
    ),
    "clips": _schema(
        "clip_id",
        _CLIP,
        *_STORED,
        _column("start_s", _SECONDS, "Where in the file the clip starts."),
        _column("duration_s", _SECONDS, "How long it is."),
        _column("rate_hz", _INT, "The file's sample rate."),
        _column("channels", _INT, "The file's number of channels."),
        _column("level_dbfs", _FLOAT, "Its loudness: RMS below full scale."),
        *_DESCRIBED,
    ),
    "images": _schema(
        "image_id",
        _IMAGE,
        *_STORED,
        _WIDTH,
        _HEIGHT,
        _column("format", _TEXT, "The file's format, as JPEG."),
        *_DESCRIBED,
    ),
    "audio_vectors": _schema("clip_id", _CLIP, _column("vector", _FLOATS, "The clip's audio embedding."), *_ENCODER),
    "image_vectors": _schema(
        "image_id",
        _IMAGE,
        _column("number", _LONG, "The image's id as the index knows it, from 0 to 2**63 - 1."),
        _column("vector", _FLOATS, "The image's embedding."),
        *_ENCODER,
    ),
    "aligned_vectors": _schema(
        "clip_id", _CLIP, _column("vector", _FLOATS, "The clip's embedding in the image encoder's space.")
    ),
    "neighbours": _schema(
        "clip_id",
        _CLIP,
        _column("image_ids", _TEXTS, "The images nearest to the clip, nearest first."),
        _column("similarities", _FLOATS, "Their cosines with the clip, in the same order."),
        _column("index_version", _LONG, "The version of the index that was asked; it rises as images are added."),
    ),
    "cues": _schema(
        "clip_id",
        _CLIP,
        _column("vector", _FLOATS, "The AudioCue: its rows one after another, num_tokens x dim numbers."),
        _column("num_tokens", _INT, "How many rows it has."),
        _column("dim", _INT, "How long a row is."),
        _column("method", _TEXT, "How it was made: adapter, mapper, inversion or text, as `fit.method` says."),
        _optional("loss_before", _FLOAT, "The denoising loss of the cue it started from."),
        _optional("loss_after", _FLOAT, "The denoising loss of the cue."),
        _optional("loss_curve", _FLOATS, "The losses in between."),
        _column("steps", _INT, "How many optimiser steps it took."),
        _optional("stop_reason", _TEXT, "Why it took no more."),
        _column("took_s", _FLOAT, "Its share of the time of the slice it was fitted in."),
        _SEED,
        *_DIFFUSION,
        _column("image_ids", _TEXTS, "The images it was fitted to."),
    ),
    "renders": _schema(
        "render_id",
        _RENDER,
        _column("job", _TEXT, "The line of the job file that asked for it."),
        _optional("mode", _TEXT, "generate, edit or stylise; none where a version wrote it that only generated."),
        _column("clip_ids", _TEXTS, "The clips whose cues stand in the prompt, in order; of a blend both ends."),
        _optional(
            "blend", pa.float64(), "How far it is from one end of a blend to the other, 0 to 1; none without one."
        ),
        _optional("image_id", _TEXT, "The photo that was edited or stylised: digest of its file's bytes."),
        _optional("image_uri", _TEXT, "The file it was read from."),
        _optional("source_prompt", _TEXT, "What it was edited or stylised from; none if it was generated alone."),
        _optional("edit", _TEXT, "How it takes after its source, as JSON."),
        _column("prompt", _TEXT, "The prompt, with * where the cues stand."),
        _column("negative_prompt", _TEXT, "What the picture is led away from; empty for nothing."),
        _SEED,
        _column("steps", _INT, "How many denoising steps it took."),
        _column("guidance", _FLOAT, "The scale of classifier-free guidance."),
        _column("scheduler", _TEXT, "The sampler's name."),
        _WIDTH,
        _HEIGHT,
        *_DIFFUSION,
        _column(SHARD, _TEXT, "The tar file that holds it, as a path in the workspace."),
        _column("key", _TEXT, "Its name in there, without an ending."),
        _column("format", _TEXT, "Its file's format, which is the ending: jpg, png or webp."),
        _column("offset", _LONG, "Where in the shard its file's bytes begin."),
        _column("num_bytes", _LONG, "How many bytes its file has."),
        _column("checksum", _TEXT, "The digest of its file's bytes there."),
    ),
    "scores": _schema(
        "render_id metric",
        _RENDER,
        _column("metric", _TEXT, "What was measured."),
        _column("value", pa.float64(), "What came out."),
    ),
    "rejects": _schema(
        "id stage",
        _column("stage", _TEXT, "The stage that could not use the item."),
        _column("id", _TEXT, "The item's id, as in the table the stage would have written to."),
        _optional("uri", _TEXT, "The file it was read from."),
        _column("error", _TEXT, "The class of the error."),
        _column("sentence", _TEXT, "What is wrong with it."),
    ),
}
