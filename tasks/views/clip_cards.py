"""The cards of a report: a clip to be heard, and beside it its neighbours, its cue, its pictures and their scores."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from math import isnan
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from aai import identity
from aai.errors import BadItem, Transient
from aai.media import audio, images
from aai.media.files import read_bytes
from aai.report import Card, Cue, Neighbour, Picture, Shown, Sound, Thumb, media
from aai.workspace.shards import read_picture
from tasks.runtime.run import Run
from tasks.runtime.tables import look_up
from tasks.views.results import Generation, intensity_of

_MOST_NEIGHBOURS = 6
_MOST_PICTURES = 4
"""Of a clip under one prompt of one job."""

_CACHED_THUMBS = 4_096  # of some kB: clips share neighbours

_PLACE = ("uri", "offset", "num_bytes")
_OF_CUE = ("method", "steps", "stop_reason", "loss_before", "loss_after", "loss_curve")
_OF_RENDER = ("render_id", "clip_ids", "job", "prompt", "seed", "shard", "key", "offset", "num_bytes", "checksum")

Row = dict[str, Any]


def cards(run: Run, clip_ids: Sequence[str], among: Sequence[Generation], threads: Executor) -> list[Card]:
    """A card for each clip, in their order; pictures are those of some generations.

    Raises:
        Transient: the store failed.
    """
    tables, files = _Tables.about(run, clip_ids, among), _Files(run)
    return list(threads.map(lambda clip_id: _card(clip_id, tables, files), clip_ids))


@dataclass(frozen=True)
class _Tables:
    """The rows about some clips."""

    clips: Mapping[str, Row]
    neighbours: Mapping[str, Row]
    cues: Mapping[str, Row]
    images: Mapping[str, Row]
    renders: Mapping[str, Mapping[str, list[Row]]]
    """Per generation and clip."""
    scores: Mapping[str, Mapping[str, float]]
    """Per picture."""

    @cached_property
    def lowest(self) -> float:
        """The lowest loss of all cues as a share of their first ones: the bottom of all curves."""
        return min((share for row in self.cues.values() for share in media.relative(row["loss_curve"])), default=1.0)

    @classmethod
    def about(cls, run: Run, clip_ids: Sequence[str], among: Sequence[Generation]) -> "_Tables":
        described = ("label", "caption")
        neighbours = _rows(run, "neighbours", clip_ids, ("image_ids", "similarities"))
        shown = {image_id for row in neighbours.values() for image_id in row["image_ids"][:_MOST_NEIGHBOURS]}
        of_clip = (*_PLACE, "start_s", "duration_s", "level_dbfs", *described, "licence", "attributes")
        renders = {each.name: _renders_of(run, each, clip_ids) for each in among}
        return cls(
            clips=_rows(run, "clips", clip_ids, of_clip),
            neighbours=neighbours,
            cues=_rows(run, "cues", clip_ids, _OF_CUE),
            images=_rows(run, "images", shown, (*_PLACE, *described)),
            renders=renders,
            scores={id_: found for each in among for id_, found in _scores_of(run, each, renders[each.name]).items()},
        )


class _Files:
    """Sounds and pictures as they are put into the page; what cannot be read says why."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self.neighbour = lru_cache(_CACHED_THUMBS)(self._neighbour)

    def sound(self, row: Row) -> Sound:
        """A clip, cut out of its file."""
        options = self._run.config.ingest.audio
        try:
            data = read_bytes(*(row[name] for name in _PLACE))
            if identity.clip_id(identity.content_id(data), row["start_s"], row["duration_s"]) != row["clip_id"]:
                raise BadItem("the file has changed since it was heard, so it is not played")
            window = audio.Window(row["start_s"], row["duration_s"])
            wave, rate = audio.decode_window(data, row["uri"], window, options)
        except (BadItem, Transient) as error:
            return Sound(problem=str(error).removeprefix(f"{row['uri']}: "))
        wave, rate = media.prepared(wave, rate)
        return Sound(
            src=media.data_uri("audio/mpeg", media.mp3(wave, rate)),
            spectrogram=media.data_uri("image/webp", media.webp(media.spectrogram(wave, rate))),
            top_hz=rate // 2,
            shown_s=len(wave) / rate,
        )

    def picture(self, row: Row, alt: str) -> Thumb:
        """A rendered picture."""
        try:
            return _thumb(read_picture(self._run.workspace, row), row["shard"], alt, images.RENDERED)
        except (BadItem, Transient) as error:
            return Thumb(alt, problem=str(error))

    def _neighbour(self, image_id: str, place: tuple[Any, ...], alt: str) -> Thumb:
        try:
            data = read_bytes(*place)
            if identity.image_id(data) != image_id:
                raise BadItem("the file has changed since it was seen")
            return _thumb(data, place[0], alt, self._run.config.ingest.images)
        except (BadItem, Transient) as error:
            return Thumb(alt, problem=str(error).removeprefix(f"{place[0]}: "))


def _card(clip_id: str, tables: _Tables, files: _Files) -> Card:
    row = tables.clips[clip_id]
    near = tables.neighbours.get(clip_id, {"image_ids": [], "similarities": []})
    pairs = list(zip(near["image_ids"], near["similarities"], strict=True))
    intensity = intensity_of(row["attributes"])
    name = row["label"] or _file(row["uri"])
    renders = {each: rows.get(clip_id, []) for each, rows in tables.renders.items()}
    copied = ("clip_id", "label", "caption", "licence", "uri", "start_s", "duration_s", "level_dbfs")
    return Card(
        **{key: row[key] for key in copied},
        intensity=None if isnan(intensity) else intensity,
        sound=files.sound(row),
        neighbours=[Neighbour(_neighbour(tables, files, *pair), pair[1]) for pair in pairs[:_MOST_NEIGHBOURS]],
        num_more_neighbours=max(0, len(pairs) - _MOST_NEIGHBOURS),
        cue=_cue(tables.cues[clip_id], tables.lowest) if clip_id in tables.cues else None,
        shown=[shown for each, rows in renders.items() for shown in _shown(each, rows, name, tables.scores, files)],
        scores=_means(renders, tables.scores),
    )


def _neighbour(tables: _Tables, files: _Files, image_id: str, cosine: float) -> Thumb:
    row = tables.images.get(image_id)
    if row is None:
        return Thumb("retrieved image", problem="not in the table of images any more")
    alt = f"retrieved image: {row['caption'] or row['label'] or _file(row['uri'])}"
    return files.neighbour(image_id, tuple(row[name] for name in _PLACE), alt)


def _cue(row: Row, lowest: float) -> Cue:
    curve = media.curve(media.relative(row["loss_curve"]), lowest)
    return Cue(**{name: row[name] for name in _OF_CUE if name != "loss_curve"}, curve=curve)


def _shown(
    generation: str, rows: list[Row], name: str, scores: Mapping[str, Mapping[str, float]], files: _Files
) -> Iterable[Shown]:
    """The pictures of a clip in one generation, by job and prompt."""
    for (job, prompt), some in groupby(rows, key=lambda row: (row["job"], row["prompt"])):
        alike = list(some)
        made = [
            Picture(files.picture(row, f"{name} as “{prompt}”"), row["seed"], scores.get(row["render_id"], {}))
            for row in alike[:_MOST_PICTURES]
        ]
        yield Shown(generation, job, prompt, made, max(0, len(alike) - _MOST_PICTURES))


def _means(renders: Mapping[str, list[Row]], scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Per generation, and under an empty name for all, the mean of each metric over a clip's pictures."""
    values: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for generation, rows in renders.items():
        for row in rows:
            for metric, value in scores.get(row["render_id"], {}).items():
                values[generation][metric].append(value)
                values[""][metric].append(value)
    return {each: {name: sum(all_) / len(all_) for name, all_ in found.items()} for each, found in values.items()}


def _rows(run: Run, table: str, ids: Iterable[str], columns: Sequence[str]) -> dict[str, Row]:
    key = run.workspace.table(table).schema.id
    found = look_up(run.workspace, table, run.recipe(table), ids, columns)
    return {row[key]: row for row in found.to_pylist()}


def _renders_of(run: Run, generation: Generation, clip_ids: Sequence[str]) -> dict[str, list[Row]]:
    """The pictures of some clips in one generation, in the order of their jobs, prompts and seeds."""
    rows = run.workspace.table("renders").read(_OF_RENDER, generation.renders).combine_chunks()
    lists = rows["clip_ids"].combine_chunks()
    is_wanted = pc.is_in(lists.flatten(), value_set=pa.array(clip_ids, pa.string()))
    wanted = pc.list_parent_indices(lists).filter(is_wanted).unique()
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows.take(wanted).sort_by([(name, "ascending") for name in ("job", "prompt", "seed")]).to_pylist():
        for clip_id in row["clip_ids"]:
            found[clip_id].append(row)
    return found


def _scores_of(run: Run, generation: Generation, renders: Mapping[str, list[Row]]) -> dict[str, dict[str, float]]:
    if not generation.scores:
        return {}
    ids = [row["render_id"] for rows in renders.values() for row in rows]
    found: dict[str, dict[str, float]] = defaultdict(dict)
    for row in look_up(run.workspace, "scores", generation.scores, ids, ("metric", "value")).to_pylist():
        found[row["render_id"]][row["metric"]] = row["value"]
    return found


def _thumb(data: bytes, uri: str, alt: str, options: images.ImageOptions) -> Thumb:
    pixels = images.decode(data, uri, options).pixels
    return Thumb(alt, media.data_uri("image/webp", media.thumbnail(pixels)))


def _file(uri: str) -> str:
    return uri.rsplit("/", 1)[-1]
