"""Edits and stylisations of generated source images and of photos, for the stage `render`."""

from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from torch import Tensor

from aai.edit.composite import finish, resize, size_for
from aai.edit.editor import Editor, EditRequest, EditResult, Photos
from aai.edit.options import EditOptions
from aai.edit.trajectories import InversionCache
from aai.errors import BadItem
from aai.media.images import MAX_WEBP_SIDE_PX, RENDERED, ImageOptions
from aai.models.diffusion import Diffusion
from aai.models.options import RenderOptions
from tasks.runtime.photos import Decoder

_MAX_DISTORTION = 0.02
"""Maximum relative difference of the aspect ratios of mask and photo: a mask drawn on a smaller copy is rounded."""


class Edits:
    """Edits source images in batches; photos and their inversions are cached from one batch to the next."""

    def __init__(self, diffusion: Diffusion, options: ImageOptions) -> None:
        self._diffusion, self._inversions = diffusion, InversionCache()
        self._photos, self._masks = Decoder(options), Decoder(RENDERED)

    def __call__(self, rows: Sequence[dict], prompts: Sequence[str], cues: Tensor | None) -> list[np.ndarray]:
        """One picture per row; edited photos keep their size.

        The rows have the same options. Either all or none of them have a photo, and likewise a mask.

        Raises:
            BadItem: a photo or mask cannot be used, or a prompt cannot be encoded.
            Transient: the store failed.
        """
        options = EditOptions.model_validate_json(rows[0]["edit"])
        editor = Editor(self._diffusion, RenderOptions.model_validate_json(rows[0]["options"]), options)
        if rows[0]["image_id"] is None:
            edited = editor.from_prompts(_request(rows, prompts, cues))
            return _finished(edited.sources, edited, options, repeat(None, len(rows)))
        photos = self._photos((row["image_id"], row["image_uri"]) for row in rows)
        if editor.render.format == "webp":
            _check_webp(rows, photos)
        masks = self._masks((row["mask_id"], row["mask_uri"]) for row in rows if row["mask_id"])
        if masks:
            _check_masks(rows, photos, masks)
        pictures: dict[int, np.ndarray] = {}
        for size, indices in self._by_size(rows, photos).items():
            group = [rows[index] for index in indices]
            request = _request(group, [prompts[index] for index in indices], None if cues is None else cues[indices])
            edited = editor.from_photos(request, _sources(group, photos, masks, size), self._inversions)
            allowed = (_alpha(masks[row["mask_id"]]) for row in group) if masks else repeat(None, len(group))
            finished = _finished([photos[row["image_id"]] for row in group], edited, options, allowed)
            pictures |= dict(zip(indices, finished, strict=True))
        return [pictures[index] for index in range(len(rows))]

    def _by_size(self, rows: Sequence[dict], photos: dict[str, np.ndarray]) -> dict[tuple[int, int], list[int]]:
        """Indices of rows, grouped by the size at which the model edits their photos."""
        groups: dict[tuple[int, int], list[int]] = {}
        for index, row in enumerate(rows):
            height, width = photos[row["image_id"]].shape[:2]
            size = size_for(height, width, self._diffusion.default_size**2, self._diffusion.size_multiple)
            groups.setdefault(size, []).append(index)
        return groups


def _sources(
    rows: Sequence[dict], photos: dict[str, np.ndarray], masks: dict[str, np.ndarray], size: tuple[int, int]
) -> Photos:
    """The photos and masks of some rows at one size; each photo occurs once."""
    ids = list(dict.fromkeys(row["image_id"] for row in rows))
    return Photos(
        np.stack([resize(photos[image_id], size) for image_id in ids]),
        ids,
        [ids.index(row["image_id"]) for row in rows],
        np.stack([_alpha(resize(masks[row["mask_id"]], size)) for row in rows]) if masks else None,
    )


def _check_webp(rows: Sequence[dict], photos: dict[str, np.ndarray]) -> None:
    for row in rows:
        if max(photos[row["image_id"]].shape) > MAX_WEBP_SIDE_PX:
            raise BadItem(
                f"a side is longer than the {MAX_WEBP_SIDE_PX} pixels of a WebP: set format to png or jpg",
                uri=row["image_uri"],
            )


def _check_masks(rows: Sequence[dict], photos: dict[str, np.ndarray], masks: dict[str, np.ndarray]) -> None:
    for row in rows:
        height, width = photos[row["image_id"]].shape[:2]
        mask_height, mask_width = masks[row["mask_id"]].shape[:2]
        products = height * mask_width, width * mask_height
        if abs(products[0] - products[1]) > max(products) * _MAX_DISTORTION:
            raise BadItem(
                f"the mask has {mask_width} x {mask_height} pixels and the photo {width} x {height}: "
                "draw the mask in the photo's aspect ratio",
                uri=row["mask_uri"],
            )


def _request(rows: Sequence[dict], prompts: Sequence[str], cues: Tensor | None) -> EditRequest:
    negatives = [row["negative_prompt"] for row in rows]
    return EditRequest([row["source_prompt"] for row in rows], prompts, [row["seed"] for row in rows], cues, negatives)


def _finished(
    photos: Iterable[np.ndarray], edited: EditResult, options: EditOptions, allowed: Iterable[np.ndarray | None]
) -> list[np.ndarray]:
    parts = zip(photos, edited.pictures, edited.sources, edited.masks, allowed, strict=True)
    return [finish(photo, edit, rebuilt, mask, options, alpha) for photo, edit, rebuilt, mask, alpha in parts]


def _alpha(mask: np.ndarray) -> np.ndarray:
    """An RGB mask as alpha values, 0 to 1."""
    alpha: np.ndarray = mask.mean(axis=2, dtype=np.float32) / 255
    return alpha
