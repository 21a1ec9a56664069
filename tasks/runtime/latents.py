"""The images that supervise a clip's cue, as latents of the text-to-image model."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from aai.cues.denoising import ClipToFit
from aai.errors import BadItem
from aai.media import images
from aai.media.files import read_content
from aai.media.images import ImageOptions
from aai.models.diffusion import Diffusion
from tasks.runtime.work import Reject

_REMEDY = "put them back and set run.retry_rejects, or change an option of `retrieve` to search for others"

_NOT_FINITE = "its latents are not finite: look at models.diffusion, and set models.dtype to float32"

_MAX_CACHED = 2_000
"""Latents that are cached for other clips: 130 MB for Stable Diffusion 1.5."""


class Latents:
    """Reads images and encodes them, with a cache, because clips share images."""

    def __init__(self, options: ImageOptions, diffusion: Diffusion) -> None:
        self.options, self.diffusion = options, diffusion
        self._cache: OrderedDict[str, torch.Tensor] = OrderedDict()

    def clips(self, rows: pa.Table, rejects: list[Reject]) -> list[ClipToFit]:
        """Clips with the latents of their images.

        An image that cannot be read is rejected as a part of its clip; a clip without any image left is rejected
        itself. Rows are those of `tasks.runtime.supervision.with_images`.

        Raises:
            Transient: the store failed.
        """
        clips = []
        for row in rows.to_pylist():
            faults: dict[str, BadItem] = {}
            latents = self._of(row["images"], faults)
            if not latents:
                first = next(iter(faults.values()))
                error = BadItem(f"none of its {len(faults)} images can be read ({first}): {_REMEDY}")
                rejects.append(Reject.of(row["clip_id"], error, row["uri"]))
                continue
            rejects += [Reject.of(image_id, error, part_of=row["clip_id"]) for image_id, error in faults.items()]
            vector = torch.tensor(row["vector"])
            clips.append(ClipToFit(row["clip_id"], vector, torch.stack(list(latents.values())), tuple(latents)))
        return clips

    def _of(self, wanted: Sequence[Mapping[str, Any]], faults: dict[str, BadItem]) -> dict[str, torch.Tensor]:
        """Latents by image; what cannot be read is added to the faults."""
        found: dict[str, torch.Tensor] = {}
        pixels: dict[str, np.ndarray] = {}
        for image in wanted:
            image_id = image["image_id"]
            if image_id in self._cache:
                self._cache.move_to_end(image_id)
                continue
            try:
                pixels[image_id] = self._pixels(image)
            except BadItem as error:
                faults[image_id] = error
        if pixels:
            batch = torch.from_numpy(np.stack(list(pixels.values()))).permute(0, 3, 1, 2)
            encoded = self.diffusion.encode_images(batch.float() / 127.5 - 1).cpu()
            for image_id, latent in zip(pixels, encoded, strict=True):
                if latent.isfinite().all():
                    self._cache[image_id] = latent
                else:
                    faults[image_id] = BadItem(_NOT_FINITE, id=image_id)
        found = {
            image["image_id"]: self._cache[image["image_id"]] for image in wanted if image["image_id"] not in faults
        }
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)
        return found

    def _pixels(self, image: Mapping[str, Any]) -> np.ndarray:
        if image["uri"] is None:
            raise BadItem("the image is no longer in the source folders", id=image["image_id"])
        data = read_content(image["uri"], image["offset"], image["num_bytes"], image["image_id"])
        decoded = images.decode(data, image["uri"], self.options).pixels
        return images.resize_and_crop(decoded, self.diffusion.default_size)
