"""Videos as pairs: each window's sound and frames, extracted once into a folder beside the training."""

import io
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from glob import escape
from pathlib import Path

import soundfile

from aai.errors import BadConfig, BadItem
from aai.identity import content_id
from aai.media import images, video
from aai.media.options import IngestOptions
from aai.workspace.store import write_whole
from tasks.aligner.config import EXTRACTED, TrainingConfig, bank_of
from tasks.aligner.unpaired import first_of

_SIDECARS = (".json", ".txt", ".cls")
_QUALITY = 95
_NUM_THREADS = 2
_MAX_SHOWN = 8


def extract_videos(training: TrainingConfig) -> list[str]:
    """Extract the pairs of all videos that are not extracted yet; sentences about those that cannot be read.

    Raises:
        BadConfig: there are no videos, or PyAV is missing.
    """
    pairs, target = training.pairs, Path(training.output) / EXTRACTED
    assert pairs.videos is not None, "the caller checks"
    found = list(_videos(Path(pairs.videos)))
    if not found:
        names = ", ".join(sorted(video.VIDEO_SUFFIXES)[:6])
        raise BadConfig(f"no video is there ({names} and so on)", key="pairs.videos", uri=pairs.videos)
    window_s = bank_of(training).options(IngestOptions).audio.window_s
    num_frames = pairs.frames if pairs.frame == "label" else 1
    old = _extracted(target)
    try:
        gone = _remove_all_but(target, old, {_name(path) for path in found})
        with ThreadPoolExecutor(_NUM_THREADS) as threads:
            faults = list(threads.map(lambda path: _extract(path, target, old, (window_s, num_frames)), found))
    except OSError as error:
        raise BadConfig(f"it cannot be written ({error.strerror})", key="output", uri=str(target)) from error
    unusable = [(fault, path.name) for fault, path in zip(faults, found, strict=True) if fault]
    if len(found) == len(unusable):
        raise BadConfig(f"no video can be used: {_by_reason(unusable)}", key="pairs.videos", uri=pairs.videos)
    notes = [f"{gone:,} videos are no longer there, and their windows are removed"] if gone else []
    notes += [f"{len(unusable):,} of {len(found):,} videos cannot be used: {_by_reason(unusable)}"] if unusable else []
    return notes


def _by_reason(unusable: Sequence[tuple[str, str]]) -> str:
    """The reasons, the most frequent first, with their number and the names of some files."""
    names: dict[str, list[str]] = defaultdict(list)
    for reason, name in unusable:
        names[reason].append(name)
    reasons = sorted(names, key=lambda reason: -len(names[reason]))
    parts = [f"{len(own):,}: {reason} ({first_of(own, len(own))})" for reason in reasons if (own := names[reason])]
    rest = sum(len(names[reason]) for reason in reasons[_MAX_SHOWN:])
    return "; ".join(parts[:_MAX_SHOWN] + ([f"{rest:,} for other reasons"] if rest else []))


def _videos(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in video.VIDEO_SUFFIXES and not path.name.startswith("."):
            yield path


def _name(path: Path) -> str:
    """What the names of a video's windows begin with."""
    return f"{path.stem.replace('.', '_')}-{content_id(str(path.resolve()).encode())[:8]}"


def _extracted(target: Path) -> dict[str, list[Path]]:
    """The files of each video's windows."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in target.iterdir() if target.is_dir() else ():
        if not path.name.startswith("."):
            found[path.name.rpartition("-")[0]].append(path)
    return found


def _remove_all_but(target: Path, extracted: Mapping[str, list[Path]], names: set[str]) -> int:
    """Remove the windows of all videos that have other names; returns the number of these videos."""
    gone = [name for name in extracted if name not in names]
    for name in gone:
        _mark(target, name).unlink(missing_ok=True)
        for path in extracted[name]:
            path.unlink(missing_ok=True)
    return len(gone)


def _mark(target: Path, name: str) -> Path:
    return target / f".{name}.json"  # hidden, so that it is no sidecar


def _extract(path: Path, target: Path, extracted: Mapping[str, list[Path]], how: tuple[float, int]) -> str | None:
    """Extract a video unless that is done; why it cannot be used."""
    name, (window_s, num_frames) = _name(path), how
    try:
        made = _state(path) | {"window_s": window_s, "frames": num_frames}
    except OSError as error:
        return f"it cannot be read ({error.strerror}): mend its link, or delete it"
    known = _read(_mark(target, name))
    if known is not None and {key: known.get(key) for key in made} == made:
        fault = known.get("fault")
        return None if fault is None else str(fault)
    target.mkdir(parents=True, exist_ok=True)
    _mark(target, name).unlink(missing_ok=True)
    for old in extracted.get(name, ()):
        old.unlink(missing_ok=True)
    number = -1
    try:
        for number, excerpt in enumerate(video.excerpts(path, window_s, num_frames)):
            _write(target, f"{name}-{number:04}", excerpt, path)
    except BadItem as error:
        for each in range(number + 1):
            for written in target.glob(f"{escape(name)}-{each:04}.*"):
                written.unlink()
        if not isinstance(error.__cause__, OSError):  # another time the disk or the network may read it
            write_whole(_mark(target, name), json.dumps(made | {"fault": error.sentence}).encode())
        return error.sentence
    write_whole(_mark(target, name), json.dumps(made | {"fault": None}).encode())
    return None


def _state(path: Path) -> dict[str, object]:
    """What changes when a video or a file beside it does."""
    state = path.stat()
    beside = [(suffix, path.with_suffix(suffix)) for suffix in _SIDECARS]
    sidecars = [[suffix, own.stat().st_size, own.stat().st_mtime_ns] for suffix, own in beside if own.is_file()]
    return {"bytes": state.st_size, "changed": state.st_mtime_ns, "sidecars": sidecars}


def _write(target: Path, name: str, excerpt: video.Excerpt, path: Path) -> None:
    sound = io.BytesIO()
    soundfile.write(sound, excerpt.wave.clip(-1, 1), excerpt.rate_hz, format="FLAC", subtype="PCM_16")
    write_whole(target / f"{name}.flac", sound.getvalue())
    for number, pixels in enumerate(excerpt.frames):
        write_whole(target / f"{name}.{number:03}.jpg", images.encode(pixels, "jpeg", _QUALITY))
    for suffix in _SIDECARS:
        beside = path.with_suffix(suffix)
        if beside.is_file():
            write_whole(target / f"{name}{suffix}", beside.read_bytes())


def _read(path: Path) -> dict[str, object] | None:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
