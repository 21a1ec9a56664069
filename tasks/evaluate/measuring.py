"""What a comparison measures of its pictures, texts and clips, and the metrics of each cell that follow from it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from aai import metrics
from aai.errors import BadItem
from aai.evaluate.sets import diversity
from aai.evaluate.similarities import best_label, ranks_within, z_scores
from aai.identity import content_id
from tasks.evaluate.cells import Cell, caption_of, item_of
from tasks.measure import CLIP, ITEM, TEXT
from tasks.measure_edits import EditItem
from tasks.runtime.models import image_role
from tasks.runtime.run import Run
from tasks.runtime.stage import Pending
from tasks.views.lookup import look_up

Row = dict[str, Any]


class Items:
    """The items of a comparison, a source for the stage `measure`, and what is known of them."""

    def __init__(self, run: Run, clips: pa.Table, own: Mapping[str, Row]) -> None:
        self._run = run
        self.clips = {row["clip_id"]: row for row in clips.to_pylist()}
        self.labels = sorted({row["label"] for row in self.clips.values() if row["label"]})
        self.hears_twice = run.config.models.audio_judge is not None
        self._rows: dict[str, Row] = {}
        self.of_label = {label: self._add(_text(label)) for label in self.labels}
        self.of_clip = (
            {clip_id: self._add(_clip(row)) for clip_id, row in self.clips.items()} if self.hears_twice else {}
        )
        self.of_own = {clip_id: self._add(_own(row)) for clip_id, row in own.items()}
        self.values: dict[str, dict[str, float]] = {}
        self.vectors: dict[tuple[str, str], np.ndarray] = {}

    def add(self, cell: Cell) -> str | None:
        """The item of a cell's picture; none without one."""
        if cell.location is None:
            return None
        clip = self.clips[cell.clip_id]
        try:
            caption, prompt = caption_of(cell.text, clip)
        except BadItem:
            caption, prompt = None, ""
        return self._add(item_of(cell, caption, prompt, clip["label"]))

    def add_edit(self, edit: EditItem) -> str:
        """The item of an edit and its source."""
        return self._add(dict(edit.row()))

    def pending(self, retry_rejects: bool = False) -> Pending:
        """The items that are not measured yet.

        Raises:
            Transient: the store failed.
        """
        done = {row["item_id"] for row in look_up(self._run, "measures", self._rows, ())}
        missing = [item_id for item_id in self._rows if item_id not in done]
        rejected = set() if retry_rejects or not missing else self._rejected()
        new = [self._rows[item_id] for item_id in missing if item_id not in rejected]
        rows = [pa.Table.from_pylist(new, schema=ITEM)] if new else []
        return Pending(len(self._rows), len(new), len(missing) - len(new), rows)

    def read(self) -> None:
        """Read what was measured.

        Raises:
            Transient: the store failed.
        """
        for row in look_up(self._run, "measures", self._rows, ("name", "value", "vector")):
            if row["vector"] is not None:
                self.vectors[row["item_id"], row["name"]] = np.array(row["vector"], np.float32)
            else:
                self.values.setdefault(row["item_id"], {})[row["name"]] = row["value"]

    def digest(self) -> list[str]:
        """All ids, sorted: they stand for everything that was measured."""
        return sorted(self._rows)

    def _add(self, row: Row) -> str:
        self._rows.setdefault(row["item_id"], row)
        return str(row["item_id"])

    def _rejected(self) -> set[str]:
        with self._run.query({"rejects": self._run.recipe("measures")}) as query:
            found = query.table("SELECT DISTINCT id FROM rejects WHERE part_of IS NULL AND error <> 'Unavailable'")
        return set(found["id"].to_pylist())


def measured_cells(run: Run, items: Items, cells: Sequence[Cell], item_ids: Sequence[str | None]) -> list[Row]:
    """A row per cell with the metrics that it has."""
    rows = [{**items.values.get(item_id or "", {})} for item_id in item_ids]
    _compare_labels(items, cells, item_ids, rows)
    sounds, role = _sounds(run, items)
    _compare(items, cells, item_ids, rows, role, sounds, (metrics.AIS_COSINE, metrics.AIS_RANK, metrics.AIS_Z))
    own = {clip_id: items.vectors.get((item_id, "image_text")) for clip_id, item_id in items.of_own.items()}
    _compare(items, cells, item_ids, rows, "image_text", own, (metrics.IIS_COSINE, metrics.IIS_RANK, ""))
    _add_diversity(items, cells, item_ids, rows)
    return rows


def vectors_by_method(
    run: Run, items: Items, cells: Sequence[Cell], item_ids: Sequence[str | None]
) -> dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]:
    """Embeddings of the pictures of each method and prompt in the space of the index, with their clips' numbers."""
    numbers = {clip_id: number for number, clip_id in enumerate(items.clips)}
    groups: dict[tuple[str, str], list[tuple[np.ndarray, int]]] = {}
    for cell, item_id in zip(cells, item_ids, strict=True):
        vector = items.vectors.get((item_id or "", image_role(run.config)))
        if vector is not None:
            groups.setdefault((cell.method, cell.prompt), []).append((vector, numbers[cell.clip_id]))
    return {
        key: (np.stack([vector for vector, _ in own]), np.array([number for _, number in own]))
        for key, own in groups.items()
    }


def _sounds(run: Run, items: Items) -> tuple[dict[str, np.ndarray | None], str]:
    """The vector of each clip with which pictures are compared, and the role of the encoder that sees the pictures."""
    if items.hears_twice:
        return {clip: items.vectors.get((item, "audio_judge")) for clip, item in items.of_clip.items()}, "audio_judge"
    rows = look_up(run, "aligned_vectors", items.clips, ("vector",))
    return {row["clip_id"]: np.array(row["vector"], np.float32) for row in rows}, image_role(run.config)


def _compare(  # noqa: PLR0913
    items: Items,
    cells: Sequence[Cell],
    item_ids: Sequence[str | None],
    rows: list[Row],
    role: str,
    targets: Mapping[str, np.ndarray | None],
    names: tuple[str, str, str],
) -> None:
    """Compare pictures with what belongs to their clips: cosine, rank among the others, and z-score in a method."""
    known = {clip_id: vector for clip_id, vector in targets.items() if vector is not None}
    if not known:
        return
    pool, numbers = np.stack(list(known.values())), {clip_id: number for number, clip_id in enumerate(known)}
    groups: dict[tuple[str, str], list[int]] = {}
    for index, (cell, item_id) in enumerate(zip(cells, item_ids, strict=True)):
        if cell.clip_id in known and (item_id, role) in items.vectors:
            groups.setdefault((cell.method, cell.prompt), []).append(index)
    for group in groups.values():
        pictures = np.stack([items.vectors[item_ids[index] or "", role] for index in group])
        own = [numbers[cells[index].clip_id] for index in group]
        found = [np.einsum("id,id->i", pictures, pool[own]), ranks_within(pictures, pool, own)]
        found += [z_scores(pictures, pool, own)] if names[2] else []
        for name, values in zip(names, found, strict=False):
            for index, value in zip(group, values.tolist(), strict=True):
                if not np.isnan(value):
                    rows[index][name] = value


def _compare_labels(items: Items, cells: Sequence[Cell], item_ids: Sequence[str | None], rows: list[Row]) -> None:
    known = {label: items.vectors.get((item_id, "image_text")) for label, item_id in items.of_label.items()}
    labels = {label: vector for label, vector in known.items() if vector is not None}
    if len(labels) < 2:
        return
    names, pool = list(labels), np.stack(list(labels.values()))
    for cell, item_id, row in zip(cells, item_ids, rows, strict=True):
        vector, label = items.vectors.get((item_id or "", "image_text")), items.clips[cell.clip_id]["label"]
        if vector is not None and label in labels:
            row[metrics.AIC] = float(names[best_label(vector[None], pool)[0]] == label)


def _add_diversity(items: Items, cells: Sequence[Cell], item_ids: Sequence[str | None], rows: list[Row]) -> None:
    groups: dict[tuple[str, ...], list[int]] = {}
    for index, (cell, item_id) in enumerate(zip(cells, item_ids, strict=True)):
        if (item_id, "image_text") in items.vectors:
            groups.setdefault((cell.clip_id, cell.method, cell.prompt, cell.photo), []).append(index)
    for group in groups.values():
        value = diversity(np.stack([items.vectors[item_ids[index] or "", "image_text"] for index in group]))
        if not np.isnan(value):
            for index in group:
                rows[index][metrics.DIVERSITY] = value


def _text(label: str) -> Row:
    return {"item_id": content_id(f"text\n{label}".encode()), "kind": TEXT, "text": label}


def _clip(row: Row) -> Row:
    names = ("uri", "offset", "num_bytes", "content_id", "start_s", "duration_s")
    location = json.dumps({name: row[name] for name in names})
    return {"item_id": content_id(f"clip\n{row['clip_id']}".encode()), "kind": CLIP, "location": location}


def _own(row: Row) -> Row:
    location = {name: row[name] for name in ("uri", "offset", "num_bytes")} | {"content_id": row["image_id"]}
    item_id = content_id(json.dumps([row["image_id"], None, "", None]).encode())
    return {"item_id": item_id, "kind": "picture", "location": json.dumps(location), "prompt": ""}
