"""Edits: rows of jobs that are made from sources become pictures."""

from collections.abc import Iterable, Sequence
from itertools import repeat

import numpy as np
from torch import Tensor

from aai.edit.composite import finish, resized, size_for
from aai.edit.editor import Edited, Editor, Photos, Wanted
from aai.edit.options import EditOptions
from aai.edit.trajectories import Inversions
from aai.errors import BadItem
from aai.media.images import MOST_WEBP_SIDE_PX, RENDERED, ImageOptions
from aai.models.diffusion import Diffusion
from aai.models.options import RenderOptions
from tasks.runtime.photos import Decoder

_MOST_SQUEEZED = 0.02
"""By how much of its length a mask's side may be out: masks are drawn on smaller copies, whose sides are whole."""


class Edits:
    """Makes pictures from generated sources and from photos; remembers what it found out about the last photos."""

    def __init__(self, diffusion: Diffusion, options: ImageOptions) -> None:
        self._diffusion, self._inversions = diffusion, Inversions()
        self._photos, self._masks = Decoder(options), Decoder(RENDERED)

    def __call__(self, rows: Sequence[dict], prompts: Sequence[str], cues: Tensor | None) -> list[np.ndarray]:
        """A picture for each row, those of photos at the size of these.

        Raises:
            BadItem: a photo cannot be used, or a prompt not be encoded.
            Transient: the store failed.
        """
        options = EditOptions.model_validate_json(rows[0]["edit"])
        editor = Editor(self._diffusion, RenderOptions.model_validate_json(rows[0]["options"]), options)
        if rows[0]["image_id"] is None:
            edited = editor.from_prompts(_wanted(rows, prompts, cues))
            return _finished(edited.sources, edited, options, repeat(None, len(rows)))
        photos = self._photos((row["image_id"], row["image_uri"]) for row in rows)
        if editor.render.format == "webp":
            _check_webp(rows, photos)
        masks = self._masks((row["mask_id"], row["mask_uri"]) for row in rows if row["mask_id"])
        if masks:
            _check_masks(rows, photos, masks)
        made: dict[int, np.ndarray] = {}
        for size, places in self._by_size(rows, photos).items():
            some = [rows[place] for place in places]
            own = None if cues is None else cues[places]
            ids = list(dict.fromkeys(row["image_id"] for row in some))
            sources = Photos(
                np.stack([resized(photos[each], size) for each in ids]),
                ids,
                [ids.index(row["image_id"]) for row in some],
                np.stack([_shares(resized(masks[row["mask_id"]], size)) for row in some]) if masks else None,
            )
            edited = editor.from_photos(
                _wanted(some, [prompts[place] for place in places], own), sources, self._inversions
            )
            allowed = (_shares(masks[row["mask_id"]]) for row in some) if masks else repeat(None, len(some))
            whole = _finished([photos[row["image_id"]] for row in some], edited, options, allowed)
            made |= dict(zip(places, whole, strict=True))
        return [made[place] for place in range(len(rows))]

    def _by_size(self, rows: Sequence[dict], photos: dict[str, np.ndarray]) -> dict[tuple[int, int], list[int]]:
        """Places of rows whose photos the model takes at one size."""
        found: dict[tuple[int, int], list[int]] = {}
        for place, row in enumerate(rows):
            height, width = photos[row["image_id"]].shape[:2]
            size = size_for(height, width, self._diffusion.default_size**2, self._diffusion.size_multiple)
            found.setdefault(size, []).append(place)
        return found


def _check_webp(rows: Sequence[dict], photos: dict[str, np.ndarray]) -> None:
    for row in rows:
        if max(photos[row["image_id"]].shape) > MOST_WEBP_SIDE_PX:
            limit = f"a side is longer than a WebP's {MOST_WEBP_SIDE_PX} pixels"
            raise BadItem(f"{row['image_uri']}: {limit}: set format to png or jpg")


def _check_masks(rows: Sequence[dict], photos: dict[str, np.ndarray], masks: dict[str, np.ndarray]) -> None:
    for row in rows:
        (height, width), (down, across) = photos[row["image_id"]].shape[:2], masks[row["mask_id"]].shape[:2]
        if abs(height * across - width * down) > max(height * across, width * down) * _MOST_SQUEEZED:
            raise BadItem(
                f"{row['mask_uri']}: the mask has {across} x {down} pixels and the photo {width} x {height}, "
                "which is another shape: draw it over the photo"
            )


def _wanted(rows: Sequence[dict], prompts: Sequence[str], cues: Tensor | None) -> Wanted:
    negatives = [row["negative_prompt"] for row in rows]
    return Wanted([row["source_prompt"] for row in rows], prompts, [row["seed"] for row in rows], cues, negatives)


def _finished(
    photos: Iterable[np.ndarray], edited: Edited, options: EditOptions, allowed: Iterable[np.ndarray | None]
) -> list[np.ndarray]:
    parts = zip(photos, edited.pictures, edited.sources, edited.masks, allowed, strict=True)
    return [finish(photo, edit, rebuilt, mask, options, wanted) for photo, edit, rebuilt, mask, wanted in parts]


def _shares(mask: np.ndarray) -> np.ndarray:
    """A picture of a mask as how much of an edit is allowed."""
    shares: np.ndarray = mask.mean(axis=2, dtype=np.float32) / 255
    return shares
