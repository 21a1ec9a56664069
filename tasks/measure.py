"""Measure: what `aai evaluate` wants to know of pictures, images, captions and clips, each once.

Vectors and values do not depend on the method that made a picture nor on the other pictures, so a further method or a
changed set of clips measures only what is new; the figures follow from them without any model.
"""

import json
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from aai import metrics
from aai.errors import BadItem
from aai.media import images
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.models.judge import load_judge
from aai.options import SPEED_ONLY, Options
from aai.workspace import Schema
from aai.workspace.shards import read_picture
from tasks.measure_edits import EDIT, EditMeasurer
from tasks.runtime.clip_reader import ClipReader
from tasks.runtime.config import Config
from tasks.runtime.loader import Loader, Row
from tasks.runtime.models import image_role, open_image_reward, open_image_text, open_joint
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Batched, Outcome, Reject

if TYPE_CHECKING:
    from aai.models.joint import ImageEncoder

_SCHEMA = Schema(
    ("item_id", "name"),
    pa.schema(
        [
            pa.field("item_id", pa.string(), nullable=False),
            pa.field("name", pa.string(), nullable=False),  # a metric, or the role of the encoder of the vector
            ("value", pa.float64()),
            ("vector", pa.list_(pa.float32())),
        ]
    ),
)

ITEM = pa.schema(
    [
        ("item_id", pa.string()),
        ("kind", pa.string()),  # picture, edit, text or clip
        (
            "location",
            pa.string(),
        ),  # as JSON: a member of a shard, or a file; of an edit an EditItem
        ("text", pa.string()),  # a text, or the caption of a picture; null without one
        ("prompt", pa.string()),  # of the picture
        ("label", pa.string()),  # of the picture's clip
    ]
)
"""What workers get."""

PICTURE, TEXT, CLIP = "picture", "text", "clip"

Measured = list[dict[str, Any]]


class MeasureOptions(Options):
    """Measurements of `aai evaluate`."""

    batch_size: int = Field(64, gt=0, json_schema_extra=SPEED_ONLY)
    """Batch size in pictures; halved after an out-of-memory error. It changes the speed, not the values."""


class Measurer(Batched):
    """The encoders, the judge and the reward model, loaded once per worker."""

    def __init__(self, context: Context) -> None:
        config = context.config
        self.encoder = open_image_text(config)
        self.encoders: dict[str, ImageEncoder] = {"image_text": self.encoder}
        if image_role(config) == "joint":
            self.encoders["joint"] = open_joint(config).images
        self.hears = open_joint(config, "audio_judge") if config.models.audio_judge else None
        if self.hears:
            self.encoders["audio_judge"] = self.hears.images
        self.reward = open_image_reward(config)
        self.judge = load_judge(config.models.judge) if config.models.judge else None
        self.workspace, self.options = context.workspace, context.options(IngestOptions)
        self.batch_size = context.options(MeasureOptions).batch_size
        self.edits = EditMeasurer(self.encoder, self.workspace, self.options.images)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        rejects: list[Reject] = []
        by_kind: dict[str, list[Row]] = {PICTURE: [], EDIT: [], TEXT: [], CLIP: []}
        for row in rows.to_pylist():
            by_kind[row["kind"]].append(row)
        found = self._texts(by_kind[TEXT], rejects)
        found += self._clips(by_kind[CLIP], rejects)
        found += self._pictures(by_kind[PICTURE], rejects)
        found += self._edits(by_kind[EDIT], rejects)
        return Outcome(pa.Table.from_pylist(found, schema=_SCHEMA.columns), rejects)

    def _edits(self, rows: Sequence[Row], rejects: list[Reject]) -> Measured:
        found: Measured = []
        with closing(Loader(self.edits.load, _rejecting(rejects)).batches(rows, self.batch_size)) as loaded:
            for batch in loaded:
                values = self.edits.finish([compared for _, compared in batch])
                for (row, _), own in zip(batch, values, strict=True):
                    found += [_value(row, name, value) for name, value in own.items() if not np.isnan(value)]
        return found

    def _texts(self, rows: Sequence[Row], rejects: list[Reject]) -> Measured:
        good = []
        for row in rows:
            if fault := self.encoder.fault_of(row["text"]):
                rejects.append(Reject.of(row["item_id"], fault))
            else:
                good.append(row)
        vectors = self.encoder.embed_texts([row["text"] for row in good], self.batch_size).numpy()
        return [_vector(row, "image_text", vector) for row, vector in zip(good, vectors, strict=True)]

    def _clips(self, rows: Sequence[Row], rejects: list[Reject]) -> Measured:
        """Vectors of clips by the second encoder, to compare pictures with."""
        if not (rows and self.hears):
            return []
        sounds = self.hears.sounds
        read = ClipReader(sounds.prepare, self.options.audio)
        loader = Loader(lambda row: read(json.loads(row["location"])), _rejecting(rejects))
        found: Measured = []
        for loaded, batch in loader.stacked(rows, self.batch_size):
            vectors = sounds.embed_prepared(batch).float().cpu().numpy()
            found += [_vector(row, "audio_judge", vector) for row, vector in zip(loaded, vectors, strict=True)]
        return found

    def _pictures(self, rows: Sequence[Row], rejects: list[Reject]) -> Measured:
        found: Measured = []
        with closing(Loader(self._load, _rejecting(rejects)).batches(rows, self.batch_size)) as loaded:
            for batch in loaded:
                found += self._of_batch([row for row, _ in batch], [loaded for _, loaded in batch])
        return found

    def _load(self, row: Row) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A picture, and the same as each encoder takes it."""
        location = json.loads(row["location"])
        if "shard" in location:
            data, uri, options = read_picture(self.workspace, location), location["shard"], images.RENDERED
        else:
            uri, options = location["uri"], self.options.images
            data = read_content(uri, location["offset"], location["num_bytes"], location["content_id"])
        pixels = images.decode(data, uri, options).pixels
        return pixels, {role: encoder.prepare(pixels) for role, encoder in self.encoders.items()}

    def _of_batch(self, rows: list[Row], loaded: list[tuple[np.ndarray, dict[str, np.ndarray]]]) -> Measured:
        from aai.models.batches import embed_all  # it imports torch, which plans do not need

        found: Measured = []
        for role, encoder in self.encoders.items():
            prepared = [by_role[role] for _, by_role in loaded]
            vectors = embed_all(prepared, encoder.embed_prepared, encoder.dim, len(rows)).numpy()
            if role == "image_text":
                found += self._clip_scores(rows, vectors)
            found += [_vector(row, role, vector) for row, vector in zip(rows, vectors, strict=True)]
        if self.judge:
            prompts, labels = [row["prompt"] or "" for row in rows], [[row["label"]] for row in rows]
            judged = self.judge([pixels for pixels, _ in loaded], prompts, labels)
            for name, values in judged.items():
                found += [_value(row, name, value) for row, value in zip(rows, values.tolist(), strict=True)]
        if self.reward:
            found += self._rewards(rows, [pixels for pixels, _ in loaded])
        return [row for row in found if row["vector"] is not None or row["value"] is not None]

    def _rewards(self, rows: list[Row], pictures: Sequence[np.ndarray]) -> Measured:
        """ImageReward of the pictures with a caption that the model reads to its end."""
        import torch

        assert self.reward is not None, "the configuration names it"
        good = [index for index, row in enumerate(rows) if row["text"] and self.reward.fits(row["text"])]
        if not good:
            return []
        prepared = torch.from_numpy(np.stack([self.reward.prepare(pictures[index]) for index in good]))
        values = self.reward.score(prepared, [rows[index]["text"] for index in good]).tolist()
        return [_value(rows[index], metrics.IMAGE_REWARD, value) for index, value in zip(good, values, strict=True)]

    def _clip_scores(self, rows: list[Row], vectors: np.ndarray) -> Measured:
        """CLIPScores of pictures with their captions; a caption that is too long is a reject as a text."""
        known = sorted({row["text"] for row in rows if row["text"] and not self.encoder.fault_of(row["text"])})
        named = [index for index, row in enumerate(rows) if row["text"] in known]
        texts = self.encoder.embed_texts(known, self.batch_size).numpy()
        scores = metrics.clip_score(vectors[named], texts[[known.index(rows[index]["text"]) for index in named]])
        return [
            _value(rows[index], metrics.CLIP_SCORE, score) for index, score in zip(named, scores.tolist(), strict=True)
        ]


def _rejecting(rejects: list[Reject]) -> Any:
    def reject(row: Row, error: BadItem) -> None:
        rejects.append(Reject.of(row["item_id"], error))

    return reject


def _vector(row: Row, name: str, vector: np.ndarray) -> dict[str, Any]:
    return {"item_id": row["item_id"], "name": name, "value": None, "vector": vector}


def _value(row: Row, name: str, value: float) -> dict[str, Any]:
    return {"item_id": row["item_id"], "name": name, "value": None if np.isnan(value) else value, "vector": None}


def _models(config: Config) -> tuple[str, ...]:
    optional = ("audio_judge", "image_reward", "judge")
    named = [role for role in optional if getattr(config.models, role) is not None]
    return tuple(dict.fromkeys(("image_text", image_role(config), *named)))


def _settings(config: Config) -> dict[str, object]:
    return {}


MEASURES = Stage(
    name="measure",
    table="measures",
    schema=_SCHEMA,
    options=MeasureOptions,
    settings=_settings,
    models=_models,
    worker=Measurer,
    gpu=True,
    command="evaluate",
)
