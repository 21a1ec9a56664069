"""Best of n: several candidates of a picture are rendered from different seeds, and the best is kept.

Candidates go through the batches of the model like other pictures, and are measured a batch at a time. An edit is
measured at the model's size. Of edits that are equally good the one that preserves most of its source is kept.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np
from jaxtyping import Float

from aai import metrics
from aai.edit.composite import preserved_db
from aai.errors import BadItem
from aai.inject.prompt import caption_of
from aai.jobs.job import Measure, candidate_seeds
from aai.media.options import IngestOptions
from aai.models.judge import load_judge
from tasks.choice import CHOSEN, OTHERS, UNMEASURED
from tasks.edit import Edited
from tasks.pictures import Picture
from tasks.runtime.clip_reader import ClipReader
from tasks.runtime.loaded import loaded_once
from tasks.runtime.loader import Row
from tasks.runtime.models import open_image_text, open_joint
from tasks.runtime.stage import Context
from tasks.runtime.work import Reject

if TYPE_CHECKING:
    from aai.models.clip import ImageTextEncoder
    from aai.models.joint import ImageEncoder

Source = TypeVar("Source")
Scores = Float[np.ndarray, " pictures"]

_EQUALLY_GOOD: dict[Measure, float] = {"judge": 0.0, "audio_judge": 0.02, "clip_score": 0.05}
"""Differences of scores up to this are none where edits are concerned. CLIPScore is 2.5 times a cosine."""

_CLIPS = 'SELECT clip_id, uri, "offset", num_bytes, content_id, start_s, duration_s FROM known_clips'


def expanded(loaded: Iterable[tuple[Row, Source]]) -> Iterator[tuple[Row, Source]]:
    """A row for each candidate of each picture, with its seed; `first_seed` is the picture's own."""
    for row, source in loaded:
        for seed in candidate_seeds(row["seed"], row["candidates"]):
            yield {**row, "seed": seed, "first_seed": row["seed"]}, source


class Measures:
    """The models that choose, each loaded when the first picture needs it."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._opened: dict[Measure, _Measuring] = {}

    def __call__(self, measure: Measure, rows: Sequence[Row], pixels: Sequence[np.ndarray]) -> Scores:
        """Scores of pictures, higher is better; NaN where the measure has no opinion."""
        if measure not in self._opened:
            self._opened[measure] = _MEASURES[measure](self._context)
        return self._opened[measure](rows, pixels)


@dataclass
class _Group:
    """The candidates of a picture that are there."""

    rows: list[Row] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    failures: list[Reject] = field(default_factory=list)

    @property
    def num(self) -> int:
        return len(self.rows) + len(self.failures)


class Choosing:
    """The candidates of a slice: those of a picture come in, in any number of batches, and the best goes out.

    A candidate that cannot be rendered is left out; a picture without any is rejected.
    """

    def __init__(self, measures: Measures) -> None:
        self.rejects: list[Reject] = []
        self.counts: Counter[str] = Counter()
        self._measures = measures
        self._waiting: dict[str, _Group] = {}

    def add(self, rows: Sequence[Row], pictures: Sequence[Picture]) -> None:
        """Take some candidates."""
        for row, picture in zip(rows, pictures, strict=True):
            group = self._waiting.setdefault(row["render_id"], _Group())
            group.rows.append(row)
            group.pictures.append(picture)

    def fail(self, row: Row, reject: Reject) -> None:
        """Note that a candidate cannot be rendered."""
        group = self._waiting.setdefault(row["render_id"], _Group())
        group.failures.append(reject)
        if len(group.failures) == row["candidates"]:
            self.rejects.append(self._waiting.pop(row["render_id"]).failures[0])

    def take(self) -> tuple[list[Row], list[Picture]]:
        """The pictures all of whose candidates are there: the best of each, with the columns about its candidates."""
        groups = [group for group in self._waiting.values() if group.rows and group.num == group.rows[0]["candidates"]]
        for group in groups:
            del self._waiting[group.rows[0]["render_id"]]
        scores = self._measured([group for group in groups if group.rows[0]["candidates"] > 1])
        chosen = [self._chosen(group, scores.get(group.rows[0]["render_id"])) for group in groups]
        return [row for row, _ in chosen], [picture for _, picture in chosen]

    def _measured(self, groups: Sequence[_Group]) -> dict[str, Scores]:
        """The scores of each group's candidates, by picture; groups of one measure are measured together."""
        scores: dict[str, Scores] = {}
        for measure in sorted({group.rows[0]["chosen_by"] for group in groups}):
            some = [group for group in groups if group.rows[0]["chosen_by"] == measure]
            rows = [row for group in some for row in group.rows]
            values = self._measures(measure, rows, [_pixels(each) for group in some for each in group.pictures])
            ends = np.cumsum([len(group.rows) for group in some])
            parts = np.split(values, ends[:-1])
            scores |= {group.rows[0]["render_id"]: part for group, part in zip(some, parts, strict=True)}
        return scores

    def _chosen(self, group: _Group, scores: Scores | None) -> tuple[Row, Picture]:
        if scores is None:
            return group.rows[0], group.pictures[0]
        kept = _preserved(group)
        best = best_of(scores, kept, _EQUALLY_GOOD[group.rows[0]["chosen_by"]])
        row, is_measured = group.rows[best], not np.isnan(scores).any()
        self.counts.update({CHOSEN: 1, OTHERS: row["seed"] != row["first_seed"], UNMEASURED: not is_measured})
        choice = {
            "chosen_seed": row["seed"],
            "candidate_seeds": [each["seed"] for each in group.rows],
            "candidate_scores": scores.tolist() if is_measured else None,
            "candidate_preserved_db": None if kept is None or np.isnan(kept).any() else kept.tolist(),
            "chosen_by": row["chosen_by"],
            "chosen_by_model": row["chosen_by_model"],
        }
        return {**row, "seed": row["first_seed"], "choice": choice}, group.pictures[best]


def best_of(scores: Scores, preserved: Scores | None = None, equally_good: float = 0.0) -> int:
    """The index of the best candidate, the first of equals.

    Of those whose scores are within `equally_good` of the best, the one that preserves most. Without an opinion all are
    equally good.
    """
    known = np.nan_to_num(scores, nan=-np.inf)
    if preserved is None or np.isnan(preserved).any():
        return int(known.argmax())
    is_good = known >= known.max() - equally_good
    return int(np.where(is_good, preserved, -np.inf).argmax())


class _Measuring(Protocol):
    def __call__(self, rows: Sequence[Row], pixels: Sequence[np.ndarray]) -> Scores: ...


class _Judged:
    """The share of what was asked for (as phenomenon and background) that the judge sees in a picture."""

    def __init__(self, context: Context) -> None:
        name = context.config.models.judge
        assert name is not None, "the jobs were checked"
        self._judge = loaded_once(("judge", name), lambda: load_judge(name))

    def __call__(self, rows: Sequence[Row], pixels: Sequence[np.ndarray]) -> Scores:
        found = self._judge(pixels, [row["prompt"] for row in rows], [row["labels"] or [] for row in rows])
        names = [name for name in found if name in metrics.METRICS and metrics.METRICS[name].is_share]
        asked = np.stack([found[name] for name in names]) if names else np.full((1, len(rows)), np.nan)
        num = (~np.isnan(asked)).sum(axis=0)
        return np.where(num > 0, np.nansum(asked, axis=0) / np.maximum(num, 1), np.nan)


class _ClipScores:
    """CLIPScore of each picture and its prompt, with labels in place of the cues."""

    def __init__(self, context: Context) -> None:
        self._encoder: ImageTextEncoder = open_image_text(context.config)

    def __call__(self, rows: Sequence[Row], pixels: Sequence[np.ndarray]) -> Scores:
        captions = [caption_of(row["prompt"], row["labels"] or [], row["blend"] is not None) for row in rows]
        usable = {text for text in captions if text and not self._encoder.fault_of(text)}
        named = [index for index, text in enumerate(captions) if text in usable]
        scores = np.full(len(rows), np.nan)
        if named:
            known = sorted(usable)
            texts = self._encoder.embed_texts(known, len(known)).numpy()
            vectors = _embedded(self._encoder, [pixels[index] for index in named])
            of_caption = [known.index(captions[index] or "") for index in named]
            scores[named] = metrics.clip_score(vectors, texts[of_caption])
        return scores


class _Heard:
    """Cosine of a picture and its clips by a second encoder that hears and sees; none if a clip cannot be read."""

    def __init__(self, context: Context) -> None:
        self._context, self._joint = context, open_joint(context.config, "audio_judge")
        self._read = ClipReader(self._joint.sounds.prepare, context.options(IngestOptions).audio)
        self._clips: dict[str, np.ndarray | None] = {}

    def __call__(self, rows: Sequence[Row], pixels: Sequence[np.ndarray]) -> Scores:
        self._hear({clip_id for row in rows for clip_id in row["clip_ids"]} - self._clips.keys())
        scores = np.full(len(rows), np.nan)
        seen = _embedded(self._joint.images, pixels)
        for index, row in enumerate(rows):
            own = [vector for clip_id in row["clip_ids"] if (vector := self._clips[clip_id]) is not None]
            if own and len(own) == len(row["clip_ids"]):
                clip = np.sum(own, axis=0)
                scores[index] = seen[index] @ clip / np.linalg.norm(clip)
        return scores

    def _hear(self, clip_ids: Set[str]) -> None:
        """Embed clips that were not heard before; pictures of one clip come together."""
        if not clip_ids:
            return
        with self._context.query() as query:
            query.keep_ids("asked", sorted(clip_ids))
            found = query.table(f"{_CLIPS} SEMI JOIN asked a ON clip_id = a.id").to_pylist()
        self._clips |= dict.fromkeys(clip_ids) | {row["clip_id"]: self._vector(row) for row in found}

    def _vector(self, row: Row) -> np.ndarray | None:
        import torch  # plans do not need it

        try:
            prepared = torch.from_numpy(self._read(row))
        except BadItem:
            return None
        vector: np.ndarray = self._joint.sounds.embed_prepared(prepared[None]).float().cpu().numpy()[0]
        return vector


_MEASURES: dict[Measure, Callable[[Context], _Measuring]] = {
    "judge": _Judged,
    "audio_judge": _Heard,
    "clip_score": _ClipScores,
}


def _embedded(encoder: "ImageEncoder", pixels: Sequence[np.ndarray]) -> Float[np.ndarray, "pictures dim"]:
    from aai.models.batches import embed_all  # it imports torch, which plans do not need

    prepared = [encoder.prepare(each) for each in pixels]
    embedded: np.ndarray = embed_all(prepared, encoder.embed_prepared, encoder.dim, len(prepared)).numpy()
    return embedded


def _pixels(picture: Picture) -> np.ndarray:
    return picture.small() if isinstance(picture, Edited) else picture()


def _preserved(group: _Group) -> Scores | None:
    """How well each edit preserves its source outside the mask; none for pictures without a source.

    Edits of one photo are compared outside the part of it that more than half of them change: of two, outside what both
    change.
    """
    edits = [picture for picture in group.pictures if isinstance(picture, Edited)]
    if not edits:
        return None
    masks = np.stack([edit.alpha() for edit in edits]) > 0
    if group.rows[0]["image_id"] is not None:
        masks[:] = masks.mean(axis=0) > 0.5
    pairs = zip(edits, masks, strict=True)
    return np.array([preserved_db(edit.source, edit.small(), ~mask) for edit, mask in pairs])
