"""Edits and stylisations of generated source images and of photos, for the stage `render`."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from aai.edit.composite import alpha_of, finish, resize, size_for
from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.edit.options import EditOptions
from aai.edit.trajectories import InversionCache
from aai.errors import BadItem
from aai.media.images import MAX_WEBP_SIDE_PX, RENDERED, ImageOptions
from aai.models.diffusion import Diffusion
from aai.models.options import RenderOptions
from tasks.pictures import Picture
from tasks.runtime.loader import RecentResults, Row, default_threads
from tasks.runtime.photos import decode_photo

_MAX_DISTORTION = 0.02
"""Maximum relative difference of the aspect ratios of mask and photo: a mask drawn on a smaller copy is rounded."""


@dataclass(frozen=True)
class Source:
    """A photo that is edited, opened ahead of the model."""

    photo: UInt8[np.ndarray, "_ _ 3"]
    """At its own size."""

    small: UInt8[np.ndarray, "height width 3"]
    """At the size at which the model edits it."""

    alpha: Float[np.ndarray, "_ _"] | None = None
    """The user's mask from 0 to 1, at its own size; none without one."""

    small_alpha: Float[np.ndarray, "height width"] | None = None
    """The mask at the size of `small`."""


class Sources:
    """Opens the photos of rows; edits of one photo that come together share it. For threads."""

    def __init__(self, diffusion: Diffusion, options: ImageOptions) -> None:
        self._num_pixels, self._multiple, self._options = (
            diffusion.default_size**2,
            diffusion.size_multiple,
            options,
        )
        self._photos = RecentResults(self._photo, default_threads())
        self._masks = RecentResults(_mask, default_threads())

    def __call__(self, row: Row) -> Source | None:
        """The photo of a row and its mask, decoded, checked and resized; none if its source is generated.

        Raises:
            BadItem: photo or mask cannot be used.
            Transient: the store failed.
        """
        if row["image_id"] is None:
            return None
        photo, small = self._photos(row["image_id"], row["image_uri"])
        if json.loads(row["options"])["format"] == "webp":
            _check_webp(row, photo)
        if not row["mask_id"]:
            return Source(photo, small)
        mask, small_mask = self._masks(row["mask_id"], row["mask_uri"], small.shape[:2])
        _check_mask(row, photo, mask)
        return Source(photo, small, mask, small_mask)

    def _photo(self, key: str, uri: str) -> tuple[np.ndarray, np.ndarray]:
        photo = decode_photo(key, uri, self._options)
        return photo, resize(photo, size_for(photo.shape[0], photo.shape[1], self._num_pixels, self._multiple))


def _mask(key: str, uri: str, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    mask = decode_photo(key, uri, RENDERED)
    return _alpha(mask), _alpha(resize(mask, size))


@dataclass(frozen=True)
class Edited:
    """An edit as the model made it: a picture, to be finished in another thread."""

    photo: UInt8[np.ndarray, "_ _ 3"]
    """The source at its own size: a photo, or the generated picture."""

    source: UInt8[np.ndarray, "height width 3"]
    """The source at the model's size."""

    edit: UInt8[np.ndarray, "height width 3"]
    rebuilt: UInt8[np.ndarray, "height width 3"]
    """The source after a round trip through the VAE."""

    mask: Float[np.ndarray, "_ _"]
    options: EditOptions
    allowed: tuple[np.ndarray, np.ndarray] | None = None
    """The user's mask at the photo's size, and at the model's."""

    def __call__(self) -> UInt8[np.ndarray, "_ _ 3"]:
        """The picture at its source's size."""
        allowed = self.allowed and self.allowed[0]
        return finish(self.photo, self.edit, self.rebuilt, self.mask, self.options, allowed)

    def small(self) -> UInt8[np.ndarray, "height width 3"]:
        """The picture at the model's size."""
        allowed = self.allowed and self.allowed[1]
        return finish(self.source, self.edit, self.rebuilt, self.mask, self.options, allowed)

    def alpha(self) -> Float[np.ndarray, "height width"]:
        """How much of the edit shows where, from 0 to 1, at the model's size."""
        return alpha_of(self.mask, self.edit.shape[:2], self.options, self.allowed and self.allowed[1])


class Edits:
    """Edits source images in batches; the inversions of photos are cached from one batch to the next."""

    def __init__(self, diffusion: Diffusion) -> None:
        self._diffusion, self._inversions = diffusion, InversionCache()

    def __call__(
        self, rows: Sequence[Row], sources: Sequence[Source | None], prompts: Sequence[str], cues: Tensor | None
    ) -> list[Picture]:
        """One picture per row, to be finished in another thread; edited photos keep their size.

        The rows have the same options. Either all or none of them have a photo, and likewise a mask.

        Raises:
            BadItem: a prompt cannot be encoded.
        """
        options = EditOptions.from_text(rows[0]["edit"])
        editor = Editor(self._diffusion, RenderOptions.model_validate_json(rows[0]["options"]), options)
        photos = [source for source in sources if source is not None]
        if not photos:
            edited = editor.from_prompts(_request(rows, prompts, cues))
            return _edited(edited.sources, edited.sources, edited, options, repeat(None, len(rows)))
        pictures: dict[int, Picture] = {}
        for indices in _by_size(photos):
            group = [rows[index] for index in indices]
            some = [photos[index] for index in indices]
            request = _request(group, [prompts[index] for index in indices], None if cues is None else cues[indices])
            edited = editor.from_photos(request, _photos(group, some), self._inversions)
            own = [each.photo for each in some], [each.small for each in some]
            pictures |= dict(zip(indices, _edited(*own, edited, options, map(_allowed, some)), strict=True))
        return [pictures[index] for index in range(len(rows))]


def _by_size(sources: Sequence[Source]) -> list[list[int]]:
    """Indices of sources, grouped by the size at which the model edits them."""
    groups: dict[tuple[int, ...], list[int]] = {}
    for index, source in enumerate(sources):
        groups.setdefault(source.small.shape, []).append(index)
    return list(groups.values())


def _photos(rows: Sequence[Row], sources: Sequence[Source]) -> Photos:
    """The photos and masks of some rows at one size; each photo occurs once."""
    small = {row["image_id"]: source.small for row, source in zip(rows, sources, strict=True)}
    ids = list(small)
    masks = [source.small_alpha for source in sources if source.small_alpha is not None]
    return Photos(
        np.stack(list(small.values())),
        ids,
        [ids.index(row["image_id"]) for row in rows],
        np.stack(masks) if masks else None,
    )


def _check_webp(row: Row, photo: np.ndarray) -> None:
    if max(photo.shape) > MAX_WEBP_SIDE_PX:
        raise BadItem(
            f"a side is longer than the {MAX_WEBP_SIDE_PX} pixels of a WebP: set format to png or jpg",
            uri=row["image_uri"],
        )


def _check_mask(row: Row, photo: np.ndarray, mask: np.ndarray) -> None:
    height, width = photo.shape[:2]
    mask_height, mask_width = mask.shape
    products = height * mask_width, width * mask_height
    if abs(products[0] - products[1]) > max(products) * _MAX_DISTORTION:
        raise BadItem(
            f"the mask has {mask_width} x {mask_height} pixels and the photo {width} x {height}: "
            "draw the mask in the photo's aspect ratio",
            uri=row["mask_uri"],
        )


def _request(rows: Sequence[Row], prompts: Sequence[str], cues: Tensor | None) -> EditRequest:
    negatives = [row["negative_prompt"] for row in rows]
    return EditRequest([row["source_prompt"] for row in rows], prompts, [row["seed"] for row in rows], cues, negatives)


def _edited(
    photos: Iterable[np.ndarray],
    small: Iterable[np.ndarray],
    edited: EditResult,
    options: EditOptions,
    allowed: Iterable[tuple[np.ndarray, np.ndarray] | None],
) -> list[Picture]:
    parts = zip(photos, small, edited.pictures, edited.sources, edited.masks, allowed, strict=True)
    return [Edited(photo, own, edit, rebuilt, mask, options, user) for photo, own, edit, rebuilt, mask, user in parts]


def _allowed(source: Source) -> tuple[np.ndarray, np.ndarray] | None:
    """The user's mask at both sizes."""
    if source.alpha is None or source.small_alpha is None:
        return None
    return source.alpha, source.small_alpha


def _alpha(mask: np.ndarray) -> np.ndarray:
    """An RGB mask as alpha values, 0 to 1."""
    alpha: np.ndarray = mask.mean(axis=2, dtype=np.float32) / 255
    return alpha
