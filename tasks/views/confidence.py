"""Clips whose confidence is low: the encoders do not know their sounds, or the bank has no images of them."""

from collections.abc import Mapping

import pyarrow as pa

from aai.align.confidence import LOW
from tasks.runtime.run import Run

REMEDY = f'look at their images, or leave them out of jobs by `cues: "confidence >= {LOW:g}"`'

_COUNTS = f"""
    SELECT count(*) AS num, count(*) FILTER (confidence < {LOW}) AS low
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
    if "confidences" not in run.recipes:
        return ""
    with run.query(extra=extra) as query:
        [counts] = query.table(_COUNTS).to_pylist()
    if not counts["low"]:
        return ""
    return f"{counts['low']:,} of {counts['num']:,} clips have a confidence below {LOW:g}"
