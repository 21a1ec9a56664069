"""Files to read: JPEG in tars, WAV files, photos. Their contents are noise of a few sizes; no two files are equal."""

import io
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from aai.identity import content_id

SIDE = 512
_NUM_DISTINCT = 16
_HEADER_BYTES = 512
_START, _COMMENT = b"\xff\xd8", b"\xff\xfe"
"""Markers of JPEG: the begin of the file, and of a comment."""


@dataclass(frozen=True)
class Member:
    """An image in a tar, or a file."""

    content_id: str
    uri: str
    offset: int | None = None
    num_bytes: int | None = None


def jpegs(num: int, seed: int) -> list[bytes]:
    """Images that decode to a few different ones; a comment makes each file another one."""
    rng, few = np.random.default_rng(seed), []
    for _ in range(min(num, _NUM_DISTINCT)):
        small = Image.fromarray(rng.integers(256, size=(32, 32, 3), dtype=np.uint8))
        data = io.BytesIO()
        small.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        few.append(data.getvalue())
    return [_with_comment(few[number % len(few)], b"%d %d" % (seed, number)) for number in range(num)]


def _with_comment(data: bytes, comment: bytes) -> bytes:
    return _START + _COMMENT + (len(comment) + 2).to_bytes(2, "big") + comment + data[len(_START) :]


def write_tar(path: Path, num: int, seed: int) -> list[Member]:
    """A tar of images."""
    members = []
    with tarfile.open(path, "w") as tar:
        for number, data in enumerate(jpegs(num, seed)):
            info = tarfile.TarInfo(f"{number:06}.jpg")
            info.size = len(data)
            members.append(Member(content_id(data), str(path), tar.offset + _HEADER_BYTES, len(data)))
            tar.addfile(info, io.BytesIO(data))
    return members


def write_photos(folder: Path, num: int) -> None:
    """A folder of images."""
    folder.mkdir(parents=True)
    for number, data in enumerate(jpegs(num, seed=99)):
        (folder / f"{number}.jpg").write_bytes(data)


def write_waves(folder: Path, num: int, duration_s: float, rate_hz: int) -> list[Member]:
    """A folder of WAV files of 16 bits."""
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).integers(-8_000, 8_000, round(duration_s * rate_hz), dtype=np.int16)
    members = []
    for number in range(num):
        path = folder / f"{number:06}.wav"
        soundfile.write(path, np.roll(noise, 7 * number), rate_hz, subtype="PCM_16")
        members.append(Member(content_id(path.read_bytes()), str(path)))
    return members
