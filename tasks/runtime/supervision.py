"""Clips with the images that supervise their cues: what the stages `train_mapper` and `fit` read."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa

from aai.workspace import Query
from aai.workspace.keyed import KeyedRows

SUPERVISED_CLIPS = """
    SELECT v.clip_id, v.vector, n.image_ids, c.uri
    FROM aligned_vectors v JOIN neighbours n ON v.clip_id = n.clip_id
    JOIN (SELECT clip_id, uri FROM present_clips) c ON v.clip_id = c.clip_id
"""
"""Clips with aligned vectors and neighbours; `with_images` adds where the images are."""

_LOCATIONS = 'SELECT image_id, uri, "offset", num_bytes FROM present_images'
_SCHEMA = pa.schema(
    [("image_id", pa.string()), ("uri", pa.string()), ("offset", pa.int64()), ("num_bytes", pa.int64())]
)
_BATCH_ROWS = 65_536


def image_locations(query: Query, folder: Path) -> KeyedRows:
    """Where all present images are, in a file in the folder."""
    batches = query.batches(f"{_LOCATIONS} ORDER BY image_id", _BATCH_ROWS)
    return KeyedRows.on_disk(batches, _SCHEMA, "image_id", folder / "images.arrow")


def locations_of(query: Query, rows: pa.Table) -> KeyedRows:
    """Where the images of a few clips are, in memory."""
    query.keep_ids("wanted_images", sorted(set(rows["image_ids"].combine_chunks().flatten().to_pylist())))
    found = query.table(f"{_LOCATIONS} i SEMI JOIN wanted_images w ON i.image_id = w.id ORDER BY image_id")
    return KeyedRows(found.cast(_SCHEMA), "image_id")


def with_images(tables: Iterable[pa.Table], locations: KeyedRows) -> Iterator[pa.Table]:
    """Rows with a column `images`: id and location of each image; the location is null if the image is gone."""
    for rows in tables:
        lists = rows["image_ids"].combine_chunks()
        ids = lists.flatten()
        found = locations.take(ids)
        columns = [ids, *(found[name].combine_chunks() for name in _SCHEMA.names[1:])]
        images = pa.StructArray.from_arrays(columns, names=_SCHEMA.names)
        yield rows.append_column("images", pa.ListArray.from_arrays(_offsets(lists), images))


def _offsets(lists: pa.ListArray) -> pa.Array:
    """Offsets that begin at 0, because `flatten` leaves out what precedes a slice."""
    return pa.compute.subtract(lists.offsets, lists.offsets[0])
