"""Score: metrics of the rendered pictures, by the image-text encoder and, if there is one, the judge.

With a joint encoder, clips are in its space and not in the image-text encoder's: pictures are compared with captions by
the image-text encoder, which retrieval then has not used, and with clips by the joint encoder.
"""

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float, Float32, UInt8
from pydantic import Field

from aai import metrics
from aai.errors import BadItem
from aai.inject.prompt import caption_of
from aai.media import images
from aai.models.judge import load_judge
from aai.options import SPEED_ONLY, Options
from aai.workspace import SCHEMAS
from aai.workspace.shards import read_picture
from tasks.runtime.config import Config
from tasks.runtime.driver import StageSummary
from tasks.runtime.loader import Loader, Row
from tasks.runtime.models import image_role, open_image_text, open_joint
from tasks.runtime.run import Run
from tasks.runtime.stage import Context, Stage
from tasks.runtime.work import Batched, Outcome, Reject

if TYPE_CHECKING:
    from aai.models.joint import ImageEncoder

Scores = Float[np.ndarray, " pictures"]
Pictures = Sequence[UInt8[np.ndarray, "height width 3"]]


_NOT_FINITE = "its vector is not finite: look at models.{role}, and set models.dtype to float32"


class ScoreOptions(Options):
    """Scoring of the rendered pictures."""

    batch_size: int = Field(64, gt=0, json_schema_extra=SPEED_ONLY)
    """Batch size in pictures; halved after an out-of-memory error. It changes the speed, not the scores."""

    num_others: int = Field(1_000, gt=0)
    """AIS-rank (audio-image similarity): number of other clips among which a picture's own clip is ranked."""


def score(run: Run) -> StageSummary:
    """Measure all pictures that have no scores."""
    return run.do(SCORES)


class Scorer(Batched):
    """The encoders and the judge, loaded once per worker: pictures in, scores out."""

    def __init__(self, context: Context) -> None:
        judge, options = context.config.models.judge, context.options(ScoreOptions)
        self.encoder = open_image_text(context.config)
        self.encoders: dict[str, ImageEncoder] = {"image_text": self.encoder}  # the last is in the clips' space
        if image_role(context.config) == "joint":
            self.encoders["joint"] = open_joint(context.config).images
        self.judge = load_judge(judge) if judge else None
        self.workspace, self.num_others, self.batch_size = context.workspace, options.num_others, options.batch_size
        self.other_ids, self.others = _sample_clips(context, options.num_others + 1)

    def __call__(self, rows: pa.Table) -> Outcome:
        """Map a slice, a batch of decoded pictures at a time."""
        rejects: list[Reject] = []
        scores: list[dict[str, Any]] = []
        loader = Loader(self._load, lambda row, error: rejects.append(Reject.of(row["render_id"], error, row["shard"])))
        with closing(loader.batches(rows.to_pylist(), self.batch_size)) as loaded:
            for batch in loaded:
                good, pixels, by_role = self._embedded(batch, rejects)
                if good:
                    scores += _long(good, self._measured(good, pixels, by_role, rejects))
        return Outcome(pa.Table.from_pylist(scores, schema=SCHEMAS["scores"].columns), rejects)

    def _load(self, row: Row) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """A picture, and the same as each encoder takes it."""
        pixels = images.decode(read_picture(self.workspace, row), row["shard"], images.RENDERED).pixels
        return pixels, {role: encoder.prepare(pixels) for role, encoder in self.encoders.items()}

    def _embedded(
        self, batch: Sequence[tuple[Row, tuple]], rejects: list[Reject]
    ) -> tuple[list, list, dict[str, np.ndarray]]:
        """Rows, pixels and vectors of pictures by encoder; in the scores NaN says that a metric has no opinion."""
        from aai.models.batches import embed_all  # it imports torch, which plans do not need

        by_role = {
            role: embed_all(
                [prepared[role] for _, (_, prepared) in batch], encoder.embed_prepared, encoder.dim, len(batch)
            ).numpy()
            for role, encoder in self.encoders.items()
        }
        is_good = np.full(len(batch), True)
        for role, vectors in by_role.items():
            is_finite = np.isfinite(vectors).all(axis=1)
            faulty = np.flatnonzero(is_good & ~is_finite)
            error = BadItem(_NOT_FINITE.format(role=role))
            rejects += [Reject.of(batch[index][0]["render_id"], error) for index in faulty.tolist()]
            is_good &= is_finite
        good = [batch[index] for index in np.flatnonzero(is_good).tolist()]
        kept = {role: vectors[is_good] for role, vectors in by_role.items()}
        return [row for row, _ in good], [pixels for _, (pixels, _) in good], kept

    def _measured(
        self, batch: list[dict], pixels: Pictures, by_role: dict[str, np.ndarray], rejects: list[Reject]
    ) -> dict[str, Scores]:
        *_, pictures = by_role.values()
        found = {metrics.CLIP_SCORE: self._clip_scores(batch, by_role["image_text"], rejects)}
        with_clips = [index for index, row in enumerate(batch) if row["vectors"]]
        if with_clips:
            clips = np.stack([_mean_direction(batch[index]["vectors"]) for index in with_clips])
            some = [batch[index] for index in with_clips]
            cosines = metrics.ais_cosine(pictures[with_clips], clips)
            ranks = self._ranks(some, pictures[with_clips], clips)
            for name, values in ((metrics.AIS_COSINE, cosines), (metrics.AIS_RANK, ranks)):
                found[name] = np.full(len(batch), np.nan)
                found[name][with_clips] = values
        if self.judge:
            found |= self.judge(pixels, [row["prompt"] for row in batch], [row["labels"] or [] for row in batch])
        return found

    def _ranks(self, batch: list[dict], pictures: np.ndarray, clips: np.ndarray) -> Scores:
        """Ranks among the other clips; a clip that is not one of them is ranked among the same number."""
        is_own = np.array([[clip_id in row["clip_ids"] for clip_id in self.other_ids] for row in batch])
        is_own[~is_own.any(axis=1), self.num_others :] = True
        return metrics.ais_rank(pictures, clips, self.others, is_own)

    def _clip_scores(self, batch: list[dict], pictures: np.ndarray, rejects: list[Reject]) -> Scores:
        """A caption that is too long for the encoder gives no score, and a reject of this part of the picture."""
        captions = [caption_of(row["prompt"], row["labels"] or [], row["blend"] is not None) for row in batch]
        faults = {caption: self.encoder.fault_of(caption) for caption in set(captions) if caption}
        for index, row in enumerate(batch):
            if fault := faults.get(captions[index] or ""):
                reject_id = f"{row['render_id']}/{metrics.CLIP_SCORE}"
                rejects.append(Reject.of(reject_id, fault, row["shard"], part_of=row["render_id"]))
                captions[index] = None
        known = sorted({caption for caption in captions if caption})
        indices = {caption: index for index, caption in enumerate(known)}
        vectors = self.encoder.embed_texts(known, self.batch_size).numpy()
        found = np.full(len(batch), np.nan)
        named = [index for index, caption in enumerate(captions) if caption]
        of_caption = [indices[captions[index] or ""] for index in named]
        found[named] = metrics.clip_score(pictures[named], vectors[of_caption])
        return found


def _sample_clips(context: Context, num: int) -> tuple[list[str], Float32[np.ndarray, "others dim"]]:
    """Clips against which a picture's own clip is ranked: those with the smallest ids.

    Ids are digests of contents, so this is a random sample, and the same one until clips are added.
    """
    with context.query() as query:
        rows = query.table(f"SELECT clip_id, vector FROM aligned_vectors ORDER BY clip_id LIMIT {num}")
    return rows["clip_id"].to_pylist(), np.array(rows["vector"].to_pylist(), np.float32)


def _mean_direction(vectors: list[list[float]]) -> Float32[np.ndarray, " dim"]:
    """The mean direction of a picture's clips, as a unit vector."""
    mean = np.array(vectors, np.float32).sum(axis=0)
    unit: np.ndarray = mean / np.linalg.norm(mean)
    return unit


def _long(batch: list[dict], measured: dict[str, Scores]) -> list[dict[str, Any]]:
    """A row per picture and metric that it has."""
    return [
        {"render_id": row["render_id"], "metric": name, "value": float(values[index]), "labels": labels}
        for index, row in enumerate(batch)
        for labels in [[label or "" for label in row["labels"] or []]]
        for name, values in measured.items()
        if not np.isnan(values[index])
    ]


def _models(config: Config) -> tuple[str, ...]:
    return tuple(dict.fromkeys(("image_text", image_role(config), *(["judge"] if config.models.judge else []))))


_COLUMNS = 'r.render_id, r.clip_ids, r.blend, r.prompt, r.shard, r.key, r."offset", r.num_bytes, r.checksum'
# Most pictures are of one clip: they stream by its vector. Those of several, or of none, are gathered.
_ROWS = f"""
    SELECT {_COLUMNS}, [c.label] AS labels, [v.vector] AS vectors
    FROM aligned_vectors v JOIN renders r ON v.clip_id = r.clip_ids[1]
    LEFT JOIN known_clips c ON c.clip_id = r.clip_ids[1] WHERE len(r.clip_ids) = 1
    UNION ALL
    SELECT {_COLUMNS}, m.labels, m.vectors FROM renders r LEFT JOIN (
        SELECT render_id, list(c.label ORDER BY position) AS labels, list(v.vector ORDER BY position) AS vectors
        FROM (SELECT render_id, unnest(clip_ids) AS clip_id, generate_subscripts(clip_ids, 1) AS position
              FROM renders WHERE len(clip_ids) > 1) u
        LEFT JOIN known_clips c ON u.clip_id = c.clip_id LEFT JOIN aligned_vectors v ON u.clip_id = v.clip_id
        GROUP BY render_id
    ) m ON r.render_id = m.render_id WHERE len(r.clip_ids) <> 1
"""

# Captions and the judge depend on labels, so that pictures of relabelled clips are measured again.
LABELS = """
    SELECT r.render_id, [coalesce(c.label, '')] AS labels
    FROM renders r LEFT JOIN (SELECT clip_id, label FROM known_clips) c ON c.clip_id = r.clip_ids[1]
    WHERE len(r.clip_ids) = 1
    UNION ALL
    SELECT render_id, list(coalesce(c.label, '') ORDER BY position)
    FROM (SELECT render_id, unnest(clip_ids) AS clip_id, generate_subscripts(clip_ids, 1) AS position
          FROM renders WHERE len(clip_ids) > 1) u
    LEFT JOIN (SELECT clip_id, label FROM known_clips) c ON u.clip_id = c.clip_id GROUP BY render_id
"""
_OUTDATED = f"""
    SELECT s.render_id FROM scores s JOIN ({LABELS}) n ON s.render_id = n.render_id
    WHERE s.labels IS DISTINCT FROM n.labels
"""

SCORES = Stage(
    name="score",
    table="scores",
    reads=("renders", "aligned_vectors"),
    rows=_ROWS,
    items="SELECT render_id FROM renders",
    options=ScoreOptions,
    models=_models,
    worker=Scorer,
    gpu=True,
    command="score",
    outdated=_OUTDATED,
    made_from={"renders": "SELECT render_id FROM scores s SEMI JOIN outdated o ON s.render_id = o.id"},
    code_version=2,
)
