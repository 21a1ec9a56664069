"""The images that supervise a clip's cue, as the latents of the text-to-image model."""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

import numpy as np
import pyarrow as pa
import torch

from aai.cues.fit import ClipToFit
from aai.errors import BadItem
from aai.identity import content_id
from aai.media import images
from aai.media.files import read_bytes
from aai.models.diffusion import Diffusion
from tasks.runtime.run import Run
from tasks.runtime.tables import look_up
from tasks.runtime.work import Reject

_WHERE = ("uri", "offset", "num_bytes")
_MOST_KEPT = 2_000
"""Latents that are kept for other clips: 130 MB for Stable Diffusion 1.5."""


class Latents:
    """Reads and encodes images once, as long as they are asked for again soon."""

    def __init__(self, run: Run, diffusion: Diffusion) -> None:
        self.workspace, self.recipe = run.workspace, run.recipe("images")
        self.options, self.diffusion = run.config.ingest.images, diffusion
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()

    def clips(self, rows: pa.Table, rejects: list[Reject]) -> Iterator[ClipToFit]:
        """Clips with their latents, as they are asked for; one without any readable image is rejected.

        Rows have the columns clip_id, vector (aligned), image_ids and uri.
        """
        wanted = {image_id for ids in rows["image_ids"].to_pylist() for image_id in ids}
        places = {row["image_id"]: row for row in self._places(wanted)}
        for row in rows.to_pylist():
            try:
                latents = self._of(row["image_ids"], places)
            except BadItem as error:
                rejects.append(Reject.of(row["clip_id"], error, row["uri"]))
                continue
            yield ClipToFit(row["clip_id"], torch.tensor(row["vector"]), latents)

    def _places(self, image_ids: Iterable[str]) -> list[dict]:
        return look_up(self.workspace, "images", self.recipe, image_ids, _WHERE).to_pylist()

    def _of(self, image_ids: list[str], places: dict[str, dict]) -> torch.Tensor:
        """The latents of those images that can still be read.

        Raises:
            BadItem: there are none.
        """
        assert image_ids, "retrieval gives every clip an image"
        pixels, faults = {}, []
        for image_id in image_ids:
            if image_id in self._kept:
                self._kept.move_to_end(image_id)
                continue
            try:
                pixels[image_id] = self._pixels(places[image_id])
            except BadItem as error:
                faults.append(str(error))
        if len(faults) == len(image_ids):
            raise BadItem(f"none of its {len(image_ids)} images can be read any more: {faults[0]}")
        if pixels:
            stacked = torch.from_numpy(np.stack(list(pixels.values()))).permute(0, 3, 1, 2)
            encoded = self.diffusion.encode_images(stacked.float() / 127.5 - 1).cpu()
            self._kept.update(zip(pixels, encoded, strict=True))
        found = torch.stack([self._kept[image_id] for image_id in image_ids if image_id in self._kept])
        while len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return found

    def _pixels(self, place: dict) -> np.ndarray:
        data = read_bytes(place["uri"], place["offset"], place["num_bytes"])
        if content_id(data) != place["image_id"]:
            raise BadItem(f"{place['uri']}: it has changed since it was found: run `aai build` again")
        decoded = images.decode(data, place["uri"], self.options).pixels
        return images.resize_and_crop(decoded, self.diffusion.default_size)
