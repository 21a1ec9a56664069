"""Retrieve: for each clip a few images that fit it."""

from collections.abc import Callable
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from aai.errors import BadConfig, BadItem
from aai.identity import seed_of
from aai.retrieve.neighbours import query_mean, retrieve
from aai.workspace import SCHEMAS
from tasks.index import newest_version, open_index
from tasks.runtime.arrow import to_array
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.tables import JoinedSource, TableSource, look_up
from tasks.runtime.work import Outcome, Reject, Worker


def retrieve_images(run: Run) -> StageSummary:
    """Choose images for every clip that has none of this recipe."""
    source = JoinedSource(
        TableSource(run.workspace, "aligned_vectors", run.recipe("aligned_vectors"), ("clip_id", "vector")),
        (TableSource(run.workspace, "clips", run.recipe("clips"), ("clip_id", "uri", "label")),),
    )
    return run.drive("neighbours", source, partial(_MAKERS[run.config.retrieve.method], run))


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


class LabelRetriever:
    """Images that have the clip's label, drawn at random: whatever else is heard plays no part."""

    def __init__(self, run: Run) -> None:
        labelled = run.workspace.table("images").read(["image_id", "label"], run.recipe("images")).sort_by("image_id")
        self.by_label: dict[str, list[str]] = {}
        for row in labelled.to_pylist():
            if row["label"]:
                self.by_label.setdefault(row["label"], []).append(row["image_id"])
        artifact = newest_version(run)
        self.version = artifact.version if artifact else 0
        self.num, self.seed, self.workspace = run.config.retrieve.num_neighbours, run.config.seed, run.workspace
        self.recipe = run.recipe("image_vectors")

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        chosen, rejects = {}, []
        for row in rows.to_pylist():
            try:
                chosen[row["clip_id"]] = self._choose(row["clip_id"], row["label"])
            except BadItem as error:
                rejects.append(Reject.of(row["clip_id"], error, row["uri"]))
        wanted = {image_id for ids in chosen.values() for image_id in ids}
        found = look_up(self.workspace, "image_vectors", self.recipe, wanted, ("vector",))
        seen = dict(zip(found["image_id"].to_pylist(), to_array(found["vector"]), strict=True))
        heard = dict(zip(rows["clip_id"].to_pylist(), to_array(rows["vector"]), strict=True))
        made = {
            "clip_id": list(chosen),
            "image_ids": list(chosen.values()),
            "similarities": [[float(seen[i] @ heard[clip_id]) for i in ids] for clip_id, ids in chosen.items()],
            "index_version": [self.version] * len(chosen),
        }
        return Outcome(pa.table(made, schema=SCHEMAS["neighbours"].columns), rejects)

    def _choose(self, clip_id: str, label: str | None) -> list[str]:
        """Some images of the clip's label.

        Raises:
            BadItem: it has none, or no image has it.
        """
        if not label:
            raise BadItem("it has no label, which retrieve.method `label` needs: give one in the metadata")
        images = self.by_label.get(label, [])
        if not images:
            raise BadItem(f"no image has its label {label!r}: give images labels in the metadata")
        rng = np.random.default_rng(seed_of(self.seed, "retrieve", clip_id, "label"))
        return [images[i] for i in rng.permutation(len(images))[: self.num]]


_MAKERS: dict[str, Callable[[Run], Worker]] = {"audio": Retriever, "label": LabelRetriever}
