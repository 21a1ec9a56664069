"""Clips whose confidence is low: the encoders do not know their sounds, or the bank has no images of them."""

from collections.abc import Mapping

import pyarrow as pa

from aai.align.confidence import LOW
from tasks.runtime.run import Run

REMEDY = f'look at their images, or leave them out of jobs by `cues: "confidence >= {LOW:g}"`'

MIN_IMAGES = 20
"""With fewer, the confidence of known and unknown sounds is hardly told apart (docs/decisions/0012)."""

_COUNTS = f"""
    SELECT count(*) AS num, count(*) FILTER (confidence < {LOW}) AS low, min(num_others) AS num_images
    FROM confidences s SEMI JOIN present_audio_ids p ON s.clip_id = p.id
"""


def low_confidences(run: Run, extra: Mapping[str, pa.Table] | None = None) -> str:
    """How many present clips have a low confidence, in words; empty if none has one.

    Args:
        run: the run.
        extra: tables in memory that hide stored ones of the same name.

    Raises:
        Transient: the store failed.
    """
    counts = _counted(run, extra)
    if not counts["low"]:
        return ""
    return f"{counts['low']:,} of {counts['num']:,} clips have a confidence below {LOW:g}"


def few_images(run: Run, extra: Mapping[str, pa.Table] | None = None) -> str:
    """That confidences say little because there were few images, in words; empty if there were enough.

    Args:
        run: the run.
        extra: tables in memory that hide stored ones of the same name.

    Raises:
        Transient: the store failed.
    """
    counts = _counted(run, extra)
    if not counts["num"] or counts["num_images"] >= MIN_IMAGES:
        return ""
    return (
        f"confidences were measured with {counts['num_images']:,} images; with fewer than {MIN_IMAGES} they say little"
    )


def _counted(run: Run, extra: Mapping[str, pa.Table] | None) -> dict[str, int]:
    if "confidences" not in run.recipes:
        return {"num": 0, "low": 0, "num_images": 0}
    with run.query(extra=extra) as query:
        [counts] = query.table(_COUNTS).to_pylist()
    return counts
