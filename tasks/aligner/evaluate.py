"""Evaluation of an aligner on held-out pairs, or on a bank with labels: figures, JSON and a page."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from aai.align.evaluation import Evaluation, Found, Gallery, beside, class_hits, evaluate, search
from aai.align.made_for import check_made_for
from aai.align.pair_vectors import HELD_OUT
from aai.errors import BadConfig
from aai.models.revisions import resolve_revision
from aai.report.charts import Chart
from aai.report.training import EvaluationPage, QueryCard, Retrieved, evaluation_page
from aai.workspace.store import write_whole
from tasks.aligner.config import ALIGNER, VECTORS, TrainingConfig, bank_of
from tasks.aligner.pairs import Pairs, pairs_of
from tasks.aligner.result import pairs_trained_on
from tasks.aligner.tower import embed_clips, encoder_of
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run
from tasks.stages import open_run
from tasks.views.clip_cards import Files
from tasks.views.lookup import look_up

PAGE, FIGURES = "evaluation.html", "evaluation.json"
MIN_HELD_OUT = 10
_MAX_IMAGES = 100_000
_MAX_CLIPS = 10_000
_SHOWN = 5


@dataclass(frozen=True)
class Named:
    """A gallery, and the ids of its clips and images."""

    gallery: Gallery
    clip_ids: Sequence[str]
    image_ids: Sequence[str]
    notes: list[str]
    other: tuple[str, Gallery] | None = None
    """Another aligner, and the gallery with its vectors."""


def evaluate_pairs(training: TrainingConfig, aligner: Path | None, output: Path, num_cards: int) -> Evaluation:
    """Evaluate an aligner, by default the trained one, on the held-out pairs of its training.

    Beside it stands another one: for the trained one that of the configuration, for others the trained one.

    Raises:
        BadConfig: it is not trained yet, or too few pairs are held out.
        Transient: the store failed.
    """
    run = open_run(bank_of(training))
    folder = aligner or Path(training.output) / ALIGNER
    if not _is_aligner(folder):
        raise BadConfig("there is no aligner: run `aai align train` first", uri=str(folder))
    found = pairs_of(run, training.pairs, training.train, Path(training.output) / VECTORS, training.seed)
    is_own = pairs_trained_on(Path(training.output)) == found.digest()
    if aligner is None and not is_own:
        sentence = "the pairs, their split or the encoders are not those of the training: some of the pairs that are "
        remedy = "held out now were trained on. Undo the change, or run `aai align train` again"
        raise BadConfig(sentence + remedy, uri=str(folder))
    held_out = _HeldOut(run, found)
    choices = [Path(training.output) / ALIGNER] if is_own else []
    choices += [Path(run.config.models.aligner)] if run.config.models.aligner else []
    other = next((path for path in choices if _is_aligner(path) and path.resolve() != folder.resolve()), None)
    return _evaluated(run, _beside(held_out, held_out.named(folder), other), output, num_cards)


def _is_aligner(folder: Path) -> bool:
    return (folder / "model.safetensors").is_file()


def _beside(held_out: "_HeldOut", named: Named, other: Path | None) -> Named:
    """The same clips and images, and the vectors of another aligner, if it can be compared."""
    if other is None:
        return named
    try:
        return replace(named, other=(str(other), held_out.named(other).gallery))
    except BadConfig as error:
        return replace(named, notes=[*named.notes, f"not compared with {other}: {error}"])


class _HeldOut:
    """The held-out pairs of a training.

    Raises:
        BadConfig: there are too few.
    """

    def __init__(self, run: Run, found: Pairs) -> None:
        members = found.vectors.members(HELD_OUT)
        if len(members) < MIN_HELD_OUT:
            sentence = f"{len(members)} pairs are held out: raise it, or add pairs, so that there are {MIN_HELD_OUT}"
            raise BadConfig(sentence, key="pairs.held_out")
        assert found.vectors.image is not None, "pairs have images"
        table, labels = found.table.take(members), found.table["label"].take(members).to_pylist()
        self._run, self._notes = run, found.notes
        self._clip_ids, clip_rows, clips = _unique(table["clip_id"])
        self._image_ids, image_rows, images = _unique(table["image_id"])
        self._heard = found.vectors.audio[members[clip_rows]]
        self._seen = found.vectors.image[members[image_rows]].astype(np.float32)
        self._pairs = np.stack([clips, images], axis=1)
        self._labels = [labels[row] for row in clip_rows], [labels[row] for row in image_rows]

    def named(self, aligner: Path) -> Named:
        """They, with the vectors of an aligner.

        Raises:
            BadConfig: it is damaged, or for other encoders.
            Transient: the store failed.
        """
        encoder = encoder_of(aligner)
        encoders = {role: self._run.revision(role) for role in ("audio", "image_text")}
        check_made_for(aligner, encoders | ({"audio": resolve_revision(encoder, None)} if encoder else {}))
        heard = embed_clips(self._run, encoder, self._clip_ids) if encoder else self._heard
        aligned = _aligned(aligner, heard.astype(np.float32), self._seen.shape[1])
        gallery = Gallery(aligned, self._seen, self._pairs, *self._labels)
        return Named(gallery, self._clip_ids, self._image_ids, self._notes)


def evaluate_bank(run: Run, output: Path, num_cards: int) -> Evaluation:
    """Evaluate the aligner of a bank by the labels of its clips and images.

    Raises:
        BadConfig: the bank is not built, or has no labels in common.
        Transient: the store failed.
    """
    clips = _labelled(run, "aligned_vectors", "clip_id", "present_clips", _MAX_CLIPS)
    images = _labelled(run, "image_vectors", "image_id", "present_images", _MAX_IMAGES)
    for rows, name in ((clips, "clips"), (images, "images")):
        if not rows.num_rows:
            raise BadConfig(f"the bank has no vectors of {name}: run `aai build` first", key="workspace")
    labels = [set(rows["label"].drop_null().to_pylist()) for rows in (clips, images)]
    if not labels[0] & labels[1]:
        raise BadConfig("no clip and image have a label in common: name tables with labels", key="metadata")
    gallery = Gallery(
        to_array(clips["vector"]),
        to_array(images["vector"]),
        np.empty((0, 2), np.int64),
        clips["label"].to_pylist(),
        images["label"].to_pylist(),
    )
    named = Named(gallery, clips["clip_id"].to_pylist(), images["image_id"].to_pylist(), _limits(run))
    return _evaluated(run, named, output, num_cards)


def _labelled(run: Run, table: str, key: str, view: str, limit: int) -> pa.Table:
    """Ids, vectors and labels of items, in the order of their ids, which is random."""
    with run.query() as query:
        sql = f"SELECT v.{key}, v.vector, p.label FROM {table} v JOIN {view} p ON v.{key} = p.{key} "
        return query.table(f"{sql} ORDER BY v.{key} LIMIT {limit}")


def _limits(run: Run) -> list[str]:
    notes = []
    with run.query() as query:
        for table, limit, name in (("aligned_vectors", _MAX_CLIPS, "clips"), ("image_vectors", _MAX_IMAGES, "images")):
            num = query.number(f"SELECT count(*) FROM {table}")
            if num > limit:
                notes.append(f"{limit:,} of {num:,} {name} are used, chosen by their ids")
    return notes


def _unique(column: pa.ChunkedArray) -> tuple[list[str], np.ndarray, np.ndarray]:
    """The distinct ids, the first row of each, and each row's number among them."""
    encoded = column.combine_chunks().dictionary_encode()
    numbers = encoded.indices.to_numpy().astype(np.int64)
    _, first = np.unique(numbers, return_index=True)
    return encoded.dictionary.to_pylist(), first, numbers


def _aligned(folder: Path, vectors: np.ndarray, dim: int) -> np.ndarray:
    import torch

    from aai.align.projector import Projector

    projector = Projector.load(folder)
    if projector.first.in_features != vectors.shape[1]:
        sentence = f"it takes vectors of {projector.first.in_features} numbers, and the audio encoder's have "
        raise BadConfig(f"{sentence}{vectors.shape[1]}: it was trained for another encoder", uri=str(folder))
    with torch.inference_mode():
        aligned: np.ndarray = projector(torch.from_numpy(vectors)).numpy()
    if aligned.shape[1] != dim:
        sentence = f"its vectors have {aligned.shape[1]} numbers, and those of the images {dim}: "
        raise BadConfig(f"{sentence}it was trained for another image encoder", uri=str(folder))
    if not np.isfinite(aligned).all():
        raise BadConfig("its vectors are not finite: train it again, or copy it again", uri=str(folder))
    return aligned


def _evaluated(run: Run, named: Named, output: Path, num_cards: int) -> Evaluation:
    result = evaluate(named.gallery)
    result = replace(result, notes=named.notes + result.notes)
    if named.other:
        result = beside(result, named.other[0], evaluate(named.other[1]))
    page = evaluation_page(_contents(run, named, result, num_cards))
    try:
        output.mkdir(parents=True, exist_ok=True)
        write_whole(output / FIGURES, (json.dumps(result.as_json(), indent=1) + "\n").encode())
        write_whole(output / PAGE, page.encode())
    except OSError as error:
        raise BadConfig(f"it cannot be written ({error.strerror})", key="--output", uri=str(output)) from error
    return result


def _contents(run: Run, named: Named, result: Evaluation, num_cards: int) -> EvaluationPage:
    found = search(named.gallery, centred=True)
    chosen = np.unique(np.linspace(0, len(named.clip_ids) - 1, min(num_cards, len(named.clip_ids))).astype(int))
    points = {"precision": [(row.coverage, row.precision) for row in result.abstention]}
    return EvaluationPage(
        Path(run.workspace.uri).parent.name,
        datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        result.num_clips,
        result.num_images,
        result.figures,
        result.abstention,
        result.correct,
        Chart.of("Precision by coverage", points, "coverage"),
        _cards(run, named, found, chosen.tolist() if num_cards else []),
        result.notes,
        result.other,
    )


def _cards(run: Run, named: Named, found: Found, chosen: list[int]) -> list[QueryCard]:
    files, gallery = Files(run), named.gallery
    right, _ = class_hits(gallery, found.top)
    own: dict[int, list[int]] = {}
    for clip, image in gallery.pairs.tolist():
        own.setdefault(clip, []).append(image)
    numbers = {int(item) for clip in chosen for item in (*found.top[clip, :_SHOWN], *own.get(clip, [])[:1])}
    columns = ("uri", "offset", "num_bytes")
    clip_columns = (*columns, "content_id", "start_s", "duration_s")
    ids = [named.image_ids[number] for number in numbers]
    images = {row["image_id"]: row for row in look_up(run, "known_images", ids, columns, key="image_id")}
    clip_ids = [named.clip_ids[clip] for clip in chosen]
    clips = {row["clip_id"]: row for row in look_up(run, "known_clips", clip_ids, clip_columns, key="clip_id")}

    def thumb(number: int) -> Any:
        row = images[named.image_ids[number]]
        return files.image(row["image_id"], tuple(row[name] for name in columns), row["uri"].rsplit("/", 1)[-1])

    cards = []
    for clip in chosen:
        row, mine = clips[named.clip_ids[clip]], own.get(clip, [])
        near = [
            Retrieved(thumb(item), float(gallery.clips[clip] @ gallery.images[item]), item in mine, bool(is_right))
            for item, is_right in zip(found.top[clip, :_SHOWN].tolist(), right[clip, :_SHOWN], strict=True)
        ]
        label = gallery.clip_labels[clip] if gallery.clip_labels else None
        rank = int(found.ranks[clip]) if mine else None
        name = row["uri"].rsplit("/", 1)[-1]
        cards.append(QueryCard(label, name, files.sound(row), thumb(mine[0]) if mine else None, near, rank))
    return cards
