"""The schemas of all tables: each column with its type and a sentence, which becomes the comment of the Delta column.

Tables are append-only and partitioned by recipe. Paths of shards are relative to the workspace, so that it can be moved
or copied as a whole.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

RECIPE = "recipe"
SHARD = "shard"

_TEXT, _TEXTS = pa.string(), pa.list_(pa.string())
_FLOAT, _FLOATS = pa.float32(), pa.list_(pa.float32())
_SECONDS = pa.float64()
_INT, _LONG = pa.int32(), pa.int64()


@dataclass(frozen=True)
class Schema:
    """The columns of a table, and its key: the columns that identify a row within its recipe, the item's id first."""

    key: tuple[str, ...]
    columns: pa.Schema

    @property
    def id(self) -> str:
        """The column with the item's id."""
        return self.key[0]

    @property
    def stored(self) -> pa.Schema:
        """The columns as stored: those of rows, and the recipe."""
        return self.columns.append(_column(RECIPE, _TEXT, "The recipe: name of the computation that made the row."))

    def checked(self, table: str, rows: pa.Table) -> pa.Table:
        """Rows of a table with exactly these columns, in their order.

        Raises:
            ValueError: a column is missing, unknown, of another type, or has nulls where there must be none.
        """
        self.check_known(table, (name for name in rows.column_names if name not in self.columns.names))
        for column in self.columns:
            _check_column(f"{table}.{column.name}", rows, column)
        return rows.select(self.columns.names).cast(self.columns)

    def check_known(self, table: str, unknown: Iterable[str]) -> None:
        """Refuse the first of some names of unknown columns.

        Raises:
            ValueError: there is one.
        """
        for name in unknown:
            raise ValueError(f"there is no column {table}.{name}: choose from {', '.join(self.stored.names)}")


def _check_column(full_name: str, rows: pa.Table, column: pa.Field) -> None:
    if column.name not in rows.column_names:
        raise ValueError(f"{full_name} is missing: give it as {column.type}")
    values = rows[column.name]
    if values.type != column.type:
        raise ValueError(f"{full_name} is {values.type}: give it as {column.type}")
    has_null_elements = pa.types.is_list(column.type) and pc.list_flatten(values).null_count
    if has_null_elements or (values.null_count and not column.nullable):
        raise ValueError(f"{full_name} has nulls: give every row a {column.type} without nulls")


def _column(name: str, kind: pa.DataType, sentence: str) -> pa.Field:
    return pa.field(name, kind, nullable=False, metadata={"comment": sentence})


def _optional(name: str, kind: pa.DataType, sentence: str) -> pa.Field:
    return _column(name, kind, sentence).with_nullable(True)


def _schema(key: str, *columns: pa.Field) -> Schema:
    return Schema(tuple(key.split()), pa.schema(columns))


_CLIP = _column("clip_id", _TEXT, "The clip: digest of the audio file's bytes and the window.")
_IMAGE = _column("image_id", _TEXT, "The image: digest of its file's bytes.")
_RENDER = _column("render_id", _TEXT, "The picture: digest of everything that it depends on.")
_URI = _column("uri", _TEXT, "Absolute path or URL of the file.")
_SEED = _column("seed", _LONG, "The seed of its random numbers.")
_WIDTH, _HEIGHT = _column("width", _INT, "Width in pixels."), _column("height", _INT, "Height in pixels.")
_OFFSET = _optional("offset", _LONG, "Byte offset of a tar member in its file; null for a whole file.")
_NUM_BYTES = _optional("num_bytes", _LONG, "Size of a tar member in bytes; null for a whole file.")
_METADATA = (
    _optional("label", _TEXT, "Class name from the metadata."),
    _optional("caption", _TEXT, "Caption from the metadata."),
    _optional("licence", _TEXT, "Licence from the metadata."),
    _optional("attributes", _TEXT, "All other metadata, as a JSON object."),
)
_SIDECAR_FAULT = _optional("sidecar_fault", _TEXT, "Which of its sidecars says nothing, and why.")
_FILE = _column("file_id", _TEXT, "The file or tar member: digest of path or URL, size and time of change.")
_ENCODER = (
    _column("model", _TEXT, "The encoder's name."),
    _column("revision", _TEXT, "The encoder's revision."),
)
_DIFFUSION = (
    _column("base_model", _TEXT, "The diffusion model's name."),
    _column("base_revision", _TEXT, "The diffusion model's revision."),
)

_LISTING = _schema(
    "file_id listed_at",
    _FILE,
    _URI,
    _column("num_bytes", _LONG, "Size of the file in bytes."),
    _column("is_tar", pa.bool_(), "Whether it is a tar, whose members are the items."),
    _optional("fault", _TEXT, "Why the file cannot be opened, if the listing shows that already."),
    _column("is_present", pa.bool_(), "False if the file is no longer in the source folders."),
    *_METADATA,
    _optional("sidecars", _TEXT, "Digest of the names, sizes and times of change of the sidecars beside the file."),
    _optional("sidecar_metadata", _TEXT, "What they say: label, caption, licence and attributes, as a JSON object."),
    _SIDECAR_FAULT,
    _column(
        "listed_at", _LONG, "Time of the listing in microseconds since 1970; the latest row of a file is its state."
    ),
)
"""A log of the source folders: a row for each new, changed or removed file, and for each change of its metadata."""

_MEMBERS = _schema(
    "tar_id file_id",
    _column("tar_id", _TEXT, "The tar: its file_id in the listing."),
    _FILE,
    _column("name", _TEXT, "Name of the member."),
    _OFFSET,
    _NUM_BYTES,
    _optional("fault", _TEXT, "Why the member cannot be used, if its header shows that already."),
    *_METADATA,
    _SIDECAR_FAULT,
)

_MEMBER_METADATA = _schema(
    "file_id listed_at",
    _FILE,
    *_METADATA,
    _column("listed_at", _LONG, "Time in microseconds since 1970; the latest row of a member is its state."),
)
"""A log of the metadata of tar members of which a metadata table says something; sidecars are in it, too."""

_FILES = _schema(
    "file_id",
    _FILE,
    _column("content_id", _TEXT, "Digest of its bytes."),
    _column("num_items", _INT, "Number of clips or images in it."),
)
"""Ingested files and tar members. Files with equal bytes are one recording or image."""

_AUDIO_FILES = _schema(
    "file_id",
    *_FILES.columns,
    _optional("duration_s", _SECONDS, "Duration of the recording in seconds."),
    _optional("end_s", _SECONDS, "Seconds at its end that are in no clip, as they are less than min_window_s."),
    _optional("silent_s", _SECONDS, "Seconds that are in no clip, as their windows are silent or background noise."),
    _optional("between_s", _SECONDS, "Seconds between two windows that are in no clip."),
)

SCHEMAS = {
    "recipes": _schema(
        "stage",
        _column("stage", _TEXT, "The stage."),
        _column("options", _TEXT, "Options that its results depend on, as JSON."),
        _column("models", _TEXT, "Models with their revisions, by role, as JSON."),
        _column("upstream", _TEXT, "Tables and artifacts that it reads, with their recipes, as JSON."),
        _column("code_version", _INT, "Version of its code."),
    ),
    "runs": _schema(
        "run_id",
        _column("run_id", _TEXT, "A run of a stage that had something to do."),
        _column("stage", _TEXT, "The stage."),
        _column("started_at", _TEXT, "Start time, ISO 8601 in UTC."),
        _column("took_s", _FLOAT, "Duration in seconds, loading of the workers included."),
        _column("new", _LONG, "Number of items that the run finished."),
        _column("rejected", _LONG, "Number of items that the run rejected."),
        _column("stopped", pa.bool_(), "Whether it was stopped before all items were done."),
        _column("host", _TEXT, "Host name of the driver."),
        _optional("config", _TEXT, "Configuration file; null without one, and in rows of before it was noted."),
        _optional("num_workers", _INT, "Workers that were ready at a time, at most; null for the driver's own work."),
        _optional("worker_gpus", _FLOAT, "GPUs of each worker."),
        _optional("loading_s", _FLOAT, "Seconds until the first worker had loaded."),
        _optional("worked_s", _FLOAT, "Seconds that workers took for items, the sum over all workers."),
    ),
    "audio_listing": _LISTING,
    "image_listing": _LISTING,
    "audio_members": _MEMBERS,
    "image_members": _MEMBERS,
    "audio_member_metadata": _MEMBER_METADATA,
    "image_member_metadata": _MEMBER_METADATA,
    "audio_files": _AUDIO_FILES,
    "image_files": _FILES,
    "clips": _schema(
        "clip_id",
        _CLIP,
        _column("content_id", _TEXT, "The recording: digest of its bytes."),
        _column("start_s", _SECONDS, "Start of the clip in the recording, in seconds."),
        _column("duration_s", _SECONDS, "Duration of the clip in seconds."),
        _column("rate_hz", _INT, "Sample rate of the recording."),
        _column("channels", _INT, "Number of channels of the recording."),
        _column("level_dbfs", _FLOAT, "RMS level in dBFS."),
    ),
    "images": _schema(
        "image_id",
        _IMAGE,
        _WIDTH,
        _HEIGHT,
        _column("format", _TEXT, "File format, such as JPEG."),
    ),
    "audio_vectors": _schema("clip_id", _CLIP, _column("vector", _FLOATS, "The clip's audio embedding."), *_ENCODER),
    "image_vectors": _schema(
        "image_id",
        _IMAGE,
        _column("vector", _FLOATS, "The image's embedding."),
        *_ENCODER,
    ),
    "aligned_vectors": _schema(
        "clip_id", _CLIP, _column("vector", _FLOATS, "The clip's embedding in the image encoder's space.")
    ),
    "neighbours": _schema(
        "clip_id",
        _CLIP,
        _column("image_ids", _TEXTS, "The images retrieved for the clip, best first."),
        _column("similarities", _FLOATS, "Their cosine similarities to the clip's query, in the same order."),
        _column("index_version", _LONG, "Version of the index artifact that was searched."),
    ),
    "confidences": _schema(
        "clip_id",
        _CLIP,
        _column("confidence", _FLOAT, "Probability that the encoders know the sound, by the agreement."),
        _column("agreement", _FLOAT, "Cosine of the mean angle of clip and altered copies, in the subspace of images."),
        _column("margin", _FLOAT, "Copies' similarity to its images: 0 as to all images, 1 as the clip's."),
        _column("num_others", _INT, "Number of images that span the subspace."),
    ),
    "cues": _schema(
        "clip_id",
        _CLIP,
        _column("vector", _FLOATS, "The AudioCue: its token vectors, flattened (num_tokens x dim)."),
        _column("num_tokens", _INT, "Number of token vectors."),
        _column("dim", _INT, "Dimension of a token vector."),
        _column("method", _TEXT, "Method, as `fit.method`: adapter, mapper, inversion or captions."),
        _optional("loss_before", _FLOAT, "Validation loss before fitting; null without fitting."),
        _optional("loss_after", _FLOAT, "Validation loss of the cue."),
        _optional("loss_curve", _FLOATS, "Validation loss at each evaluation."),
        _column("steps", _INT, "Number of optimiser steps."),
        _optional("stop_reason", _TEXT, "Why fitting stopped."),
        _column("took_s", _FLOAT, "Its share of the fitting time of its slice, in seconds."),
        _SEED,
        *_DIFFUSION,
        _column("image_ids", _TEXTS, "The images that it was fitted on."),
    ),
    "renders": _schema(
        "render_id",
        _RENDER,
        _column("job", _TEXT, "Name of the job."),
        _optional("mode", _TEXT, "Mode of the job: generate, edit or stylise."),
        _column("clip_ids", _TEXTS, "The clips whose cues are in the prompt, in order; both ends of a blend."),
        _optional("blend", pa.float64(), "Position between the ends of a blend, 0 to 1; null without a blend."),
        _optional("image_id", _TEXT, "The photo that was edited or stylised: digest of its file's bytes."),
        _optional("image_uri", _TEXT, "Path or URL of the photo."),
        _optional("source_prompt", _TEXT, "Prompt of the source image of an edit; null without a source."),
        _optional("edit", _TEXT, "Edit options, as JSON; null without a source."),
        _optional("mask_share", pa.float64(), "Share of the picture that its edit mask reaches, from 0 to 1."),
        _column("prompt", _TEXT, "The prompt, with a placeholder for each cue."),
        _column("negative_prompt", _TEXT, "The negative prompt; may be empty."),
        _SEED,
        _optional("chosen_seed", _LONG, "Best of n: seed of the candidate that was kept; null for a single candidate."),
        _optional("candidate_seeds", pa.list_(_LONG), "Seeds of all candidates, the picture's own seed first."),
        _optional("candidate_scores", pa.list_(pa.float64()), "Their scores; null if they could not be measured."),
        _optional("candidate_preserved_db", pa.list_(pa.float64()), "Of edits: PSNR outside the mask, 100 if equal."),
        _optional("chosen_by", _TEXT, "Measure of the scores: judge, audio_judge or clip_score."),
        _optional("chosen_by_model", _TEXT, "Name and revision of its model."),
        _column("steps", _INT, "Number of denoising steps."),
        _column("guidance", _FLOAT, "Classifier-free guidance scale."),
        _column("scheduler", _TEXT, "Name of the sampler."),
        _WIDTH,
        _HEIGHT,
        *_DIFFUSION,
        _column(SHARD, _TEXT, "The tar shard with the picture, as a path in the workspace."),
        _column("key", _TEXT, "Name of its member, without the extension."),
        _column("format", _TEXT, "File format and extension: jpg, png or webp."),
        _column("offset", _LONG, "Byte offset of its file in the shard."),
        _column("num_bytes", _LONG, "Size of its file in bytes."),
        _column("checksum", _TEXT, "Digest of its file's bytes."),
    ),
    "scores": _schema(
        "render_id metric",
        _RENDER,
        _column("metric", _TEXT, "Name of the metric."),
        _column("value", pa.float64(), "Value of the metric."),
        _optional("labels", _TEXTS, "Labels of the picture's clips when it was measured; empty texts without one."),
    ),
    "rejects": _schema(
        "id stage rejected_at",
        _column("id", _TEXT, "The item's id, as in the stage's table."),
        _column("stage", _TEXT, "The stage that rejected the item."),
        _column("rejected_at", _LONG, "Time in microseconds since 1970; the latest reject of an item is its state."),
        _optional("part_of", _TEXT, "The item that was finished without this part, such as a clip without an image."),
        _optional("uri", _TEXT, "The file at fault."),
        _column("error", _TEXT, "Class of the error."),
        _column("sentence", _TEXT, "What is wrong, and the remedy."),
        _optional("job_file", _TEXT, "The job file that asked for the picture; empty for jobs from Python."),
    ),
}
