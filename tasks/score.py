"""Score: what the encoder, and where there is one the judge, find in the pictures."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Float32, UInt8
from PIL import Image

from aai import metrics
from aai.errors import BadItem
from aai.inject.prompt import UNNAMED, parse
from aai.media import images
from aai.workspace import SCHEMAS, Workspace
from aai.workspace.shards import read_picture
from tasks.runtime.arrow import to_array, to_lists
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.runtime.tables import TableSource, look_up
from tasks.runtime.work import Batched, Outcome, Reject

_WHERE = ("shard", "key", "offset", "num_bytes", "checksum")


Scores = Float[np.ndarray, " pictures"]
Pictures = Sequence[UInt8[np.ndarray, "height width 3"]]


def score(run: Run) -> StageSummary:
    """Measure every picture that has no scores of this recipe."""
    return run.drive("scores", RenderSource(run), partial(Scorer, run.config, run.workspace, some_clips(run)))


def num_unscored(run: Run) -> int:
    """How many pictures there are to be measured, told without a model and without Ray."""
    return len(
        run.workspace.undone(RenderSource(run).ids(), "scores", run.recipe("scores"), run.config.run.retry_rejects)
    )


@dataclass(frozen=True)
class Others:
    """The clips against which a picture's own clip is ranked."""

    clip_ids: list[str]
    vectors: Float32[np.ndarray, "others dim"]


def some_clips(run: Run) -> Others:
    """As many clips as a rank is taken among and one more, as a picture's own may be one of them.

    They are those with the smallest ids. Ids are digests of contents, so this is a random sample, and the same one
    until clips are added.
    """
    recipe = run.recipe("aligned_vectors")
    ids = pa.table({"clip_id": run.workspace.table("aligned_vectors").ids(recipe)})
    chosen = pc.select_k_unstable(ids, run.config.score.num_others + 1, [("clip_id", "ascending")])
    rows = look_up(
        run.workspace, "aligned_vectors", recipe, ids["clip_id"].take(chosen).to_pylist(), ["vector"]
    ).sort_by("clip_id")
    return Others(rows["clip_id"].to_pylist(), to_array(rows["vector"]))


class RenderSource:
    """The pictures of a run's configuration, each with the labels of its clips and the mean of their vectors."""

    def __init__(self, run: Run) -> None:
        self._workspace = run.workspace
        self._clips, self._vectors = run.recipe("clips"), run.recipe("aligned_vectors")
        columns = ("render_id", "clip_ids", "blend", "prompt", *_WHERE)
        self._renders = TableSource(run.workspace, "renders", run.recipe("renders"), columns)

    def ids(self) -> pa.ChunkedArray:
        """The ids of all pictures."""
        return self._renders.ids()

    def rows(self, ids: pa.ChunkedArray) -> Iterable[pa.Table]:
        """The rows of some of them."""
        for rows in self._renders.rows(ids):
            rows = rows.combine_chunks()
            clip_ids = pc.list_flatten(rows["clip_ids"]).unique().to_pylist()
            clips = look_up(self._workspace, "clips", self._clips, clip_ids, ["label"])
            vectors = look_up(self._workspace, "aligned_vectors", self._vectors, clip_ids, ["vector"])
            labels = dict(zip(clips["clip_id"].to_pylist(), clips["label"].to_pylist(), strict=True))
            named = [[labels.get(clip_id) for clip_id in each] for each in rows["clip_ids"].to_pylist()]
            rows = rows.append_column("labels", pa.array(named, pa.list_(pa.string())))
            yield rows.append_column("vector", to_lists(_means(rows["clip_ids"], vectors)))


class Scorer(Batched):
    """The image-text encoder and, where there is one, the judge, loaded once per worker: pictures in, scores out."""

    def __init__(self, config: Config, workspace: Workspace, others: Others) -> None:
        from aai.models.clip import ImageTextEncoder
        from aai.models.device import best_device, dtype_on

        device, model = best_device(), config.models.image_text
        self.encoder = ImageTextEncoder(model.name, model.revision, device, dtype_on(device, config.models.dtype))
        self.judge = Judging(config.models.judge) if config.models.judge else None
        self.workspace, self.others, self.num_others = workspace, others, config.score.num_others
        self.batch_size = config.score.batch_size

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice, a batch of decoded pictures at a time."""
        rejects: list[Reject] = []
        made: list[dict[str, Any]] = []
        listed = rows.to_pylist()
        for first in range(0, len(listed), self.batch_size):
            seen = dict(self._decoded(listed[first : first + self.batch_size], rejects))
            batch = [row for row in listed[first : first + self.batch_size] if row["render_id"] in seen]
            if batch:
                made += _long(batch, self._measured(batch, list(seen.values())))
        return Outcome(pa.Table.from_pylist(made, schema=SCHEMAS["scores"].columns), rejects)

    def _decoded(self, batch: list[dict], rejects: list[Reject]) -> Iterator[tuple[str, np.ndarray]]:
        for row in batch:
            try:
                data = read_picture(self.workspace, row)
                yield row["render_id"], images.decode(data, row["shard"], images.RENDERED).pixels
            except BadItem as error:
                rejects.append(Reject.of(row["render_id"], error, row["shard"]))

    def _measured(self, batch: list[dict], pixels: Pictures) -> dict[str, Scores]:
        seen = self.encoder.embed_images(pixels, self.batch_size).numpy()
        clips = np.array([row["vector"] for row in batch], np.float32)
        found = {
            metrics.AIS_COSINE: metrics.ais_cosine(seen, clips),
            metrics.AIS_RANK: self._ranks(batch, seen, clips),
            metrics.CLIP_SCORE: self._clip_scores(batch, seen),
        }
        return found | (self.judge(batch, pixels) if self.judge else {})

    def _ranks(self, batch: list[dict], seen: np.ndarray, clips: np.ndarray) -> Scores:
        """The rank among the others; who is not one of them is ranked among the same number."""
        is_own = np.array([[clip_id in row["clip_ids"] for clip_id in self.others.clip_ids] for row in batch])
        is_own[~is_own.any(axis=1), self.num_others :] = True
        return metrics.ais_rank(seen, clips, self.others.vectors, is_own)

    def _clip_scores(self, batch: list[dict], seen: np.ndarray) -> Scores:
        captions = [_in_words(row) for row in batch]
        known = sorted({caption for caption in captions if caption})
        places = {caption: place for place, caption in enumerate(known)}
        vectors = self.encoder.embed_texts(known, self.batch_size).numpy()
        found = np.full(len(batch), np.nan)
        named = [i for i, caption in enumerate(captions) if caption]
        found[named] = metrics.clip_score(seen[named], vectors[[places[captions[i] or ""] for i in named]])
        return found


class Judging:
    """The judge as a source of scores; of what it does not know the names of, it says nothing."""

    def __init__(self, folder: str) -> None:
        from aai.tiny.judge import Judge
        from aai.tiny.vocabulary import BACKGROUNDS, PHENOMENA

        self.judge, self.phenomena, self.backgrounds = Judge.load(folder), PHENOMENA, BACKGROUNDS

    def __call__(self, batch: list[dict], pixels: Pictures) -> dict[str, Scores]:
        """Compare what is seen with the clips' labels and with the background that the prompt names."""
        reading = self.judge.read(np.stack([_for_judge(picture) for picture in pixels]))
        names, places = reading.phenomenon.argmax(dim=1).tolist(), reading.background.argmax(dim=1).tolist()
        return {
            metrics.JUDGE_PHENOMENON: _hits(names, [self._asked_phenomenon(row) for row in batch]),
            metrics.JUDGE_INTENSITY: reading.mean_intensity().numpy().astype(float),
            metrics.JUDGE_BACKGROUND: _hits(places, [self._asked_background(row) for row in batch]),
        }

    def _asked_phenomenon(self, row: dict) -> int | None:
        """The phenomenon that all of the picture's clips are of, if the judge knows it."""
        names = {label.strip().lower() if label else None for label in row["labels"]}
        name = names.pop() if len(names) == 1 else None
        return self.phenomena.index(name) if name in self.phenomena else None

    def _asked_background(self, row: dict) -> int | None:
        """The one background that the prompt names, if the judge knows it."""
        words = set(row["prompt"].lower().replace(",", " ").split())
        named = [number for number, name in enumerate(self.backgrounds) if name in words]
        return named[0] if len(named) == 1 else None


def _means(clip_ids: pa.ChunkedArray, rows: pa.Table) -> Float32[np.ndarray, "pictures dim"]:
    """The mean direction of each picture's clips, as a unit vector."""
    vectors, lists = to_array(rows["vector"]), clip_ids.combine_chunks()
    places = pc.index_in(lists.flatten(), value_set=rows["clip_id"])
    assert not places.null_count, "a picture's clips were aligned before there was a cue of them"
    sums = np.zeros((len(lists), vectors.shape[1]), np.float32)
    np.add.at(sums, pc.list_parent_indices(lists).to_numpy(), vectors[places.to_numpy()])
    return sums / np.linalg.norm(sums, axis=1, keepdims=True)


def _in_words(row: dict) -> str | None:
    """The prompt with labels where the cues stood; none where a clip has no label, or a blend two."""
    prompt, labels = parse(row["prompt"]), list(row["labels"])
    if row["blend"] is not None:
        first = prompt.names.index(UNNAMED)
        start, end = labels[first : first + 2]
        labels[first : first + 2] = [start if start == end else None]
    return None if None in labels else prompt.in_words(dict(zip(prompt.names, labels, strict=True)))


def _for_judge(picture: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "64 64 3"]:
    from aai.tiny.canvas import SIZE_PX

    return np.asarray(Image.fromarray(picture).resize((SIZE_PX, SIZE_PX), Image.Resampling.BOX))


def _hits(found: list[int], asked: list[int | None]) -> Scores:
    """1 where what was found was asked for, 0 where it was not, NaN where nothing was asked."""
    return np.array([np.nan if b is None else float(a == b) for a, b in zip(found, asked, strict=True)])


def _long(batch: list[dict], measured: dict[str, Scores]) -> list[dict[str, Any]]:
    """A row per picture and metric that it has."""
    return [
        {"render_id": row["render_id"], "metric": name, "value": float(values[number])}
        for number, row in enumerate(batch)
        for name, values in measured.items()
        if not np.isnan(values[number])
    ]
