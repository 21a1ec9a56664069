"""A collection of the tiny world on disk, as a user's own might be: recordings and pictures, and what is said of them.

    sounds/           one clip per file, as WAV, Ogg Vorbis or FLAC, and `sounds.csv` beside them
    images/loose/     pictures as JPEG, PNG or WebP, and `images.csv` beside them
    images/*.tar      as many again in webdataset tars, each with a JSON member that says the same of it

Every file follows from the seed to the byte. Those that are there already stay; a file is there whole or not at all.
"""

import csv
import io
import json
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import soundfile

from aai.media.images import encode
from aai.tiny.clips import Clip
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ
from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA, adverb

SEED = 2026
"""Of the demo's collection: none of those that models learn from or are measured on (`aai.tiny.training.data`)."""

LICENCE = "CC0-1.0"

_SHARES = (0.1, 0.5, 0.25, 0.15)  # of backgrounds, nouns, verbs and adjectives: cues are learned best from nouns
_WEAKEST, _STRONGEST = 0.05, 0.95
_PER_TAR = 250
_AUDIO_FORMATS = {"wav": "PCM_16", "ogg": "VORBIS", "flac": "PCM_16"}
_IMAGE_FORMATS: dict[str, Literal["jpeg", "png", "webp"]] = {"jpg": "jpeg", "png": "png", "webp": "webp"}
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

Numbered = tuple[int, Scene]


@dataclass(frozen=True)
class Recording:
    """A clip that has a file."""

    file: str
    clip: Clip
    place: str
    """Where it was recorded, one of the backgrounds: the sound does not tell."""

    def said(self) -> dict[str, Any]:
        """Its row of the table."""
        name, level = self.clip.phenomenon, self.clip.intensity
        caption = f"{adverb(level)} {name}"
        said = {"label": name, "caption": caption, "intensity": round(level, 3), "place": self.place}
        return {"file": self.file} | said | {"licence": LICENCE}


def recordings(num: int, seed: int = SEED) -> list[Recording]:
    """Clips of all phenomena in turn, each from weak to strong; formats and places rotate."""
    rng = np.random.default_rng(seed)
    num_levels = -(-num // len(PHENOMENA))
    levels = np.linspace(_WEAKEST, _STRONGEST, num_levels)
    made = []
    for number, clip_seed in enumerate(rng.integers(2**62, size=num)):
        step, name = divmod(number, len(PHENOMENA))
        kind = list(_AUDIO_FORMATS)[number % len(_AUDIO_FORMATS)]
        clip = Clip(PHENOMENA[name], float(levels[step]), int(clip_seed))
        place = BACKGROUNDS[(step + name) % len(BACKGROUNDS)]
        made.append(Recording(f"{clip.phenomenon}-{round(100 * clip.intensity):02}.{kind}", clip, place))
    return made


def write_sounds(folder: Path, num: int, seed: int = SEED) -> Iterator[int]:
    """Write clips and their table; says, file by file, how many clips are there."""
    folder.mkdir(parents=True, exist_ok=True)
    made = recordings(num, seed)
    for number, each in enumerate(made, start=1):
        if not (folder / each.file).exists():
            _put(folder / each.file, _encoded(each.clip.wave(), each.file.rsplit(".")[-1]))
        yield number
    _put(folder / "sounds.csv", _table([each.said() for each in made]))


def write_images(folder: Path, num: int, seed: int = SEED) -> Iterator[int]:
    """Write pictures, one half as loose files with their table, the other in tars; says how many are there."""
    (folder / "loose").mkdir(parents=True, exist_ok=True)
    pictures = list(enumerate(sample_scenes(num, seed, _SHARES)))
    loose, in_tars = pictures[: num - num // 2], pictures[num - num // 2 :]
    for part in _parts(loose):
        missing = [(number, scene) for number, scene in part if not (folder / "loose" / _file(number)).exists()]
        for name, data in _drawn(missing):
            _put(folder / "loose" / name, data)
        yield part[-1][0] + 1
    for part in _parts(in_tars):
        if not (path := folder / f"images-{part[0][0]:05}.tar").exists():
            _put(path, _tar(part))
        yield part[-1][0] + 1
    _put(folder / "loose" / "images.csv", _table([{"file": _file(number)} | _said(scene) for number, scene in loose]))


def _parts(pictures: list[Numbered]) -> list[list[Numbered]]:
    return [pictures[first : first + _PER_TAR] for first in range(0, len(pictures), _PER_TAR)]


def _file(number: int) -> str:
    return f"{number:05}.{list(_IMAGE_FORMATS)[number % len(_IMAGE_FORMATS)]}"


def _said(scene: Scene) -> dict[str, Any]:
    named = {"label": scene.phenomenon, "place": scene.background, "composition": scene.composition}
    level = round(scene.intensity, 3) if scene.phenomenon else None
    caption = scene.caption() if scene.phenomenon else f"a {scene.background}"
    return {**named, "caption": caption, "intensity": level, "licence": LICENCE}


def _drawn(pictures: Sequence[Numbered]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of picture files."""
    drawn = render([scene for _, scene in pictures]).pixels
    for (number, _), pixels in zip(pictures, drawn, strict=True):
        name = _file(number)
        yield name, encode(pixels, _IMAGE_FORMATS[name.rsplit(".")[-1]])


def _tar(pictures: Sequence[Numbered]) -> bytes:
    """A webdataset tar: each picture, then what is said of it under the same name with `.json`."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for (name, data), (_, scene) in zip(_drawn(pictures), pictures, strict=True):
            said = json.dumps(_said(scene), sort_keys=True).encode()
            for member, content in ((name, data), (f"{name.split('.')[0]}.json", said)):
                entry = tarfile.TarInfo(member)  # of no time and no owner
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _encoded(wave: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE_HZ, format=kind.upper(), subtype=_AUDIO_FORMATS[kind])
    return _without_serial(file.getvalue()) if kind == "ogg" else file.getvalue()


def _without_serial(ogg: bytes) -> bytes:
    """An Ogg file whose stream has the number 0 instead of a random one.

    Source: RFC 3533, section 6: a page has its number at byte 14, its checksum at 22, its segments' sizes from 26 on.
    """
    data, start = bytearray(ogg), 0
    while start < len(data):
        num_segments = data[start + 26]
        end = start + 27 + num_segments + sum(data[start + 27 : start + 27 + num_segments])
        data[start + 14 : start + 18] = data[start + 22 : start + 26] = bytes(4)
        data[start + 22 : start + 26] = _ogg_checksum(bytes(data[start:end])).to_bytes(4, "little")
        start = end
    return bytes(data)


def _ogg_checksum(page: bytes) -> int:
    """The checksum of RFC 3533: zlib's polynomial with bits in the other order, from 0 and not inverted."""
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{mirrored:032b}"[::-1], 2)


def _table(rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue().encode()


def _put(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(data)
    part.replace(path)
