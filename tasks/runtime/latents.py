"""The images that supervise a clip's cue, as latents of the text-to-image model."""

from collections import OrderedDict
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import torch

from aai.cues.denoising import ClipToFit
from aai.errors import BadItem
from aai.media import images
from aai.media.files import read_content
from aai.media.images import ImageOptions
from aai.models.diffusion import Diffusion
from tasks.runtime.loader import Loader, Row
from tasks.runtime.work import Reject

_REMEDY = "put them back and set run.retry_rejects, or change an option of `retrieve` to search for others"

_NOT_FINITE = "its latents are not finite: look at models.diffusion, and set models.dtype to float32"

_ENCODED_AT_ONCE = 8
"""Images that are encoded together: a bound of the memory that it takes."""

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
        clips, listed = [], rows.to_pylist()
        found, faults = self._of({image["image_id"]: image for row in listed for image in row["images"]})
        for row in listed:
            wanted = [image["image_id"] for image in row["images"]]
            own = {image_id: found[image_id] for image_id in wanted if image_id in found}
            if not own:
                first = next(faults[image_id] for image_id in wanted)
                num = len(dict.fromkeys(wanted))
                error = BadItem(f"none of its {num} images can be read ({first}): {_REMEDY}")
                rejects.append(Reject.of(row["clip_id"], error, row["uri"]))
                continue
            missing = (image_id for image_id in dict.fromkeys(wanted) if image_id not in own)
            rejects += [Reject.of(image_id, faults[image_id], part_of=row["clip_id"]) for image_id in missing]
            vector = torch.tensor(row["vector"])
            clips.append(ClipToFit(row["clip_id"], vector, torch.stack(list(own.values())), tuple(own)))
        return clips

    def _of(self, wanted: Mapping[str, Row]) -> tuple[dict[str, torch.Tensor], dict[str, BadItem]]:
        """Latents by image, and what is wrong with the others."""
        faults: dict[str, BadItem] = {}
        found = {image_id: self._cache[image_id] for image_id in wanted if image_id in self._cache}
        loader = Loader(self._pixels, lambda image, error: faults.update({image["image_id"]: error}))
        missing = [image for image_id, image in wanted.items() if image_id not in found]
        for loaded, pixels in loader.stacked(missing, _ENCODED_AT_ONCE):
            encoded = self.diffusion.encode_images(pixels.permute(0, 3, 1, 2).float() / 127.5 - 1).cpu()
            for image, latent in zip(loaded, encoded, strict=True):
                if latent.isfinite().all():
                    found[image["image_id"]] = latent
                else:
                    faults[image["image_id"]] = BadItem(_NOT_FINITE, id=image["image_id"])
        self._remember(found)
        return found, faults

    def _remember(self, latents: Mapping[str, torch.Tensor]) -> None:
        for image_id, latent in latents.items():
            self._cache[image_id] = latent
            self._cache.move_to_end(image_id)
        while len(self._cache) > _MAX_CACHED:
            self._cache.popitem(last=False)

    def _pixels(self, image: Row) -> np.ndarray:
        if image["uri"] is None:
            raise BadItem("the image is no longer in the source folders", id=image["image_id"])
        data = read_content(image["uri"], image["offset"], image["num_bytes"], image["image_id"])
        decoded = images.decode(data, image["uri"], self.options).pixels
        return images.resize_and_crop(decoded, self.diffusion.default_size)
