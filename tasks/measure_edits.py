"""What edits keep of their sources, and where they are: the part of the stage `measure` that is about edits.

Which pixels are to be kept must be the same for all methods. It is what lies outside the true mask, where that is
known; else outside the user's mask; else what at most half of the masks of all edits of this source reach. Outside the
union of these masks, or outside an edit's own one, every edit that composites its source's pixels keeps all of them by
construction, so nothing would be measured there.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from aai import metrics
from aai.errors import BadItem
from aai.evaluate import edits
from aai.identity import content_id
from aai.media import images
from aai.media.files import read_content
from aai.workspace import Workspace
from aai.workspace.shards import read_next, read_picture
from tasks.pictures import MASK
from tasks.runtime.loader import Row

if TYPE_CHECKING:
    from aai.models.clip import ImageTextEncoder

EDIT = "edit"
_MAX_PIXELS = 2**20
"""Larger pictures are reduced to this size first: windows of SSIM are 11 pixels wide, whatever the size."""

_CACHED = 8
_TOUCHED, _INSIDE = 0.5 / 255, 0.5
"""Of alpha: above the first a mask reaches a pixel, above the second the pixel is more edit than source."""

Location = dict[str, Any]
"""Of a picture: a member of a shard (with `key` and `format`), or a file (with `uri` and `content_id`)."""


@dataclass(frozen=True)
class EditItem:
    """An edit that is measured."""

    picture: Location
    source: Location
    has_mask: bool
    """Whether the edit has a mask, and so something to be kept; stylisations change the whole picture."""
    truth: Location | None = None
    """File of the true mask."""
    allowed: Location | None = None
    """File of the user's mask."""
    others: list[Location] = field(default_factory=list)
    """All edits of this source, of all methods; none if they are those of one method only."""

    @property
    def kept(self) -> str | None:
        """What says which pixels are to be kept."""
        if not self.has_mask:
            return None
        return "truth" if self.truth else "allowed" if self.allowed else "others" if self.others else None

    def row(self) -> Row:
        """The item as the stage takes it; `others` count only where nothing better is known."""
        known = asdict(self) | {"others": self.others if self.kept == "others" else []}
        parts = {name: _digests(value) for name, value in known.items()}
        item_id = content_id(f"{EDIT}\n{json.dumps(parts, sort_keys=True)}".encode())
        return {"item_id": item_id, "kind": EDIT, "location": json.dumps(known)}


class EditMeasurer:
    """Compares edits with their sources: pixels, and patches as the image-text encoder sees them."""

    def __init__(self, encoder: "ImageTextEncoder", workspace: Workspace, options: images.ImageOptions) -> None:
        self._encoder, self._workspace, self._options = encoder, workspace, options
        self._touched_by = lru_cache(_CACHED)(self._read_touched)  # items with the same edits follow one another

    def load(self, row: Row) -> "Compared":
        """An edit compared with its source by their pixels; for threads.

        Raises:
            BadItem: one of the files cannot be read, or edit and source differ in size.
            Transient: the store failed.
        """
        item = EditItem(**json.loads(row["location"]))
        edit, source = self._picture(item.picture), self._picture(item.source)
        if edit.shape != source.shape:
            raise BadItem("its source has another size: render it anew", uri=item.picture.get("shard"))
        keep = self._keep(item, edit.shape[:2])
        values = {} if keep is None else _pixels_kept(edit, source, ~keep)
        if item.truth and item.has_mask:
            own = self._alpha(item.picture, edit.shape[:2]) > _INSIDE
            values[metrics.MASK_IOU] = edits.mask_iou(own, self._file(item.truth, edit.shape[:2]) > _INSIDE)
        side = self._encoder.side_px
        prepared = [self._encoder.prepare(_resized(pixels, (side, side))) for pixels in (edit, source)]
        return Compared(values, np.stack(prepared), keep)

    def finish(self, compared: Sequence["Compared"]) -> list[dict[str, float]]:
        """The metrics of some edits, those of patches included."""
        import torch  # plans do not need it

        pairs = torch.from_numpy(np.concatenate([each.prepared for each in compared]))
        patches = self._encoder.embed_patches(pairs).cpu().numpy()
        found = []
        for each, edit, source in zip(compared, patches[::2], patches[1::2], strict=True):
            own = {metrics.STRUCTURE: edits.structure_distance(edit[-1], source[-1])}
            if each.keep is not None:
                side = round(edit.shape[1] ** 0.5)
                outside = _shares(each.keep, side).ravel()
                own[metrics.KEPT_DISTANCE] = edits.patch_distance(edit, source, outside)
            found.append(each.values | own)
        return found

    def _keep(self, item: EditItem, size: tuple[int, int]) -> np.ndarray | None:
        """Which pixels are to be kept; none if that is unknown."""
        if item.kept == "truth":
            return self._file(item.truth or {}, size) <= _INSIDE
        if item.kept == "allowed":
            return self._file(item.allowed or {}, size) <= _TOUCHED
        return self._touched_by(json.dumps(item.others), size) <= 0.5 if item.kept else None

    def _read_touched(self, others: str, size: tuple[int, int]) -> np.ndarray:
        """By how many of some edits' masks each pixel is reached, as a share."""
        reached = [self._alpha(location, size) > _TOUCHED for location in json.loads(others)]
        share: np.ndarray = np.mean(reached, axis=0)
        return share

    def _alpha(self, location: Location, size: tuple[int, int]) -> np.ndarray:
        data = read_next(self._workspace, location, MASK)
        if data is None:
            raise BadItem("its edit mask is not beside it: render it with write_mask", uri=location["shard"])
        return _mask(images.decode(data, location["shard"], images.RENDERED).pixels, size)

    def _file(self, location: Location, size: tuple[int, int]) -> np.ndarray:
        return _mask(images.decode(self._read(location), location["uri"], images.RENDERED).pixels, size)

    def _picture(self, location: Location) -> np.ndarray:
        if "shard" in location:
            data, uri, options = read_picture(self._workspace, location), location["shard"], images.RENDERED
        else:
            data, uri, options = self._read(location), location["uri"], self._options
        pixels = images.decode(data, uri, options).pixels
        return _resized(pixels, _reduced(pixels.shape[:2]))

    def _read(self, location: Location) -> bytes:
        return read_content(location["uri"], location["offset"], location["num_bytes"], location["content_id"])


@dataclass(frozen=True)
class Compared:
    """An edit and its source, as they wait for the encoder."""

    values: dict[str, float]
    prepared: np.ndarray
    """Both as the encoder takes them, squeezed into its square."""
    keep: np.ndarray | None


def _pixels_kept(edit: np.ndarray, source: np.ndarray, changed: np.ndarray) -> dict[str, float]:
    decibels = edits.psnr_outside(edit, source, changed)
    kept = {metrics.KEPT_PSNR: min(decibels, metrics.MAX_PSNR_DB)}  # NaN stays NaN
    return kept | {metrics.KEPT_SSIM: edits.ssim_outside(edit, source, changed)}


def _digests(value: Any) -> Any:
    """What identifies a location: the digest of the contents, and of an edit with its mask the picture's id, too."""
    if isinstance(value, list):
        return sorted(_digests(each) for each in value)
    if isinstance(value, dict):
        return f"{value.get('key', '')} {value.get('checksum') or value['content_id']}"
    return value


def _reduced(size: tuple[int, int]) -> tuple[int, int]:
    scale = min(1.0, (_MAX_PIXELS / (size[0] * size[1])) ** 0.5)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    if pixels.shape[:2] == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size[::-1], Image.Resampling.BICUBIC))


def _mask(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask as alpha values, 0 to 1, at a size."""
    alpha: np.ndarray = pixels.mean(axis=2, dtype=np.float32) / 255
    if alpha.shape == size:
        return alpha
    return np.asarray(Image.fromarray(alpha).resize(size[::-1], Image.Resampling.BILINEAR))


def _shares(keep: np.ndarray, side: int) -> np.ndarray:
    """The share of each patch that is to be kept."""
    whole = Image.fromarray(keep.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(whole).clip(0, 1)
