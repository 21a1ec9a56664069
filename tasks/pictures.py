"""Pictures into shards: encoded in several threads while the model computes the next ones, and written in order."""

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from types import TracebackType
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from aai.edit.options import EditOptions
from aai.media import images, provenance
from aai.models.options import RenderOptions
from aai.workspace.shards import ShardWriter
from tasks.runtime.loader import default_threads

Picture = Callable[[], np.ndarray]
"""Makes the pixels of a picture; called in a thread, so that what is left to do does not stop the model."""


@runtime_checkable
class Masked(Protocol):
    """A picture that is an edit in a part."""

    def alpha(self) -> Float[np.ndarray, "_ _"]:
        """How much of the edit shows where, from 0 to 1, at the model's size."""


_KINDS: dict[str, Literal["png", "jpeg", "webp"]] = {"png": "png", "jpg": "jpeg", "webp": "webp"}

MASK = "mask.png"
"""Extension of an edit mask beside its picture."""

_REQUEST_COLUMNS = ("render_id", "mode", "clip_ids", "prompt", "negative_prompt", "seed")

_NO_SOURCE = {"source_prompt": "", "edit": "", "image_id": "", "mask_id": "", "guidance_interval": ""}
"""Keys in the JSON of every picture, because `datasets` infers the columns from the first ones."""

_MAX_WAITING = 2
"""Batches that wait to be encoded and written; one more, and the model waits."""

_MAX_WAITING_BYTES = 2**30
"""Pixels that wait in several batches: photos of edits may be large."""


@dataclass(frozen=True)
class Renders:
    """What all pictures of a worker have in common."""

    model: tuple[str, str]
    """Name and revision of the text-to-image model."""

    scheduler: str
    """Class of the checkpoint's own scheduler."""

    recipe: str

    def request(self, row: Mapping[str, Any], pixels: np.ndarray, options: RenderOptions) -> dict[str, Any]:
        """Everything that the picture depends on; without nulls."""
        blend = {} if row["blend"] is None else {"blend": row["blend"]}
        return (
            blend
            | {name: value for name, value in row.get("choice", {}).items() if value is not None}
            | _source_columns(row)
            | _interval(options)
            | {name: row[name] for name in _REQUEST_COLUMNS}
            | {
                "steps": options.steps,
                "guidance": options.guidance,
                "scheduler": _scheduler_of(row, options) or self.scheduler,
                "width": pixels.shape[1],
                "height": pixels.shape[0],
                "format": options.format,
                "base_model": self.model[0],
                "base_revision": self.model[1],
            }
        )

    def context(self, row: Mapping[str, Any], options: RenderOptions) -> dict[str, Any]:
        """The rest of a picture's JSON; without nulls, because `datasets` infers types from the first pictures."""
        return {
            "job": row["job"],
            "quality": options.quality,
            "labels": [label or "" for label in row["labels"]],
            "licences": [licence or "" for licence in row["licences"]],
            "method": row["method"] or "",
            "recipe": self.recipe,
            "aai_version": version("aai"),
            "digital_source_type": _digital_source_type(row),
        }


@dataclass(frozen=True)
class _Encoded:
    """A picture's members of a shard, and its row of `renders` but for their location."""

    members: dict[str, bytes]
    """By their extensions; the picture is the first."""

    row: dict[str, Any]


class PictureWriter:
    """Encodes pictures in threads and writes them to a shard in their order; `rows` are those of `renders`."""

    def __init__(self, shard: ShardWriter, renders: Renders, num_threads: int | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self._shard, self._renders = shard, renders
        self._encoders = ThreadPoolExecutor(num_threads or default_threads(), "encoder")
        self._writer = ThreadPoolExecutor(1, "writer")
        self._waiting: deque[tuple[int, Future[list[dict[str, Any]]]]] = deque()

    def __enter__(self) -> "PictureWriter":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._waiting:
                self._take()
        finally:
            self._encoders.shutdown(cancel_futures=True)
            self._writer.shutdown(cancel_futures=True)

    def add(self, batch: Sequence[Mapping[str, Any]], pictures: Sequence[Picture], num_bytes: int = 0) -> None:
        """Take a batch of rows and their pictures, which hold so many bytes; waits while earlier ones are not written.

        Raises:
            Transient: the disk is full.
        """
        encoded = [self._encoders.submit(self._encode, row, made) for row, made in zip(batch, pictures, strict=True)]
        self._waiting.append((num_bytes, self._writer.submit(self._write, encoded)))
        while len(self._waiting) > self._max_waiting():
            self._take()

    def _max_waiting(self) -> int:
        return _MAX_WAITING if sum(size for size, _ in self._waiting) <= _MAX_WAITING_BYTES else 1

    def _take(self) -> None:
        _, written = self._waiting.popleft()
        self.rows += written.result()

    def _encode(self, row: Mapping[str, Any], picture: Picture) -> _Encoded:
        pixels, options = picture(), RenderOptions.model_validate_json(row["options"])
        alpha = picture.alpha() if isinstance(picture, Masked) else None
        share: dict[str, float] = {} if alpha is None else {"mask_share": float((alpha > 0).mean())}
        request = self._renders.request(row, pixels, options)
        xmp = provenance.xmp_packet(
            *self._renders.model, row["prompt"], version("aai"), request, _digital_source_type(row)
        )
        data = images.encode(pixels, _KINDS[options.format], options.quality, xmp)
        context = self._renders.context(row, options)
        members: dict[str, bytes] = {options.format: data}
        if is_masked(row) and alpha is not None:
            members[MASK] = _mask_of(alpha, pixels.shape[:2])
        members["json"] = json.dumps(_NO_SOURCE | request | context, sort_keys=True).encode()
        own = {key: row[key] for key in ("job", "image_id", "image_uri", "source_prompt", "edit")}
        return _Encoded(members, request | own | share)

    def _write(self, encoded: Sequence[Future[_Encoded]]) -> list[dict[str, Any]]:
        return [self._write_one(each.result()) for each in encoded]

    def _write_one(self, encoded: _Encoded) -> dict[str, Any]:
        key = encoded.row["render_id"]
        locations = [self._shard.add(key, suffix, data) for suffix, data in encoded.members.items()]
        return encoded.row | vars(locations[0])


def is_masked(row: Mapping[str, Any]) -> bool:
    """Whether the edit mask of a picture is written beside it."""
    return bool(row["edit"]) and EditOptions.from_text(row["edit"]).write_mask


def _mask_of(alpha: np.ndarray, size: tuple[int, int]) -> bytes:
    """A mask as a grey PNG of the picture's size."""
    from aai.edit.composite import full_alpha  # imports scipy, which plans do not need

    grey = np.round(full_alpha(alpha, size) * 255).astype(np.uint8)
    return images.encode(np.repeat(grey[:, :, None], 3, axis=2), "png")


def _digital_source_type(row: Mapping[str, Any]) -> str:
    return provenance.COMPOSITE if row["image_id"] else provenance.GENERATED


def _scheduler_of(row: Mapping[str, Any], options: RenderOptions) -> str | None:
    """Name of the sampler, None for the checkpoint's own; photos are always edited with DDIM."""
    return "ddim" if row["image_id"] else options.scheduler


def _interval(options: RenderOptions) -> dict[str, str]:
    """The interval of noise levels with guidance, as a text: pictures without one have an empty text there."""
    if options.guidance_interval is None:
        return {}
    low, high = options.guidance_interval
    return {"guidance_interval": f"({low:g}, {high:g}]"}


def _source_columns(row: Mapping[str, Any]) -> dict[str, object]:
    """The columns about the source image; empty without one."""
    if row["edit"] is None:
        return {}
    of_photo = {key: row[key] for key in ("image_id", "mask_id") if row[key]}
    return {"source_prompt": row["source_prompt"], "edit": row["edit"]} | of_photo
