"""The clips of a comparison, with what is known of them."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from aai.errors import BadConfig
from aai.jobs.selection import CueFilter, labels_of, labels_sentence, remark_on, select_cues
from aai.metrics import DEGREES, JUDGE_PHENOMENON
from tasks.evaluate.options import ComparisonOptions
from tasks.runtime.run import Run

_COLUMNS = (
    "clip_id", "label", "caption", "licence", "attributes", "uri", "offset", "num_bytes", "content_id", "start_s",
    "duration_s",
)  # fmt: skip
_MAX_LABELS = 10
_REASONS = """
    SELECT r.id, arg_max(r.sentence, r.rejected_at) AS sentence FROM rejects r SEMI JOIN lacking l ON r.id = l.id
    WHERE r.part_of IS NULL GROUP BY r.id
"""
_WITH_VECTORS = "SELECT c.* FROM present_clips c SEMI JOIN aligned_vectors v ON c.clip_id = v.clip_id ORDER BY clip_id"


def chosen_clips(run: Run, options: ComparisonOptions, notes: list[str]) -> pa.Table:
    """The clips that a comparison is about, sorted by id; it is noted where some that meet the conditions are left out.

    Raises:
        BadConfig: none does, or the condition cannot be used.
        Transient: the store failed.
    """
    chosen = options.clips
    cue_filter = CueFilter(labels=chosen.labels, clip_ids=chosen.clip_ids, where=chosen.where)
    with run.query() as query:
        found = select_cues(query, cue_filter, _COLUMNS, "clips", run.config.run.filter_s, query.reader(_WITH_VECTORS))
        if not found.num_rows:
            ids = ", ".join(map(repr, chosen.clip_ids[:_MAX_LABELS]))
            which = f"has the id {ids}: the table `clips` has the ids" if ids else labels_sentence(labels_of(query))
            raise BadConfig(f"no clip {'' if ids else 'meets the conditions; '}{which}", key="clips")
        if remark := remark_on(cue_filter, found, labels_of(query), "clips"):
            notes.append(remark)
    if found.num_rows > chosen.limit:
        notes.append(f"{chosen.limit:,} of {found.num_rows:,} clips are compared: raise clips.limit for more")
    return _evenly(found, chosen.limit)


def reasons_without_cue(run: Run, clip_ids: Sequence[str]) -> Counter[str]:
    """How many of some clips without a cue were rejected for which reason; those that were not, for none."""
    found: dict[str, str] = {}
    for table in ("neighbours", "cues"):
        if table in run.recipes:
            of_table, lacking = {"rejects": run.recipe(table)}, pa.table({"id": pa.array(clip_ids, pa.string())})
            with run.query(of_table, extra={"lacking": lacking}) as query:
                rows = query.table(_REASONS).to_pylist()
            found |= {row["id"]: row["sentence"] for row in rows}
    return Counter(found.get(clip_id, "there is no cue") for clip_id in clip_ids)


def truths_of(clips: pa.Table, notes: list[str]) -> dict[str, np.ndarray]:
    """The clips' own degrees in their metadata, by column: NaN where there is none, or no number, which is noted."""
    attributes = [json.loads(text or "{}") for text in clips["attributes"].to_pylist()]
    truths = {}
    for name in (str(metric.truth) for metric in DEGREES.values()):
        given = [row.get(name) for row in attributes]
        truths[name] = np.array([_number(value) for value in given])
        wrong = [value for value, own in zip(given, truths[name], strict=True) if value is not None and math.isnan(own)]
        if wrong:
            notes.append(f"{name}: values in the metadata that are no numbers: {len(wrong):,}, such as {wrong[0]!r}")
    return truths


def own_images(run: Run, clips: pa.Table, num_notes: list[str]) -> dict[str, dict[str, Any]]:
    """The image file with the name of each clip's recording, as `a.jpg` for `a.flac`, by clip.

    Raises:
        Transient: the store failed.
    """
    stem = r"regexp_extract({}.uri, '([^/]*?)(\.[^./]*)?$', 1)"
    with run.query(extra={"selected": clips.select(["clip_id", "uri"])}) as query:
        rows = query.table(
            'SELECT s.clip_id, i.image_id, i.uri, i."offset", i.num_bytes FROM selected s '
            f"JOIN (SELECT * FROM present_images) i ON {stem.format('s')} = {stem.format('i')} ORDER BY i.image_id DESC"
        ).to_pylist()
    found = {row["clip_id"]: row for row in rows}
    if len(found) < clips.num_rows:
        num_notes.append(f"{clips.num_rows - len(found):,} clips have no image of their own, and no IIS")
    return found


def notes_on_labels(clips: pa.Table, rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Which clips have no label, or one that the judge does not know, as some metrics leave them out.

    Args:
        clips: the compared clips.
        rows: the metrics of pictures, each with its `clip_id`.
    """
    labels = dict(zip(clips["clip_id"].to_pylist(), clips["label"].to_pylist(), strict=True))
    notes = []
    if num := sum(not label for label in labels.values()):
        notes.append(f"clips without a label: {num:,}; phenomenon, CLIPScore, AIC and rank correlations leave them out")
    judged = {row["clip_id"] for row in rows if any(row.get(name) is not None for name in DEGREES)}
    known = {row["clip_id"] for row in rows if row.get(JUDGE_PHENOMENON) is not None}
    unknown = Counter(labels[clip_id] for clip_id in judged - known if labels[clip_id])
    if unknown:
        shown = ", ".join(f"{label} ({num:,})" for label, num in unknown.most_common(_MAX_LABELS))
        more = f" and {len(unknown) - _MAX_LABELS:,} more" if len(unknown) > _MAX_LABELS else ""
        notes.append(f"labels that the judge does not know, of {unknown.total():,} clips: {shown}{more}")
    return notes


def _evenly(clips: pa.Table, num: int) -> pa.Table:
    """Up to `num` clips, as many of each label as possible: those with the smallest ids."""
    taken: dict[str | None, int] = {}
    order = []
    for number, label in enumerate(clips["label"].to_pylist()):
        order.append((taken.get(label, 0), number))
        taken[label] = taken.get(label, 0) + 1
    chosen: Sequence[int] = sorted(number for _, number in sorted(order)[:num])
    return clips.take(pa.array(chosen, pa.int64()))


def _number(value: Any) -> float:
    try:
        number = float(math.nan if value is None else value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan
