"""Writes a sample dataset: audio, images and metadata in the usual formats.

    sounds/           one clip per file, as WAV, Ogg Vorbis or FLAC, with metadata in `sounds.csv`
    images/loose/     images as JPEG, PNG or WebP, with metadata in `images.csv`
    images/*.tar      as many images in webdataset tars, with metadata in JSON members

The same seed gives byte-identical files. Existing files are kept; files are written atomically.
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
"""Seed of the demo's dataset; differs from the seeds of training and evaluation (`aai.tiny.training.data`)."""

LICENCE = "CC0-1.0"

IMAGE_SHARES = (0.1, 0.5, 0.25, 0.15)
"""Fractions of backgrounds, nouns, verbs and adjectives; nouns are the best training images for cues."""

_MIN_INTENSITY, _MAX_INTENSITY = 0.05, 0.95
_PER_TAR = 250
_AUDIO_FORMATS = {"wav": "PCM_16", "ogg": "VORBIS", "flac": "PCM_16"}
_IMAGE_FORMATS: dict[str, Literal["jpeg", "png", "webp"]] = {"jpg": "jpeg", "png": "png", "webp": "webp"}
_REVERSED_BITS = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))

Numbered = tuple[int, Scene]


@dataclass(frozen=True)
class Recording:
    """A clip and its file name."""

    file: str
    clip: Clip
    background: str
    """Fictitious recording location; it does not affect the sound."""

    def metadata(self) -> dict[str, Any]:
        """The row of `sounds.csv`."""
        name, level = self.clip.phenomenon, self.clip.intensity
        columns = {"label": name, "caption": f"{adverb(level)} {name}", "intensity": round(level, 3)}
        columns["tone"] = round(self.clip.tone, 3)
        return {"file": self.file} | columns | {"place": self.background, "licence": LICENCE}


def sample_recordings(num: int, seed: int = SEED) -> list[Recording]:
    """Clips of all phenomena in rotation, of increasing intensity and random tone; formats and backgrounds rotate."""
    rng, tones = np.random.default_rng(seed), np.random.default_rng([seed, 1]).random(num)
    num_levels = -(-num // len(PHENOMENA))
    levels = np.linspace(_MIN_INTENSITY, _MAX_INTENSITY, num_levels)
    recordings = []
    for number, clip_seed in enumerate(rng.integers(2**62, size=num)):
        step, name = divmod(number, len(PHENOMENA))
        kind = list(_AUDIO_FORMATS)[number % len(_AUDIO_FORMATS)]
        clip = Clip(PHENOMENA[name], float(levels[step]), int(clip_seed), float(tones[number]))
        background = BACKGROUNDS[(step + name) % len(BACKGROUNDS)]
        recordings.append(Recording(f"{clip.phenomenon}-{round(100 * clip.intensity):02}.{kind}", clip, background))
    return recordings


def write_sounds(folder: Path, num: int, seed: int = SEED) -> Iterator[int]:
    """Write clips and their metadata; yields the number of clips so far."""
    folder.mkdir(parents=True, exist_ok=True)
    recordings = sample_recordings(num, seed)
    for number, recording in enumerate(recordings, start=1):
        if not (folder / recording.file).exists():
            _write(folder / recording.file, _encode_audio(recording.clip.wave(), recording.file.rsplit(".")[-1]))
        yield number
    _write(folder / "sounds.csv", _csv([recording.metadata() for recording in recordings]))


def write_images(folder: Path, num: int, seed: int = SEED) -> Iterator[int]:
    """Write images, one half as loose files, the other in tars; yields the number of images so far."""
    (folder / "loose").mkdir(parents=True, exist_ok=True)
    pictures = list(enumerate(sample_scenes(num, seed, IMAGE_SHARES)))
    loose, in_tars = pictures[: num - num // 2], pictures[num - num // 2 :]
    for chunk in _chunks(loose):
        missing = [(number, scene) for number, scene in chunk if not (folder / "loose" / _file(number)).exists()]
        for name, data in _image_files(missing):
            _write(folder / "loose" / name, data)
        yield chunk[-1][0] + 1
    for chunk in _chunks(in_tars):
        if not (path := folder / f"images-{chunk[0][0]:05}.tar").exists():
            _write(path, _tar(chunk))
        yield chunk[-1][0] + 1
    _write(
        folder / "loose" / "images.csv", _csv([{"file": _file(number)} | _metadata(scene) for number, scene in loose])
    )


def _chunks(pictures: list[Numbered]) -> list[list[Numbered]]:
    return [pictures[first : first + _PER_TAR] for first in range(0, len(pictures), _PER_TAR)]


def _file(number: int) -> str:
    return f"{number:05}.{list(_IMAGE_FORMATS)[number % len(_IMAGE_FORMATS)]}"


def _metadata(scene: Scene) -> dict[str, Any]:
    columns = {"label": scene.phenomenon, "place": scene.background, "composition": scene.composition}
    level = round(scene.intensity, 3) if scene.phenomenon else None
    caption = scene.caption() if scene.phenomenon else f"a {scene.background}"
    tone = round(scene.tone, 3) if scene.phenomenon else None
    return {**columns, "caption": caption, "intensity": level, "tone": tone, "licence": LICENCE}


def _image_files(pictures: Sequence[Numbered]) -> Iterator[tuple[str, bytes]]:
    """Names and bytes of image files."""
    rendered = render([scene for _, scene in pictures]).pixels
    for (number, _), pixels in zip(pictures, rendered, strict=True):
        name = _file(number)
        yield name, encode(pixels, _IMAGE_FORMATS[name.rsplit(".")[-1]])


def _tar(pictures: Sequence[Numbered]) -> bytes:
    """A webdataset tar: each image, followed by its metadata as JSON."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for (name, data), (_, scene) in zip(_image_files(pictures), pictures, strict=True):
            metadata = json.dumps(_metadata(scene), sort_keys=True).encode()
            for member, content in ((name, data), (f"{name.split('.')[0]}.json", metadata)):
                entry = tarfile.TarInfo(member)  # with the default time and owner, for byte-identical files
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    return file.getvalue()


def _encode_audio(wave: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE_HZ, format=kind.upper(), subtype=_AUDIO_FORMATS[kind])
    return _without_serial_number(file.getvalue()) if kind == "ogg" else file.getvalue()


def _without_serial_number(ogg: bytes) -> bytes:
    """An Ogg file with the stream serial number 0 instead of a random one.

    Source: RFC 3533, section 6: serial number at byte 14, checksum at 22, segment count at 26, segment sizes after it.
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
    """The CRC-32 of RFC 3533: zlib's polynomial with reversed bits, initial value 0 and no final inversion."""
    reversed_crc = zlib.crc32(page.translate(_REVERSED_BITS), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return int(f"{reversed_crc:032b}"[::-1], 2)


def _csv(rows: Sequence[dict[str, Any]]) -> bytes:
    file = io.StringIO()
    table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue().encode()


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    partial = path.with_name(f".{path.name}.part")
    partial.write_bytes(data)
    partial.replace(path)
