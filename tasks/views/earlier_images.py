"""Clips whose images were chosen when there were fewer: a build leaves them as they are."""

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pyarrow as pa

from aai.retrieve.options import INDEX_FACTS, RetrieveOptions
from tasks.runtime.run import Run

_MAX_READERS = 16  # a bank that is built every night has hundreds of versions

_CHOSEN = """
    SELECT n.index_version AS version, count(*) AS num FROM neighbours n
    SEMI JOIN present_audio_ids p ON n.clip_id = p.id GROUP BY n.index_version
"""
_IMAGES = "SELECT count(*) FROM image_vectors v SEMI JOIN present_image_ids p ON v.image_id = p.id"


def earlier_images(run: Run, num_coming: int = 0, extra: Mapping[str, pa.Table] | None = None) -> list[str]:
    """A sentence on the present clips that chose from fewer images than there are; none if there are no such clips.

    Args:
        run: the run.
        num_coming: images that a build will add.
        extra: tables in memory that hide stored ones of the same name.

    Raises:
        Transient: the store failed.
    """
    if "neighbours" not in run.recipes:
        return []
    with run.query(extra=extra) as query:
        num_images = query.number(_IMAGES) + num_coming
        clips = {row["version"]: row["num"] for row in query.table(_CHOSEN).to_pylist()}
    with ThreadPoolExecutor(_MAX_READERS) as readers:
        numbers = dict(zip(clips, readers.map(partial(_num_images, run), clips), strict=True))
    earlier = {version: num for version, num in numbers.items() if num is None or num < num_images}
    if not earlier:
        return []
    num, total = sum(clips[version] for version in earlier), sum(clips.values())
    round_ = run.config.options(RetrieveOptions).round + 1
    there_are = f"after this build there are up to {num_images:,}" if num_coming else f"there are {num_images:,} now"
    return [
        f"{num:,} of {total:,} clips chose their images from {_range(list(earlier.values()))}, and {there_are}: "
        f"`retrieve.round: {round_}` lets all clips choose anew, and makes what follows from it again"
    ]


def _num_images(run: Run, version: int) -> int | None:
    """The number of images in a version of the index; None if it has been removed."""
    index = run.workspace.artifact("index", run.recipe("index"), version)
    try:
        return int(json.loads(index.read(INDEX_FACTS))["num_images"])
    except FileNotFoundError:
        return None


def _range(numbers: Sequence[int | None]) -> str:
    known = sorted({number for number in numbers if number is not None})
    if not known:
        return "an index that has been removed"
    return f"{known[0]:,}" + (f" to {known[-1]:,}" if len(known) > 1 else "")
