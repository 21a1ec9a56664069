"""Retrieve: for each clip the images nearest to it, near-duplicates left out."""

import numpy as np
import pyarrow as pa

from aai.errors import BadItem, Unlabelled
from aai.identity import seed_of
from aai.retrieve.index import faiss_build
from aai.retrieve.neighbours import retrieve
from aai.retrieve.options import RetrieveOptions
from aai.workspace import SCHEMAS
from tasks.runtime.arrow import to_array
from tasks.runtime.config import Config
from tasks.runtime.indexes import open_index
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Outcome, Reject, Worker

_NO_LABEL = "it has no label, which retrieve.method `label` needs: give one in the metadata"
_LABELLED = "SELECT image_id, label FROM present_images SEMI JOIN image_vectors USING (image_id) WHERE label <> ''"


class Retriever:
    """The newest index, loaded once per worker: aligned vectors in, neighbours out.

    Raises:
        BadConfig: there is no index.
    """

    def __init__(self, context: Context) -> None:
        self.images, self.version = open_index(context, self)
        self.images.index.use_gpus()
        self.options = context.options(RetrieveOptions)
        has_mean = self.images.num_clips >= self.options.min_bank_clips
        self.mean = self.images.query_mean if has_mean else None

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        images = self.images
        found = retrieve(to_array(rows["vector"]), images.index.search, images.vectors_of, self.options, self.mean)
        columns = {
            "clip_id": rows["clip_id"].to_pylist(),
            "image_ids": [images.ids_of(neighbours.numbers) for neighbours in found],
            "similarities": [neighbours.similarities.tolist() for neighbours in found],
            "index_version": [self.version] * len(found),
        }
        return Outcome(pa.table(columns, schema=SCHEMAS["neighbours"].columns))


class LabelRetriever:
    """Random images with the clip's label, as a baseline without audio."""

    def __init__(self, context: Context) -> None:
        self.images, self.version = open_index(context, self)
        self.num, self.seed = context.options(RetrieveOptions).num_neighbours, context.config.seed
        self.by_label: dict[str, list[str]] = {}
        with context.query() as query:
            for batch in query.batches(_LABELLED):
                for image_id, label in zip(batch["image_id"].to_pylist(), batch["label"].to_pylist(), strict=True):
                    self.by_label.setdefault(label, []).append(image_id)
        for ids in self.by_label.values():
            ids.sort()

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice."""
        chosen, similarities, rejects = {}, [], []
        for row in rows.to_pylist():
            try:
                ids = self._choose(row["clip_id"], row["label"])
            except BadItem as error:
                rejects.append(Reject.of(row["clip_id"], error, row["uri"]))
                continue
            chosen[row["clip_id"]] = ids
            similarities.append((self.images.vectors_by_id(ids) @ np.array(row["vector"], np.float32)).tolist())
        columns = {
            "clip_id": list(chosen),
            "image_ids": list(chosen.values()),
            "similarities": similarities,
            "index_version": [self.version] * len(chosen),
        }
        return Outcome(pa.table(columns, schema=SCHEMAS["neighbours"].columns), rejects)

    def _choose(self, clip_id: str, label: str | None) -> list[str]:
        """Images with the clip's label.

        Raises:
            Unlabelled: it has no label, or no image has it.
        """
        if not label:
            raise Unlabelled(_NO_LABEL, id=clip_id)
        ids = self.by_label.get(label, [])
        if not ids:
            raise Unlabelled(f'no image has its label "{label}": give images labels in the metadata', id=clip_id)
        rng = np.random.default_rng(seed_of(self.seed, "retrieve", clip_id, "label"))
        return [ids[number] for number in rng.permutation(len(ids))[: self.num]]


def _retriever(context: Context) -> Worker:
    return Retriever(context) if context.options(RetrieveOptions).method == "audio" else LabelRetriever(context)


def _searches_on_gpus() -> bool:
    return faiss_build() == "gpu"


def _settings(config: Config) -> dict[str, object]:
    """The options, with the seed where images are drawn at random; the first round is not named."""
    options = config.options(RetrieveOptions)
    settings = {name: value for name, value in options.settings().items() if (name, value) != ("round", 1)}
    return settings | ({"seed": config.seed} if options.method == "label" else {})


# A clip is retrieved again if one of its images has another label now; if it was rejected, once images have its label,
# or the reason is another one.
_OUTDATED = f"""
    SELECT n.clip_id FROM (SELECT clip_id, unnest(image_ids) AS image_id FROM neighbours) n
    JOIN (SELECT clip_id, label FROM present_clips) c ON n.clip_id = c.clip_id
    JOIN (SELECT image_id, label FROM known_images) i ON n.image_id = i.image_id
    WHERE c.label IS DISTINCT FROM i.label
    UNION
    SELECT r.id FROM rejects r JOIN (SELECT clip_id, label FROM present_clips) c ON r.id = c.clip_id
    WHERE r.error = '{Unlabelled.__name__}' AND (
        c.label IN (SELECT label FROM ({_LABELLED}))
        OR CASE WHEN c.label IS NULL THEN r.sentence <> $${_NO_LABEL}$$ ELSE strpos(r.sentence, c.label) = 0 END)
"""


def _outdated(config: Config) -> str:
    return _OUTDATED if config.options(RetrieveOptions).method == "label" else ""


NEIGHBOURS = Stage(
    name="retrieve",
    table="neighbours",
    reads=("aligned_vectors", "index"),
    rows="SELECT v.clip_id, v.vector, c.uri, c.label FROM aligned_vectors v JOIN present_clips c USING (clip_id)",
    items="SELECT clip_id FROM aligned_vectors v SEMI JOIN present_audio_ids p ON v.clip_id = p.id",
    options=RetrieveOptions,
    settings=_settings,
    worker=_retriever,
    outdated=_outdated,
    gpu=_searches_on_gpus,
    code_version=2,
)
