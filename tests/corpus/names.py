"""Names that shells, globs, tables and file systems read in ways of their own."""

import os
from functools import partial
from pathlib import Path

from tests.corpus.pictures import drawing, saved
from tests.corpus.tars import NOT_UTF8
from tests.corpus.waves import encoded, tone

_STEMS = (
    "a b",
    " blank first",
    "blank last ",
    "100%",
    "a%20b",
    "a%2fb",
    "[1]",
    "{1,2}",
    "a*b",
    "a?b",
    "it's",
    '"quoted"',
    "a,b",
    "a;b",
    "a#b",
    "a&b<c>",
    "a=b",
    "a|b",
    "a:b",
    "a::b",
    "http:",
    "-dash",
    "--set",
    "~",
    "$HOME",
    "`id`",
    "(1)",
    "two.dots",
    "two..dots",
    "1",
    "nan",
    "null",
    "file",
    "caf\u00e9",
    "cafe\u0301",
    "\u96e8",
    "\N{CLOUD WITH RAIN}",
    "\u05d2\u05e9\u05dd",
    "n" * 246,
)
NAMES = (*(f"{stem}.wav" for stem in _STEMS), "LOUD.WAV", "Quiet.Wav")
FOLDERS = ("folder.wav", "[v2]", "a b/c%20d", "caf\u00e9")
"""Folders, each of which has a recording `in.wav`."""

HIDDEN = (".hidden.wav", "._rain.wav")
"""Files that are left aside: macOS writes the second beside `rain.wav` on foreign disks."""


def write_names(folder: Path) -> dict[str, str]:
    """Recordings of all these names; returns the label of each, by its path below the folder."""
    paths = [*NAMES, *(f"{parent}/in.wav" for parent in FOLDERS)]
    for number, name in enumerate(paths):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded("WAV", wave=partial(tone, length_s=0.1, first_hz=500.0 + number)))
    for name in HIDDEN:
        (folder / name).write_bytes(b"\0\5\x16\7")
    return {name: f"label of {name}" for name in paths}


def write_no_files(folder: Path, suffix: str) -> dict[str, str]:
    """Names that cannot be read, and links; returns a part of each reject's sentence.

    A pipe and a link to a device would block a reader for ever.
    """
    (folder / f"{NOT_UTF8}.{suffix}").write_bytes(b"whatever")
    (folder / f"nowhere.{suffix}").symlink_to(folder / "gone")
    (folder / f"itself.{suffix}").symlink_to(f"itself.{suffix}")
    (folder / f"endless.{suffix}").symlink_to("/dev/zero")
    (folder / "round").symlink_to(folder)
    os.mkfifo(folder / f"pipe.{suffix}")
    no_files = {f"endless.{suffix}": "device", f"pipe.{suffix}": "device"}
    return {rf"caf\xe9.{suffix}": "UTF-8", f"nowhere.{suffix}": "link", f"itself.{suffix}": "link"} | no_files


def write_linked(folder: Path) -> str:
    """A link to a recording outside of the folder, which counts as the recording; returns its name."""
    (folder.parent / "elsewhere.wav").write_bytes(encoded("WAV", wave=partial(tone, first_hz=900.0)))
    (folder / "linked.wav").symlink_to("../elsewhere.wav")
    return "linked.wav"


ASIDE = {"notes.md": b"Buy milk.", "Thumbs.db": bytes(90), ".DS_Store": bytes(90), "no-suffix": b"rain"}
"""Files that are neither recordings nor images."""

UNREADABLE = {
    "phone.heic": (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(400), "convert"),
    "photo.jxl": (b"\xff\x0a" + bytes(400), "convert"),
    "photo.cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(400), "convert"),
    "layers.psd": (b"8BPS\0\1" + bytes(400), "convert"),
    "icon.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "convert"),
}
"""Images by their names that Pillow cannot read: their contents, and a part of the remedy."""


def picture_files() -> dict[str, bytes]:
    """A picture whose name is not that of its format, and one with sidecars."""
    return {
        "really-png.jpg": saved("PNG", lambda: drawing()[::-1].copy()),
        "with-sidecar.png": saved("PNG", lambda: drawing()[:, ::-1].copy()),
    }


SIDECARS = {
    "with-sidecar.json": b'{"label": "rain", "license": "CC0", "score": NaN}',
    "with-sidecar.txt": b"heavy rain",
}
