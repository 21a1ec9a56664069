"""Index: image vectors become searchable. New images make a new version of the artifact, grown from the last."""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from aai.errors import BadConfig
from aai.identity import seed_of
from aai.retrieve.image_index import ImageIndex, ImageIndexWriter, keeps_kind
from aai.retrieve.index import choose_kind, training_size
from aai.retrieve.options import IndexOptions
from aai.workspace import Query
from tasks.runtime.arrow import to_array
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.stage import Stage

_MEAN_GROWTH = 2
"""The mean query is computed again once the bank has this many times the clips it was computed from."""

_SCALE = 2**36
"""Vectors are summed in this fixed point: exact for 10^8 clips, and so independent of the order of commits."""

_HEX_DIGITS = 8

_PRESENT = "SELECT image_id AS id FROM image_vectors v SEMI JOIN present_image_ids p ON v.image_id = p.id"
"""Images that are in the source folders; the index leaves others out."""

_ALIGNED = "SELECT v.vector FROM aligned_vectors v SEMI JOIN present_audio_ids p ON v.clip_id = p.id"

_VECTORS = "SELECT v.image_id, v.vector FROM image_vectors v SEMI JOIN {wanted} w ON v.image_id = w.id"


def build_index(run: Run) -> StageSummary:
    """Make the index, or a new version where there are images, or many more clips, that the newest does not know.

    Raises:
        BadConfig: there are no image vectors.
    """
    newest = run.workspace.newest_artifact("index", run.recipe("index"))
    with tempfile.TemporaryDirectory() as folder:
        before = ImageIndex(newest.fetch(Path(folder)), newest.uri) if newest else None
        known = pa.table({"id": pa.array(before.all_ids() if before else [], pa.string())})
        with run.query(extra={"indexed": known}) as query:
            num_images = query.keep("wanted", _PRESENT)
            num_gone = query.number("SELECT count(*) FROM indexed i ANTI JOIN wanted w ON i.id = w.id")
            num_clips = query.number(f"SELECT count(*) FROM ({_ALIGNED})")
            num_new = query.keep("new_images", "SELECT id FROM wanted w ANTI JOIN indexed i ON w.id = i.id")
            if not num_images:
                raise BadConfig("no image could be used: look into the table `rejects`", key="images")
            is_grown = before is None or num_clips >= _MEAN_GROWTH * max(before.num_clips, 1)
            if newest and not (num_new or num_gone or is_grown):
                return run.make_artifact("index", newest.version, lambda folder, beat: 0)
            version = newest.version + 1 if newest else 1
            base = None if num_gone else before
            return run.make_artifact("index", version, lambda folder, beat: _write(run, query, base, folder, beat))


def _write(run: Run, query: Query, before: ImageIndex | None, folder: Path, beat: Callable[[], None]) -> int:
    """Write a version of the artifact, and return the number of images that were added."""
    options, num_images = run.config.options(IndexOptions), query.number("SELECT count(*) FROM wanted")
    if before and not keeps_kind(before, num_images, options):
        before = None
    sample = _sample(query, num_images, options)
    writer = ImageIndexWriter(
        folder, num_images, sample, options, seed_of(run.config.seed, "index", "", "training"), before
    )
    num_added, sql = 0, _VECTORS.format(wanted="new_images" if before else "wanted")
    for rows in query.batches(sql):
        writer.add(rows["image_id"].to_pylist(), to_array(rows["vector"]))
        num_added += rows.num_rows
        beat()
    writer.finish(*_mean_query(query, sample.shape[1]))
    return num_added


def _sample(query: Query, num_images: int, options: IndexOptions) -> np.ndarray:
    """Vectors to train on: those of the smallest ids, which are digests and so random; in the order of ids."""
    wanted = training_size(num_images, options) if choose_kind(num_images, options) != "exact" else 1
    limit = min(16**_HEX_DIGITS - 1, int(16**_HEX_DIGITS * wanted * 1.01 / num_images) + 1)
    where = f"substr(image_id, 1, {_HEX_DIGITS}) <= '{limit:0{_HEX_DIGITS}x}'" if wanted < num_images else "true"
    rows = list(query.batches(f"{_VECTORS.format(wanted='wanted')} WHERE {where}"))
    if not rows:
        rows = [query.table("SELECT image_id, vector FROM image_vectors LIMIT 1")]
    sample = pa.concat_tables(rows).sort_by("image_id")
    return to_array(sample["vector"])[:wanted]


def _mean_query(query: Query, dim: int) -> tuple[np.ndarray, int]:
    """The mean of all aligned vectors, and how many there are."""
    total, num = np.zeros(dim, np.int64), 0
    for rows in query.batches(_ALIGNED):
        vectors = to_array(rows["vector"]).astype(np.float64)
        total += np.rint(vectors * _SCALE).astype(np.int64).sum(axis=0)
        num += rows.num_rows
    return (total / _SCALE / max(num, 1)).astype(np.float32), num


INDEX = Stage(
    name="index",
    table="index",
    reads=("image_vectors", "aligned_vectors"),
    options=IndexOptions,
    is_seeded=True,
    make=build_index,
)
