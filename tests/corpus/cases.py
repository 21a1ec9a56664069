"""What the corpus is made of: a file, and what must become of it."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Said = tuple[str | None, str | None, str | None]
"""Label, caption and licence of a file."""

UNSAID: Said = (None, None, None)


@dataclass(frozen=True)
class Sound:
    """A well-formed recording, and the samples from which it was encoded."""

    name: str
    data: Callable[[], bytes]
    wave: Callable[[], np.ndarray]
    """Samples x channels."""
    rate_hz: int
    error: float
    """Maximum RMS error, relative to the RMS of the samples."""
    surplus_s: float = 0.0
    """Maximum padding in seconds that the codec adds at the end."""


@dataclass(frozen=True)
class Picture:
    """A well-formed image, and the pixels from which it was encoded."""

    name: str
    data: Callable[[], bytes]
    pixels: Callable[[], np.ndarray]
    """Height x width x 3, 8 bits, upright, over the white background."""
    error: int
    """Maximum error of a channel of a pixel."""


@dataclass(frozen=True)
class Broken:
    """A file that cannot be used, and a part of the sentence that says why."""

    name: str
    data: Callable[[], bytes]
    sentence: str


@dataclass(frozen=True)
class Tar:
    """A tar, and what must become of its members."""

    name: str
    data: Callable[[], bytes]
    good: dict[str, Said]
    """The members that are used, and what their sidecars say of them."""
    faults: dict[str, str]
    """The members that cannot be used, and parts of the sentences that say why."""
    aside: tuple[str, ...] = ()
    """Members that are none of the collection's, and are left aside."""
