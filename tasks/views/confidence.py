"""Clips whose confidence is low: the encoders do not know their sounds, or the bank has no images of them."""

from collections.abc import Mapping

import pyarrow as pa

from aai.align.confidence import LOW
from tasks.runtime.run import Run

_REMEDY = f'look at their images, or leave them out of jobs by `cues: "confidence >= {LOW:g}"`'

MIN_IMAGES = 20
"""With fewer, the confidence of known and unknown sounds is hardly told apart (docs/decisions/0012)."""

_COUNTS = f"""
    SELECT count(*) AS num, count(*) FILTER (confidence < {LOW}) AS low, min(num_others) AS num_images
    FROM confidences s SEMI JOIN present_audio_ids p ON s.clip_id = p.id
"""


def doubts(run: Run, extra: Mapping[str, pa.Table] | None = None, has_remedy: bool = True) -> list[str]:
    """Sentences on present clips with a low confidence, and on confidences that say little as there were few images.

    Args:
        run: the run.
        extra: tables in memory that hide stored ones of the same name.
        has_remedy: whether a sentence says what to do; a tile has no room for it.

    Raises:
        Transient: the store failed.
    """
    if "confidences" not in run.recipes:
        return []
    with run.query(extra=extra) as query:
        [counts] = query.table(_COUNTS).to_pylist()
    found = []
    if counts["low"]:
        remedy = f": {_REMEDY}" if has_remedy else ""
        found.append(f"{counts['low']:,} of {counts['num']:,} clips have a confidence below {LOW:g}{remedy}")
    if counts["num"] and counts["num_images"] < MIN_IMAGES:
        num = counts["num_images"]
        found.append(f"confidences were measured with {num} images; with fewer than {MIN_IMAGES} they say little")
    return found
