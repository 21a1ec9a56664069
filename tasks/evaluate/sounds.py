"""The sounds of a comparison's clips, as files in its folder."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from aai.errors import BadItem
from aai.media import windows
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.report import media
from aai.workspace.store import write_whole
from tasks.evaluate.named_files import files_in
from tasks.runtime.run import Run

SOUNDS = "sounds"


def write_sounds(folder: Path, run: Run, clips: Sequence[dict[str, Any]], faults: list[str]) -> dict[str, str]:
    """Write the clips that are not there, as MP3 of at most 30 s; their paths relative to the folder, by clip.

    A clip whose recording cannot be read has none, and its fault is added to the others.

    Raises:
        OSError: the folder cannot be written to.
        Transient: the store failed.
    """
    (folder / SOUNDS).mkdir(exist_ok=True)
    there = files_in(folder / SOUNDS)

    def put(clip: dict[str, Any]) -> str | None:
        file = f"{clip['clip_id']}.mp3"
        name = f"{SOUNDS}/{file}"
        if file not in there:
            try:
                write_whole(folder / name, _mp3(run, clip))
            except BadItem as error:
                faults.append(error.sentence)
                return None
        return name

    with ThreadPoolExecutor() as threads:
        paths = dict(zip((clip["clip_id"] for clip in clips), threads.map(put, clips), strict=True))
    return {clip_id: path for clip_id, path in paths.items() if path}


def _mp3(run: Run, clip: dict[str, Any]) -> bytes:
    data = read_content(clip["uri"], clip["offset"], clip["num_bytes"], clip["content_id"])
    window = windows.Window(clip["start_s"], clip["duration_s"])
    wave, rate_hz = windows.decode_window(data, clip["uri"], window, run.config.options(IngestOptions).audio)
    return media.encode_mp3(*media.excerpt(wave, rate_hz))
