"""Index: the images' vectors become searchable; more images make a new version that has grown."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.identity import seed_of
from aai.retrieve.index import VectorIndex, build_index, choose_kind, load_index
from aai.workspace import Artifact, subtract
from tasks.runtime.arrow import to_array
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run

_FILE, _NUMBERS = "images.faiss", "numbers.npy"


def build(run: Run) -> StageSummary:
    """Make the index, or a grown version of it where images are not in the newest.

    Raises:
        BadConfig: there are no image vectors.
    """
    table = run.workspace.table("image_vectors")
    recipe = run.recipe("image_vectors")
    ids = table.ids(recipe)
    if not len(ids):
        raise BadConfig("images: none of them could be used: look into the table `rejects`")
    newest = newest_version(run)
    if newest is None:
        return run.make_artifact("index", 1, lambda folder: _write(run, folder, None, ids))
    known = pa.chunked_array([_known_ids(newest)])
    new = subtract(ids, known)
    if not len(new):
        return run.make_artifact("index", newest.version, lambda folder: 0)
    return run.make_artifact("index", newest.version + 1, lambda folder: _write(run, folder, newest, new))


def newest_version(run: Run) -> Artifact | None:
    """The index as it is now, if there is one."""
    recipe = run.recipe("index")
    found = [each for each in run.workspace.artifacts() if (each.name, each.recipe) == ("index", recipe)]
    return max(found, key=lambda each: each.version, default=None)


def open_index(run: Run, artifact: Artifact) -> VectorIndex:
    """The index, in memory.

    Raises:
        BadConfig: its file is damaged.
    """
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return load_index(artifact.fetch(Path(folder)) / _FILE)


def _known_ids(artifact: Artifact) -> pa.Array:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        return pa.array(np.load(artifact.fetch(Path(folder)) / _NUMBERS, allow_pickle=False).tolist(), pa.string())


def _write(run: Run, folder: Path, before: Artifact | None, ids: pa.ChunkedArray) -> int:
    """Write the index of some images, on top of what an earlier version holds."""
    chosen = pc.field("image_id").isin(ids.combine_chunks())
    rows = run.workspace.table("image_vectors").read(
        ["image_id", "number", "vector"], run.recipe("image_vectors"), chosen
    )
    rows = rows.sort_by("image_id")  # the order of commits is chance
    vectors, numbers = to_array(rows["vector"]), rows["number"].to_numpy()
    names = rows["image_id"].to_pylist()
    options = run.config.index
    index = open_index(run, before) if before else None
    if index is not None and choose_kind(len(index) + len(vectors), options) == index.kind:
        index.add(vectors, numbers)
        names = [*_known_ids(before).to_pylist(), *names] if before else names
    elif index is None:
        index = build_index(vectors, numbers, options, seed_of(run.config.seed, "index", "", "training"))
    else:
        return _write(run, folder, None, run.workspace.table("image_vectors").ids(run.recipe("image_vectors")))
    index.save(folder / _FILE)
    np.save(folder / _NUMBERS, np.array(names))
    return rows.num_rows
