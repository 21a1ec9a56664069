"""Videos as pairs: each window's sound and frames, extracted once into a folder beside the training."""

import io
import json
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import soundfile

from aai.errors import BadConfig, BadItem
from aai.identity import content_id
from aai.media import images, video
from aai.media.options import IngestOptions
from aai.workspace.store import write_whole
from tasks.aligner.config import EXTRACTED, TrainingConfig, bank_of

_SIDECARS = (".json", ".txt", ".cls")
_QUALITY = 95
_NUM_THREADS = 2
_MAX_SHOWN = 3


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
    with ThreadPoolExecutor(_NUM_THREADS) as threads:
        faults = list(threads.map(lambda path: _extract(path, target, window_s, num_frames), found))
    reasons = Counter(fault for fault in faults if fault)
    if len(found) == sum(reasons.values()):
        raise BadConfig(f"no video can be used: {reasons.most_common(1)[0][0]}", key="pairs.videos", uri=pairs.videos)
    most = "; ".join(f"{num:,}: {reason}" for reason, num in reasons.most_common(_MAX_SHOWN))
    return [f"{sum(reasons.values()):,} of {len(found):,} videos cannot be used: {most}"] if reasons else []


def _videos(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")) if folder.is_dir() else ():
        if path.suffix.lower() in video.VIDEO_SUFFIXES and not path.name.startswith("."):
            yield path


def _extract(path: Path, target: Path, window_s: float, num_frames: int) -> str | None:
    """Extract a video unless that is done; why it cannot be used."""
    state = path.stat()
    name = f"{path.stem.replace('.', '_')}-{content_id(str(path.resolve()).encode())[:8]}"
    mark = target / f".{name}.json"  # hidden, so that it is no sidecar
    made = {"bytes": state.st_size, "changed": state.st_mtime_ns, "window_s": window_s, "frames": num_frames}
    known = _read(mark)
    if known is not None and {key: known.get(key) for key in made} == made:
        fault = known.get("fault")
        return None if fault is None else str(fault)
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob(f"{name}-*"):
        old.unlink()
    try:
        for number, excerpt in enumerate(video.excerpts(path, window_s, num_frames)):
            _write(target, f"{name}-{number:04}", excerpt, path)
        fault = None
    except BadItem as error:
        fault = error.sentence
    write_whole(mark, json.dumps(made | {"fault": fault}).encode())
    return fault


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
