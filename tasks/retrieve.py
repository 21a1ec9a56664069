"""Retrieve: for each clip a few images that fit it."""

from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig
from aai.retrieve import query_mean, retrieve
from aai.workspace import SCHEMAS
from tasks.columns import to_array
from tasks.index import newest_version, open_index
from tasks.run import Run
from tasks.slices import Outcome
from tasks.sources import TableSource
from tasks.stage import StageSummary


def retrieve_images(run: Run) -> StageSummary:
    """Choose images for every clip that has none of this recipe."""
    source = TableSource(run.workspace, "aligned_vectors", run.recipe("aligned_vectors"), ("clip_id", "vector"))
    return run.drive("neighbours", source, partial(Retriever, run))


class Retriever:
    """The newest index, loaded once per worker: aligned vectors in, neighbours out.

    Raises:
        BadConfig: there is no index.
    """

    def __init__(self, run: Run) -> None:
        artifact = newest_version(run)
        if artifact is None:
            raise BadConfig("images: there is no index of them yet: build it first")
        self.options, self.version, self.index = run.config.retrieve, artifact.version, open_index(run, artifact)
        self.images, self.recipe = run.workspace.table("image_vectors"), run.recipe("image_vectors")
        aligned = run.workspace.table("aligned_vectors").read(["clip_id", "vector"], run.recipe("aligned_vectors"))
        # In the order of ids, as the mean of the same clips in the order of commits differs in its last bits.
        self.mean = query_mean(to_array(aligned.sort_by("clip_id")["vector"]), self.options)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        names: dict[int, str] = {}

        def vectors_of(numbers: np.ndarray) -> np.ndarray:
            found = self.images.read(["number", "vector", "image_id"], self.recipe, pc.field("number").isin(numbers))
            stored = found["number"].to_numpy()
            names.update(zip(stored.tolist(), found["image_id"].to_pylist(), strict=True))
            order = np.argsort(stored)
            places: np.ndarray = order[np.searchsorted(stored, numbers, sorter=order)]
            return to_array(found["vector"])[places]

        chosen = retrieve(to_array(rows["vector"]), self.index.search, vectors_of, self.options, self.mean)
        made = {
            "clip_id": rows["clip_id"].to_pylist(),
            "image_ids": [[names[number] for number in each.numbers.tolist()] for each in chosen],
            "similarities": [each.similarities.tolist() for each in chosen],
            "index_version": [self.version] * len(chosen),
        }
        return Outcome(pa.table(made, schema=SCHEMAS["neighbours"].columns))
