"""The licences of the files that an aligner is trained on, as their metadata give them."""

import numpy as np
import pyarrow as pa

from aai.align.pair_vectors import TRAIN, VALIDATION
from tasks.aligner.pairs import Pairs
from tasks.runtime.run import Run

_UNKNOWN = "not known"
_COUNTS = """
    SELECT coalesce(nullif(licence, ''), '{unknown}') AS licence, count(DISTINCT {file}) AS num
    FROM known_{table} k SEMI JOIN used u ON k.{key} = u.{key} GROUP BY ALL ORDER BY num DESC, licence
"""
_TABLES = {"sounds": ("clips", "clip_id", "content_id"), "images": ("images", "image_id", "image_id")}


def licences_of(run: Run, pairs: Pairs) -> dict[str, dict[str, int]]:
    """The number of recordings and of images by licence, in the pairs for training and validation.

    Raises:
        Transient: the store failed.
    """
    used = np.flatnonzero(np.isin(pairs.vectors.parts, (TRAIN, VALIDATION)))
    counts = {}
    with run.query(extra={"used": pairs.table.select(["clip_id", "image_id"]).take(pa.array(used))}) as query:
        for kind, (table, key, file) in _TABLES.items():
            rows = query.table(_COUNTS.format(unknown=_UNKNOWN, file=file, table=table, key=key)).to_pylist()
            counts[kind] = {row["licence"]: row["num"] for row in rows}
    return counts
