"""The cards of a report: each clip with its audio, neighbours, cue, pictures and scores."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from math import isnan
from typing import Any

import pyarrow as pa

from aai.align.confidence import LOW
from aai.errors import BadItem, Transient
from aai.media import images, windows
from aai.media.files import read_content
from aai.media.options import IngestOptions
from aai.report import Card, Cue, JobPictures, Neighbour, Picture, Sound, Thumb, media
from aai.workspace.shards import read_picture
from tasks.runtime.run import Run
from tasks.views.lookup import look_up
from tasks.views.results import Generation, intensity_of

_MAX_NEIGHBOURS = 6
_MAX_PICTURES = 4
"""Pictures per clip, job and prompt."""

_MAX_CACHED_THUMBS = 4_096  # of some kB each; clips share neighbours

_LOCATION = ("uri", "offset", "num_bytes")
_DESCRIPTION = ("label", "caption")
_CLIP_COLUMNS = (
    *(*_LOCATION, "content_id", "start_s", "duration_s", "level_dbfs"),
    *(*_DESCRIPTION, "licence", "attributes"),
)
_CUE_COLUMNS = ("method", "steps", "stop_reason", "loss_before", "loss_after", "loss_curve")
_RENDER_COLUMNS = (
    *("render_id", "clip_ids", "job", "prompt", "seed", "chosen_seed", "candidate_seeds"),
    *("image_id", "image_uri"),
    *("shard", "key", "offset", "num_bytes", "checksum"),
)

Row = dict[str, Any]


def cards(run: Run, clip_ids: Sequence[str], shown: Sequence[Generation], threads: Executor) -> list[Card]:
    """One card per clip, in the same order, with pictures of some generations.

    Raises:
        Transient: the store failed.
    """
    tables, files = _Tables.read(run, clip_ids, shown), Files(run)
    return list(threads.map(lambda clip_id: _card(clip_id, tables, files), clip_ids))


@dataclass(frozen=True)
class _Tables:
    """The rows of some clips, in all tables."""

    clips: Mapping[str, Row]
    neighbours: Mapping[str, Row]
    cues: Mapping[str, Row]
    confidences: Mapping[str, Row]
    images: Mapping[str, Row]
    renders: Mapping[str, Mapping[str, list[Row]]]
    """By generation and clip."""
    scores: Mapping[str, Mapping[str, float]]
    """By picture and metric."""

    @cached_property
    def lowest(self) -> float:
        """The lowest relative loss of all cues: the lower end of the axis of all loss curves."""
        return min(
            (loss for row in self.cues.values() for loss in media.relative_losses(row["loss_curve"])), default=1.0
        )

    @classmethod
    def read(cls, run: Run, clip_ids: Sequence[str], generations: Sequence[Generation]) -> "_Tables":
        neighbours = _rows(run, "neighbours", clip_ids, ("image_ids", "similarities"))
        image_ids = {image_id for row in neighbours.values() for image_id in row["image_ids"][:_MAX_NEIGHBOURS]}
        renders = {generation.name: _renders_of(run, generation, clip_ids) for generation in generations}
        return cls(
            clips=_rows(run, "known_clips", clip_ids, _CLIP_COLUMNS, "clip_id"),
            neighbours=neighbours,
            cues=_rows(run, "cues", clip_ids, _CUE_COLUMNS),
            confidences=_rows(run, "confidences", clip_ids, ("confidence",)) if "confidences" in run.recipes else {},
            images=_rows(run, "known_images", image_ids, (*_LOCATION, *_DESCRIPTION), "image_id"),
            renders=renders,
            scores={
                render_id: scores
                for generation in generations
                for render_id, scores in _scores_of(run, generation, renders[generation.name]).items()
            },
        )


class Files:
    """Reads and converts the sounds and pictures of the page; a file that cannot be read gets the reason instead."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.image = lru_cache(_MAX_CACHED_THUMBS)(self._image)

    def sound(self, row: Row) -> Sound:
        """A clip, cut from its recording."""
        options = self._run.config.options(IngestOptions).audio
        try:
            data = read_content(row["uri"], row["offset"], row["num_bytes"], row["content_id"])
            window = windows.Window(row["start_s"], row["duration_s"])
            wave, rate = windows.decode_window(data, row["uri"], window, options)
        except (BadItem, Transient) as error:
            return Sound(problem=error.sentence)
        wave, rate = media.excerpt(wave, rate)
        return Sound(
            src=media.data_uri("audio/mpeg", media.encode_mp3(wave, rate)),
            spectrogram=media.data_uri("image/webp", media.encode_webp(media.spectrogram(wave, rate))),
            top_hz=rate // 2,
            excerpt_s=len(wave) / rate,
        )

    def picture(self, row: Row, alt: str) -> Thumb:
        """A rendered picture."""
        try:
            return _thumb(read_picture(self._run.workspace, row), row["shard"], alt, images.RENDERED)
        except (BadItem, Transient) as error:
            return Thumb(alt, problem=error.sentence)

    def photo(self, row: Row) -> Thumb | None:
        """The photo that a picture was made from; none without one."""
        if row["image_id"] is None:
            return None
        return self.image(row["image_id"], (row["image_uri"], None, None), f"photo: {_file_name(row['image_uri'])}")

    def _image(self, image_id: str, location: tuple[Any, ...], alt: str) -> Thumb:
        try:
            data = read_content(location[0], location[1], location[2], image_id)
            return _thumb(data, location[0], alt, self._run.config.options(IngestOptions).images)
        except (BadItem, Transient) as error:
            return Thumb(alt, problem=error.sentence)


def _card(clip_id: str, tables: _Tables, files: Files) -> Card:
    row = tables.clips[clip_id]
    neighbours = tables.neighbours.get(clip_id, {"image_ids": [], "similarities": []})
    pairs = list(zip(neighbours["image_ids"], neighbours["similarities"], strict=True))
    intensity = intensity_of(row["attributes"])
    confidence = tables.confidences.get(clip_id, {}).get("confidence")
    name = row["label"] or _file_name(row["uri"])
    renders = {generation: rows.get(clip_id, []) for generation, rows in tables.renders.items()}
    copied = ("clip_id", "label", "caption", "licence", "uri", "start_s", "duration_s", "level_dbfs")
    return Card(
        **{key: row[key] for key in copied},
        intensity=None if isnan(intensity) else intensity,
        confidence=confidence,
        is_unsure=confidence is not None and confidence < LOW,
        sound=files.sound(row),
        neighbours=[Neighbour(_neighbour(tables, files, *pair), pair[1]) for pair in pairs[:_MAX_NEIGHBOURS]],
        num_more_neighbours=max(0, len(pairs) - _MAX_NEIGHBOURS),
        cue=_cue(tables.cues[clip_id], tables.lowest) if clip_id in tables.cues else None,
        jobs=[
            job for generation, rows in renders.items() for job in _by_job(generation, rows, name, tables.scores, files)
        ],
        scores=_means(renders, tables.scores),
    )


def _neighbour(tables: _Tables, files: Files, image_id: str, cosine: float) -> Thumb:
    row = tables.images.get(image_id)
    if row is None:
        return Thumb("retrieved image", problem="the image is no longer in the table of images")
    alt = f"retrieved image: {row['caption'] or row['label'] or _file_name(row['uri'])}"
    return files.image(image_id, tuple(row[name] for name in _LOCATION), alt)


def _cue(row: Row, lowest: float) -> Cue:
    curve = media.loss_curve(media.relative_losses(row["loss_curve"]), lowest)
    return Cue(**{name: row[name] for name in _CUE_COLUMNS if name != "loss_curve"}, curve=curve)


def _by_job(
    generation: str, rows: list[Row], name: str, scores: Mapping[str, Mapping[str, float]], files: Files
) -> Iterable[JobPictures]:
    """The pictures of a clip in one generation, by job and prompt; rows are sorted by these."""
    for (job, prompt), group in groupby(rows, key=lambda row: (row["job"], row["prompt"])):
        own_rows = list(group)
        pictures = [
            Picture(
                files.picture(row, f"{name} as “{prompt}”"),
                row["seed"],
                scores.get(row["render_id"], {}),
                _candidate(row),
                files.photo(row),
            )
            for row in own_rows[:_MAX_PICTURES]
        ]
        yield JobPictures(generation, job, prompt, pictures, max(0, len(own_rows) - _MAX_PICTURES))


def _candidate(row: Row) -> tuple[int, int] | None:
    seeds = row["candidate_seeds"]
    return (seeds.index(row["chosen_seed"]) + 1, len(seeds)) if seeds else None


def _means(renders: Mapping[str, list[Row]], scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """The mean of each metric over a clip's pictures, by generation; the empty name is for all generations."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for generation, rows in renders.items():
        for row in rows:
            for metric, value in scores.get(row["render_id"], {}).items():
                values[generation][metric].append(value)
                values[""][metric].append(value)
    return {
        generation: {metric: sum(own) / len(own) for metric, own in by_metric.items()}
        for generation, by_metric in values.items()
    }


def _rows(run: Run, table: str, ids: Iterable[str], columns: Sequence[str], key: str | None = None) -> dict[str, Row]:
    key = key or run.workspace.schemas[table].id
    return {row[key]: row for row in look_up(run, table, ids, columns, key=key)}


def _renders_of(run: Run, generation: Generation, clip_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The pictures of some clips in one generation, sorted by job, prompt, photo and seed."""
    names = ", ".join(f'r."{name}"' for name in _RENDER_COLUMNS)
    selected = pa.table({"id": pa.array(clip_ids, pa.string())})
    with run.query({"renders": generation.renders}, {"selected": selected}) as query:
        rows = query.table(
            f"SELECT {names} FROM renders r WHERE list_has_any(clip_ids, (SELECT list(id) FROM selected)) "
            "ORDER BY job, prompt, image_uri, seed"
        )
    by_clip: dict[str, list[Row]] = defaultdict(list)
    for row in rows.to_pylist():
        for clip_id in row["clip_ids"]:
            by_clip[clip_id].append(row)
    return by_clip


def _scores_of(run: Run, generation: Generation, renders: Mapping[str, list[Row]]) -> dict[str, dict[str, float]]:
    if not generation.scores:
        return {}
    ids = [row["render_id"] for rows in renders.values() for row in rows]
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for row in look_up(run, "scores", ids, ("metric", "value"), {"scores": generation.scores}):
        scores[row["render_id"]][row["metric"]] = row["value"]
    return scores


def _thumb(data: bytes, uri: str, alt: str, options: images.ImageOptions) -> Thumb:
    pixels = images.decode(data, uri, options).pixels
    return Thumb(alt, media.data_uri("image/webp", media.thumbnail(pixels)))


def _file_name(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
