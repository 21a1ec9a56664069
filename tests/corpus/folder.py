"""The corpus as folders, `sounds` and `images`, with a table of metadata, and what a build must make of it."""

import csv
from dataclasses import dataclass, field
from pathlib import Path

from tests.corpus.broken_images import BROKEN_IMAGES
from tests.corpus.broken_sounds import BROKEN_SOUNDS
from tests.corpus.cases import UNSAID, Broken, Picture, Said, Sound
from tests.corpus.images import IMAGES
from tests.corpus.names import (
    ASIDE,
    HIDDEN,
    SIDECARS,
    UNREADABLE,
    picture_files,
    write_linked,
    write_names,
    write_no_files,
)
from tests.corpus.sounds import SOUNDS
from tests.corpus.tars import ALL_TARS, BROKEN_TARS


@dataclass
class Expected:
    """What must become of files, by their paths below the corpus; members of tars as `images/a.tar#0.png`."""

    used: dict[str, Said] = field(default_factory=dict)
    """Label, caption and licence."""
    rejects: dict[str, str] = field(default_factory=dict)
    """Parts of the sentences."""
    aside: list[str] = field(default_factory=list)


def write_corpus(folder: Path) -> Expected:
    """Write all files, and `labels.csv`, in which one row names no file that is there."""
    expected = Expected()
    for kind in ("sounds", "images"):
        (folder / kind).mkdir()
    _write_cases(folder, "sounds", SOUNDS, BROKEN_SOUNDS, expected)
    _write_cases(folder, "images", IMAGES, BROKEN_IMAGES, expected)
    _write_tars(folder / "images", expected)
    _write_names(folder, expected)
    _write_table(folder / "labels.csv", expected)
    return expected


def _write_cases(
    folder: Path,
    kind: str,
    good: tuple[Sound, ...] | tuple[Picture, ...],
    broken: tuple[Broken, ...],
    expected: Expected,
) -> None:
    for case in good:
        (folder / kind / case.name).write_bytes(case.data())
        expected.used[f"{kind}/{case.name}"] = (f"label of {case.name}", None, f"licence of {case.name}")
    for wrong in broken:
        (folder / kind / wrong.name).write_bytes(wrong.data())
        expected.rejects[f"{kind}/{wrong.name}"] = wrong.sentence


def _write_tars(folder: Path, expected: Expected) -> None:
    for tar in ALL_TARS:
        (folder / tar.name).write_bytes(tar.data())
        expected.used |= {f"images/{tar.name}#{name}": said for name, said in tar.good.items()}
        expected.rejects |= {f"images/{tar.name}#{name}": sentence for name, sentence in tar.faults.items()}
        expected.aside += [f"images/{tar.name}#{name}" for name in tar.aside]
    for broken in BROKEN_TARS:
        (folder / broken.name).write_bytes(broken.data())
        expected.rejects[f"images/{broken.name}"] = broken.sentence


def _write_names(folder: Path, expected: Expected) -> None:
    sounds, images = folder / "sounds", folder / "images"
    labels = write_names(sounds / "names")
    expected.used |= {f"sounds/names/{name}": (label, None, None) for name, label in labels.items()}
    expected.used[f"sounds/{write_linked(sounds)}"] = UNSAID
    for kind, suffix in (("sounds", "wav"), ("images", "png")):
        sentences = write_no_files(folder / kind, suffix)
        expected.rejects |= {f"{kind}/{name}": sentence for name, sentence in sentences.items()}
    files = picture_files() | {name: data for name, (data, _) in UNREADABLE.items()} | ASIDE | SIDECARS
    for name, data in files.items():
        (images / name).write_bytes(data)
    expected.used |= {"images/really-png.jpg": UNSAID, "images/with-sidecar.png": ("rain", "heavy rain", "CC0")}
    expected.rejects |= {f"images/{name}": sentence for name, (_, sentence) in UNREADABLE.items()}
    expected.aside += [f"images/{name}" for name in ASIDE] + [f"sounds/names/{name}" for name in HIDDEN]


def _write_table(path: Path, expected: Expected) -> None:
    """A row for each file that a table must describe: those with a label, no members and no sidecars."""
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file", "label", "licence"])
        table.writerows([name, said[0], said[2]] for name, said in expected.used.items() if _is_in_table(name, said))
        table.writerow(["sounds/gone.wav", "gone", ""])


def _is_in_table(name: str, said: Said) -> bool:
    return said[0] is not None and "#" not in name.replace("a#b", "") and name != "images/with-sidecar.png"
