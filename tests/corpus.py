"""Malformed files of every kind that collections have, beside good ones.

`write_corpus` writes them; `MALFORMED` has a part of each reject's sentence, by the file's name or a tar's
`name#member`.
"""

import io
import os
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from aai.media.images import encode
from aai.tiny.scenes import render, sample_scenes
from aai.tiny.sounds import SAMPLE_RATE_HZ, synthesise

GOOD_SOUNDS = ("rain.flac", "fire.wav", "folder.wav/clock.ogg", "really-flac.wav", "linked.wav")
GOOD_IMAGES = (
    "0.png",
    "1.jpg",
    "2.png/2.webp",
    "really-png.jpg",
    "animated.gif",
    "cmyk.jpg",
    "palette.png",
    "alpha.png",
)
GOOD_MEMBERS = 3
NOT_UTF8 = b"caf\xe9".decode("utf-8", "surrogateescape")
BOMB_PX = 50_000

MALFORMED = {
    # sounds
    "zero-bytes.wav": "empty",
    "cut.wav": "cut short",
    "cut.flac": "damaged",
    "cut.ogg": "cut short",
    "text.wav": "not a sound file",
    "page.mp3": "not a sound file",
    "picture.wav": "not a sound file",
    "random.mp3": "not a sound file",
    "silent.wav": "silent",
    "one-sample.wav": "too short",
    "no-samples.wav": "too short",
    "nan.wav": "NaN or infinite",
    "infinite.wav": "NaN or infinite",
    "unscaled.wav": "full scale",
    "slow.wav": "sample rate of 1 Hz",
    "fast.wav": "sample rate of 2000000000 Hz",
    "no-channels.wav": "damaged",
    "many-channels.wav": "channels",
    "ten-hours.flac": "too long",
    "claims-a-gigabyte.wav": "cut short",
    "phone.m4a": "MPEG-4",
    "movie.webm": "WebM",
    r"caf\xe9.wav": "UTF-8",
    "nowhere.wav": "link",
    "itself.wav": "link",
    # images
    "zero-bytes.png": "empty",
    "cut.png": "cut short",
    "cut.jpg": "cut short",
    "cut.webp": "damaged",
    "cut.gif": "cut short",
    "cut-cmyk.jpg": "cut short",
    "text.png": "not a JPEG",
    "page.jpg": "not a JPEG",
    "drawing.png": "not a JPEG",
    "sound.png": "not a JPEG",
    "bomb.png": "pixels",
    "bomb.bmp": "pixels",
    "no-frame.gif": "damaged",
    "one-pixel.png": "shorter",
    "rule.png": "shorter",
    "ribbon.png": "longer",
    "no-width.png": "damaged",
    "no-palette.png": "palette",
    "no-pixels.png": "damaged",
    "flipped-bit.png": "damaged",
    "floats.tif": "no defined range",
    "header.tif": "damaged",
    r"caf\xe9.png": "UTF-8",
    "nowhere.png": "link",
    "itself.png": "link",
    # tars, and what is in them
    "zero-bytes.tar": "empty",
    "text.tar": "not a tar",
    "nothing.tar": "no members",
    "compressed.tar": "compressed",
    "compressed.tar.gz": "compressed",
    "cut.tar#the end": "cut short",
    "torn-header.tar#the end": "damaged",
    "two-in-one.tar#the end": "damaged",
    "mixed.tar#../out.png": "leads out",
    "mixed.tar#/root.png": "leads out",
    "mixed.tar#twice.png": "second member",
    "mixed.tar#symbolic.png": "link",
    "mixed.tar#hard.png": "link",
    "mixed.tar#device.png": "device",
    "mixed.tar#pipe.png": "device",
    "mixed.tar#zero-bytes.png": "empty",
    "mixed.tar#text.png": "not a JPEG",
    r"mixed.tar#caf\xe9.png": "UTF-8",
    r"mixed.tar#line\nbreak.png": "line break",
    "mixed.tar#inner.tar": "tar within a tar",
    "huge.tar#the end": "cut short",
}


def write_corpus(folder: Path) -> Path:
    """Folders `sounds` and `images`, and `labels.csv`, of which some rows name no file."""
    sounds, images = folder / "sounds", folder / "images"
    for parent in (sounds / "folder.wav", images / "2.png"):
        parent.mkdir(parents=True)
    pixels = list(render(sample_scenes(8 + GOOD_MEMBERS, 79)).pixels)
    _write_sounds(sounds)
    _write_odd_sounds(sounds)
    _write_images(images, pixels)
    _write_odd_images(images)
    _write_tars(images, [encode(picture, "png") for picture in pixels[8:]])
    for parent, suffix in ((sounds, "wav"), (images, "png")):
        _write_odd_names(parent, suffix)
    rows = ["file,label", "sounds/rain.flac,rain", "sounds/fire.wav,", "", "sounds/gone.wav,gone", ",nameless"]
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def _write_sounds(folder: Path) -> None:
    """The good ones, and parts of them."""
    for number, name in enumerate(GOOD_SOUNDS[:3]):
        wave = synthesise(Path(name).stem, 0.6, 800 + number)
        soundfile.write(folder / name, wave, SAMPLE_RATE_HZ)
    flac = _sound(synthesise("rain", 0.9, 810), "FLAC")
    (folder / "really-flac.wav").write_bytes(flac)
    for suffix, name in (("wav", "WAV"), ("flac", "FLAC"), ("ogg", "OGG")):
        whole = _sound(synthesise("rain", 0.3, 811), name)
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    (folder.parent / "elsewhere.wav").write_bytes(_sound(synthesise("snow", 0.5, 812), "WAV"))
    (folder / "linked.wav").symlink_to("../elsewhere.wav")
    claimed = bytearray(flac)
    claimed[22:26] = struct.pack(">I", 36_000 * SAMPLE_RATE_HZ & 0xFFFFFFFF)  # the lower 32 of 36 bits of STREAMINFO
    (folder / "ten-hours.flac").write_bytes(claimed)


def _write_odd_sounds(folder: Path) -> None:
    tone = np.sin(np.arange(16_000) / 9).astype(np.float32) / 2
    silent, broken = np.zeros_like(tone), np.where(np.arange(16_000) == 9_000, np.nan, tone)
    infinite = np.where(np.arange(16_000) == 9_000, np.inf, tone)
    odd: dict[str, bytes] = {
        "zero-bytes.wav": b"",
        "text.wav": b"Buy milk.\n" * 40,
        "page.mp3": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "picture.wav": _picture("PNG", Image.new("RGB", (64, 64))),
        "random.mp3": np.random.default_rng(5).bytes(5_000).replace(b"\xff", b"\0"),
        "silent.wav": _sound(silent, "WAV"),
        "one-sample.wav": _sound(tone[1:2], "WAV"),
        "no-samples.wav": _sound(tone[:0], "WAV"),
        "nan.wav": _sound(broken, "WAV", "FLOAT"),
        "infinite.wav": _sound(infinite, "WAV", "FLOAT"),
        "unscaled.wav": _sound(tone * 30_000, "WAV", "FLOAT"),
        "slow.wav": _wav(1, 1, tone),
        "fast.wav": _wav(2_000_000_000, 1, tone),
        "no-channels.wav": _wav(16_000, 0, tone),
        "many-channels.wav": _wav(16_000, 500, tone),
        "claims-a-gigabyte.wav": _wav(16_000, 1, tone, claimed=2**30),
        "phone.m4a": b"\0\0\0\x20ftypM4A \0\0\0\0" + bytes(400),
        "movie.webm": b"\x1a\x45\xdf\xa3" + bytes(400),
    }
    for name, data in odd.items():
        (folder / name).write_bytes(data)


def _write_images(folder: Path, pixels: list[np.ndarray]) -> None:
    """The good ones, and parts of them."""
    pictures = [Image.fromarray(picture) for picture in pixels]
    wide = [picture.resize((256, 256)) for picture in pictures]
    alpha = pictures[7].convert("RGBA")
    alpha.putalpha(128)
    good = (
        _picture("PNG", pictures[0]),
        _picture("JPEG", pictures[1]),
        _picture("WEBP", pictures[2]),
        _picture("PNG", pictures[3]),
        _picture("GIF", pictures[4], save_all=True, append_images=pictures[:3]),
        _picture("JPEG", pictures[5].convert("CMYK")),
        _picture("PNG", pictures[6].convert("P")),
        _picture("PNG", alpha),
    )
    for name, data in zip(GOOD_IMAGES, good, strict=True):
        (folder / name).write_bytes(data)
    cut = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF"}
    for suffix, name in cut.items():
        whole = _picture(name, wide[0])
        (folder / f"cut.{suffix}").write_bytes(whole[: len(whole) // 2])
    whole = _picture("JPEG", wide[1].convert("CMYK"))
    (folder / "cut-cmyk.jpg").write_bytes(whole[: len(whole) // 2])
    flipped = bytearray(_picture("PNG", wide[2]))
    flipped[len(flipped) // 2] ^= 16
    (folder / "flipped-bit.png").write_bytes(flipped)


def _write_odd_images(folder: Path) -> None:
    bitmap = struct.pack("<2sIHHI", b"BM", 54, 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, 2**24, 2**24, 1, 24, *[0] * 6
    )
    odd: dict[str, bytes] = {
        "zero-bytes.png": b"",
        "text.png": b"Buy milk.\n" * 40,
        "page.jpg": b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
        "drawing.png": b"<svg xmlns='http://www.w3.org/2000/svg'><circle r='9'/></svg>",
        "sound.png": _sound(np.ones(900, np.float32) / 2, "WAV"),
        "bomb.png": _png(BOMB_PX, BOMB_PX, 2, zlib.compress(bytes(2**20))),
        "bomb.bmp": bitmap,
        "no-frame.gif": b"GIF89a" + struct.pack("<HH", 65_535, 65_535) + bytes(100),
        "one-pixel.png": _picture("PNG", Image.new("RGB", (1, 1))),
        "rule.png": _picture("PNG", Image.new("L", (600, 2))),
        "ribbon.png": _picture("PNG", Image.new("L", (40_000, 16))),
        "no-width.png": _png(0, 64, 2, zlib.compress(b"")),
        "no-palette.png": _png(64, 64, 3, zlib.compress(bytes(65 * 64))),
        "no-pixels.png": _png(64, 64, 2, b""),
        "floats.tif": _picture("TIFF", Image.fromarray(np.ones((64, 64), np.float32))),
        "header.tif": b"II*\0\xff\xff\xff\xff",
    }
    for name, data in odd.items():
        (folder / name).write_bytes(data)


def _write_odd_names(folder: Path, suffix: str) -> None:
    """Names and links; a pipe and a link to a device, which would block a reader for ever, are no files."""
    (folder / f"{NOT_UTF8}.{suffix}").write_bytes(b"whatever")
    (folder / f"nowhere.{suffix}").symlink_to(folder / "gone")
    (folder / f"itself.{suffix}").symlink_to(f"itself.{suffix}")
    (folder / f"endless.{suffix}").symlink_to("/dev/zero")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / f"pipe.{suffix}")


def _write_tars(folder: Path, pictures: list[bytes]) -> None:
    whole = _tar({f"{number}.png": data for number, data in enumerate(pictures)})
    torn, last = bytearray(whole), whole.rindex(b"2.png\0")
    torn[last : last + 8] = b"\xff" * 8
    huge = tarfile.TarInfo("huge.png")
    huge.size = 2**40
    odd: dict[str, bytes] = {
        "zero-bytes.tar": b"",
        "text.tar": b"Buy milk.\n" * 400,
        "nothing.tar": _tar({}),
        "compressed.tar": _tar({"0.png": pictures[0]}, "w:gz"),
        "compressed.tar.gz": _tar({"0.png": pictures[0]}, "w:gz"),
        "cut.tar": _tar({"0.png": pictures[0], "1.png": pictures[1]})[: 512 + len(pictures[0]) + 1_600],
        "torn-header.tar": bytes(torn),
        "two-in-one.tar": _tar({"0.png": pictures[0]}) + _tar({"1.png": pictures[1]}),
        "huge.tar": _tar({"0.png": pictures[0]}).rstrip(b"\0").ljust(-(-(512 + len(pictures[0])) // 512) * 512, b"\0")
        + huge.tobuf(),
        "mixed.tar": _mixed_tar(pictures),
    }
    for name, data in odd.items():
        (folder / name).write_bytes(data)


def _mixed_tar(pictures: list[bytes]) -> bytes:
    """Good members, one with a broken sidecar, among others that cannot be used."""
    members: list[tuple[str, bytes, bytes]] = [
        ("folder.png", tarfile.DIRTYPE, b""),
        *((f"{number}.png", tarfile.REGTYPE, data) for number, data in enumerate(pictures)),
        ("0.json", tarfile.REGTYPE, b'{"label": '),
        *((name, tarfile.REGTYPE, pictures[0]) for name in ("../out.png", "/root.png", "line\nbreak.png")),
        *(("twice.png", tarfile.REGTYPE, pictures[0]) for _ in range(2)),
        (f"{NOT_UTF8}.png", tarfile.REGTYPE, pictures[0]),
        ("symbolic.png", tarfile.SYMTYPE, b""),
        ("hard.png", tarfile.LNKTYPE, b""),
        ("device.png", tarfile.CHRTYPE, b""),
        ("pipe.png", tarfile.FIFOTYPE, b""),
        ("zero-bytes.png", tarfile.REGTYPE, b""),
        ("text.png", tarfile.REGTYPE, b"Buy milk."),
        ("inner.tar", tarfile.REGTYPE, _tar({"0.png": pictures[0]})),
    ]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", errors="surrogateescape") as archive:
        for name, kind, data in members:
            header = tarfile.TarInfo(name)
            header.type, header.size, header.linkname = kind, len(data), "/etc/passwd"
            archive.addfile(header, io.BytesIO(data))
    return file.getvalue()


def _tar(members: dict[str, bytes], mode: str = "w") -> bytes:
    file = io.BytesIO()
    opened: Callable[..., tarfile.TarFile] = tarfile.open
    with opened(fileobj=file, mode=mode) as archive:
        for name, data in members.items():
            header = tarfile.TarInfo(name)
            header.size = len(data)
            archive.addfile(header, io.BytesIO(data))
    return file.getvalue()


def _sound(wave: np.ndarray, kind: str, subtype: str | None = None) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, wave, SAMPLE_RATE_HZ, format=kind, subtype=subtype)
    return file.getvalue()


def _wav(rate_hz: int, channels: int, wave: np.ndarray, claimed: int | None = None) -> bytes:
    """A WAV file with this header, right or wrong."""
    data = (wave * 32_767).astype("<i2").tobytes()
    size = len(data) if claimed is None else claimed
    header = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * 2 & 0xFFFFFFFF, 2 * channels, 16)
    form = struct.pack("<4sI4s4sI", b"RIFF", 36 + size, b"WAVE", b"fmt ", len(header)) + header
    return form + struct.pack("<4sI", b"data", size) + data


def _picture(kind: str, image: Image.Image, **how) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **how)
    return file.getvalue()


def _png(width: int, height: int, colour: int, data: bytes) -> bytes:
    """A PNG file with this header, right or wrong."""
    header = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    parts = []
    for name, part in chunks:
        parts.append(struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)
