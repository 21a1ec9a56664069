"""A small comparison as `aai evaluate` writes it, made in no time."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from aai.media.images import encode
from aai.report.media import encode_mp3

METHODS = ("adapter", "mapper", "label")
PROMPT = "a photo of <b>*</b>"
RATE_HZ = 16_000


def write_comparison(folder: Path, num_clips: int = 4, methods: Sequence[str] = METHODS, side_px: int = 40) -> Path:
    """A folder with pictures of distinct colours; the mapper's of the first clip is the adapter's."""
    (folder / "pictures").mkdir(parents=True)
    (folder / "sounds").mkdir()
    rows = []
    for clip in range(num_clips):
        tone = 0.3 * np.sin(np.arange(RATE_HZ) * (0.1 + 0.05 * clip)).astype(np.float32)
        (folder / "sounds" / f"{clip}.mp3").write_bytes(encode_mp3(tone, RATE_HZ))
        for number, method in enumerate(methods):
            colour = 0 if (clip, method) == (0, "mapper") else number
            name = f"pictures/{clip}-{number}.png"
            (folder / name).write_bytes(encode(np.full((side_px, side_px, 3), 60 * colour + clip, np.uint8), "png"))
            row = {"clip_id": f"c{clip}", "clip_uri": f"/sounds/{clip}.wav", "sound": f"sounds/{clip}.mp3"}
            rows.append(
                row | {"label": "rain", "method": method, "prompt": PROMPT, "seed": 7, "photo": None, "image": name}
            )
    pq.write_table(pa.Table.from_pylist(rows), folder / "cells.parquet")
    return folder
