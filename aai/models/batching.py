"""How many pictures are rendered at once: as many as keep the device busy, if the free memory suffices for them."""

from collections.abc import Hashable, Iterator
from contextlib import contextmanager

import torch

from aai.models.memory import free_bytes, peak_memory

_MAX_SHARE = 0.7
"""Share of the free memory that a batch takes at most: allocators leave gaps."""

_TENSORS_AT_ONCE = 48
"""Tensors of the first level's width that a row of the UNet takes: twice what its layers add up to."""

_MAX_LATENT_PIXELS = {"cuda": 64 * 64 * 64, "cpu": 32 * 64 * 64}
"""Latent pixels of all rows at once. On an H200, 64 rows of 64 x 64 are as fast as 128; a CPU gains nothing."""

_MAX_PICTURES = {"cuda": 64, "cpu": 16}
_FIRST = 4
"""Pictures of a first batch, whose memory is measured."""


class BatchSizes:
    """Batch sizes for kinds of pictures: pictures of a kind have one size and take the same memory.

    The memory of a picture is estimated from the UNet's configuration; on a GPU it is measured in a small first batch,
    and again in each larger one.

    Args:
        device: where the pictures are rendered.
        pixel_bytes: bytes of a latent pixel in the first level of the UNet: its channels times those of a number.
        fixed: the batch size, whatever the memory; none to choose it.
        share: the part of the device's memory that is this worker's own.
    """

    def __init__(self, device: torch.device, pixel_bytes: int, fixed: int | None = None, share: float = 1.0) -> None:
        self.fixed, self._device, self._pixel_bytes, self._share = fixed, device, pixel_bytes, share
        self._most = self._last = _of(_MAX_PICTURES, device)
        self._measured: dict[Hashable, tuple[int, int]] = {}  # pictures at once, and bytes of each

    def size(self, kind: Hashable, num_latent_pixels: int, num_rows: int) -> int:
        """How many pictures to render at once.

        Args:
            kind: what the pictures have in common.
            num_latent_pixels: height times width of a picture's latents.
            num_rows: rows of the UNet's batch that a picture takes.
        """
        if self.fixed:
            return self.fixed
        num_pixels = num_latent_pixels * num_rows
        most = max(1, min(self._most, _of(_MAX_LATENT_PIXELS, self._device) // num_pixels))
        estimated = num_pixels * self._pixel_bytes * _TENSORS_AT_ONCE
        _, picture_bytes = self._measured.get(kind, (0, estimated))
        by_memory = int(free_bytes(self._device, self._share) * _MAX_SHARE) // picture_bytes
        if self._device.type == "cuda" and kind not in self._measured:
            most = min(most, _FIRST)
        return max(1, min(most, by_memory))

    @contextmanager
    def measured(self, kind: Hashable, num: int) -> Iterator[None]:
        """Context manager: the block renders so many pictures of a kind."""
        self._last = num
        with peak_memory(self._device) as peak:
            yield
        if peak.num_bytes and num >= self._measured.get(kind, (0, 0))[0]:
            self._measured[kind] = num, -(-peak.num_bytes // num)

    def halve(self) -> bool:
        """Make batches half as large as the last one; whether that was possible."""
        last = min(self._last, self.fixed or self._most)
        if last == 1:
            return False
        if self.fixed:
            self.fixed = last // 2
        else:
            self._most = last // 2
        return True


def _of(by_device: dict[str, int], device: torch.device) -> int:
    return by_device.get(device.type, by_device["cpu"])
