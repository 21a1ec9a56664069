"""What ingestion leaves out of recordings: ends, silent windows and gaps that are in no clip."""

from collections.abc import Mapping

import pyarrow as pa

from tasks.runtime.run import Run

_PARTS = {
    "end_s": "at ends shorter than min_window_s",
    "silent_s": "in windows of silence or background noise",
    "between_s": "between windows",
}
_MIN_S = 0.05
"""Less than this is not worth a sentence: windows are cut at whole samples."""

_COUNTS = ", ".join(f"count(*) FILTER ({name} > 0) AS num_{name}, sum({name}) AS {name}" for name in _PARTS)
_EACH = ", ".join(f"any_value({name}) AS {name}" for name in _PARTS)
_SUMS = f"""
    SELECT {_COUNTS} FROM (
        SELECT content_id, {_EACH} FROM audio_files f
        SEMI JOIN present_audio_files p ON f.file_id = p.file_id GROUP BY content_id)
"""


def left_out(run: Run, extra: Mapping[str, pa.Table] | None = None) -> list[str]:
    """A sentence on the seconds of present recordings that are in no clip; none if all are in some.

    Args:
        run: the run.
        extra: tables in memory that hide stored ones of the same name.

    Raises:
        Transient: the store failed.
    """
    if "audio_files" not in run.recipes:
        return []
    with run.query(extra=extra) as query:
        [sums] = query.table(_SUMS).to_pylist()
    parts = [
        f"{sums[name]:,.1f} s {where} of {sums[f'num_{name}']:,} recordings"
        for name, where in _PARTS.items()
        if (sums[name] or 0) >= _MIN_S
    ]
    return [f"in no clip: {', '.join(parts)}; the table audio_files has the seconds of each"] if parts else []
