"""Pairs of clips and images: found by name or table in a workspace, and their vectors written for the training."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from aai.align import misaligned
from aai.align.pair_vectors import (
    LEFT_OUT,
    MISALIGNED,
    PairVectors,
    PairWriter,
    digest_in,
)
from aai.align.train_options import PairOptions, TrainAlignerOptions
from aai.errors import BadConfig
from aai.identity import content_id
from aai.workspace import Query
from tasks.aligner.split import shared_images, split
from tasks.aligner.tables import USED, read_table, unused_columns
from tasks.aligner.unpaired import rows_without_pair, tars_without
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run

_KEY_SQL = r"regexp_replace({uri}, '([^/#.]+)\.[^/#]*$', '\1')"
"""The path up to the first dot of the name: `x.tar#a/b` of `x.tar#a/b.1.jpg`."""

_SOUNDS = f"""
    SELECT c.clip_id, c.content_id, n.uri, n.label, n.caption, {_KEY_SQL.format(uri="n.uri")} AS key
    FROM clips c JOIN named_audio n ON c.content_id = n.content_id SEMI JOIN audio_vectors v ON c.clip_id = v.clip_id
"""
_PICTURES = f"""
    SELECT n.content_id AS image_id, n.uri, n.label, n.caption, {_KEY_SQL.format(uri="n.uri")} AS key
    FROM named_image n SEMI JOIN image_vectors v ON n.content_id = v.image_id
"""
_PAIRED = """
    SELECT s.clip_id, p.image_id, any_value(s.content_id) AS content_id, min(p.uri) AS uri, min({key}) AS key,
           min(coalesce({label})) AS label, min(coalesce({caption})) AS caption
    FROM ({sounds}) s {join} GROUP BY s.clip_id, p.image_id ORDER BY s.clip_id, uri
"""
_STEM, _SHORTER = (f"regexp_replace(uri, '{end}$', '')" for end in (r"\.[^/#.]*", r"\.[^/#.]*\.[^/#.]*"))
"""The path up to the last dot of the name, and up to the last but one."""

_OF_SOUND = f"SELECT *, unnest(list_distinct([{_STEM}, key])) AS name FROM ({_SOUNDS})"
_OF_PICTURE = f"""
    SELECT *, CASE WHEN {_STEM} IN (SELECT {_STEM} FROM ({_SOUNDS})) THEN {_STEM}
                   WHEN {_SHORTER} IN (SELECT {_STEM} FROM ({_SOUNDS})) THEN {_SHORTER} ELSE key END AS name
    FROM ({_PICTURES})
"""
"""An image belongs to the sound with its whole name, such as `2024.05.01.jpg`, where there is one."""

_BY_NAME = f"JOIN ({_OF_PICTURE}) p ON s.name = p.name"
_BY_TABLE = f"JOIN listed t ON s.uri = t.audio JOIN ({_PICTURES}) p ON t.image = p.uri"
_REPEATED = """
    SELECT coalesce(sum(num - 1), 0)::BIGINT FROM (
        SELECT count(*) AS num FROM listed WHERE audio IS NOT NULL AND image IS NOT NULL GROUP BY audio, image
    )
"""
_SEVERAL = """
    SELECT count(*) FROM (
        SELECT 1 FROM listed GROUP BY audio, image HAVING count(DISTINCT label) > 1 OR count(DISTINCT caption) > 1
    )
"""


@dataclass(frozen=True)
class Pairs:
    """The pairs of a training, with their vectors and what is known of them."""

    vectors: PairVectors
    table: pa.Table
    """A row per pair: clip_id, image_id, content_id, uri, key, label, caption."""
    classes: list[str]
    """The labels by their numbers."""
    notes: list[str]
    """What was left out, in sentences."""
    encoders: str
    """What the vectors depend on: the recipes of both sides, and the model of the texts."""
    before: Sequence[str] = ()
    """What was left out before there were any clips and images, in sentences."""

    def digest(self) -> str:
        """What the pairs are, what each is for, and what their vectors depend on."""
        return content_id(self.vectors.facts.tobytes() + f"{ids_of(self.table)} {self.encoders}".encode())


def ids_of(table: pa.Table) -> str:
    """A digest of the pairs' ids and texts."""
    columns = [table[name].cast(pa.string()).fill_null("") for name in ("clip_id", "image_id", "label", "caption")]
    joined = "\n".join(pc.binary_join_element_wise(*columns, "\t").to_pylist())
    return content_id(joined.encode())


def find_pairs(run: Run, options: PairOptions) -> tuple[pa.Table, list[str]]:
    """The pairs in a workspace, and sentences about what has no partner.

    Raises:
        BadConfig: there are none.
        Transient: the store failed.
    """
    sounds, key, join = _OF_SOUND, "p.name", _BY_NAME
    if options.table:
        sounds, key, join = _SOUNDS, "s.key", _BY_TABLE
    says = "tsp" if options.table else "sp"  # the row of the pair itself comes first
    texts = {name: ", ".join(f"{each}.{name}" for each in says) for name in ("label", "caption")}
    extra = {"listed": read_table(options.table)} if options.table else None
    with run.query(extra=extra) as query:
        found = query.table(_PAIRED.format(sounds=sounds, key=key, join=join, **texts))
        num_sounds = query.number(
            "SELECT count(*) FROM audio_vectors v SEMI JOIN present_audio_ids p ON v.clip_id = p.id"
        )
        num_images = query.number(
            "SELECT count(*) FROM image_vectors v SEMI JOIN present_image_ids p ON v.image_id = p.id"
        )
        missing = rows_without_pair(query, _SOUNDS, _PICTURES) if options.table else []
        several = [query.number(sql) for sql in (_REPEATED, _SEVERAL)] if options.table else []
    notes = _unpaired(found, num_sounds, num_images) + missing + (tars_without(run) if options.folder else [])
    notes += _of_table(options.table, *several) if options.table else []
    notes += _shared_names(found) if options.folder else []
    if not found.num_rows:
        how = "no row names files that could be read" if options.table else "no image has the name of a sound beside it"
        key = "pairs.table" if options.table else "pairs.folder" if options.folder else "pairs.videos"
        known = "".join(f"; {note}" for note in missing)
        remedy = "" if options.table else ": put images beside their sounds, or name a table of pairs"
        raise BadConfig(f"{how}, among {num_sounds:,} clips and {num_images:,} images{known}{remedy}", key=key)
    return found, notes


def _shared_names(found: pa.Table) -> list[str]:
    """A sentence on names that several sounds have, such as `rec` of `rec.1.flac` and `rec.2.flac`."""
    counts = found.group_by("key").aggregate([("content_id", "count_distinct")])
    num = pc.sum(pc.greater(counts["content_id_count_distinct"], 1)).as_py()
    if not num:
        return []
    return [f"{num:,} names up to the first dot are of several sounds, each of which is paired with all their images"]


def _unpaired(found: pa.Table, num_sounds: int, num_images: int) -> list[str]:
    notes = []
    for name, num in (("clip", num_sounds), ("image", num_images)):
        alone = num - pc.count_distinct(found[f"{name}_id"]).as_py()
        if alone:
            notes.append(f"{alone:,} of {num:,} {name}s have no partner, and are left out")
    return notes


def _of_table(path: str, repeated: int, several: int) -> list[str]:
    """Sentences on what a table of pairs says that has no effect."""
    notes = []
    if unused := unused_columns(path):
        notes.append(f"the table's columns {', '.join(unused)} are not used: a training reads {', '.join(USED)}")
    if repeated:
        notes.append(f"rows of the table whose pair of files another row names, too: {repeated:,}; a pair counts once")
    if several:
        notes.append(f"pairs in several rows with different labels or captions: {several:,}; the first by name counts")
    return notes


def pairs_of(run: Run, options: PairOptions, train: TrainAlignerOptions, folder: Path, seed: int) -> Pairs:
    """The pairs of a workspace with their vectors in a folder, which are written unless they are there.

    Raises:
        BadConfig: there are no pairs, or the folder cannot be written.
        Transient: the store failed.
    """
    table, notes = find_pairs(run, options)
    texts, faults = texts_of(table, train.prompt)
    needs_texts = bool(train.text_weight) or options.frame == "label"
    notes += faults if needs_texts else []
    encoders = "".join(run.recipe(name) for name in ("audio_vectors", "image_vectors"))
    encoders += "@".join(run.revision("image_text")) if needs_texts else ""
    settings = f"{encoders} {options.model_dump_json()} {train.prompt} {needs_texts} {seed}"
    facts, classes = facts_of(table, options, seed)
    digest = content_id(facts.tobytes() + f"{ids_of(table)} {settings}".encode())
    if digest_in(folder) == digest:
        vectors = PairVectors.open(folder)
    else:
        vectors = _write(run, table, texts if needs_texts else [], (folder, facts, options, digest))
    notes += _notes_of(vectors, options)
    notes += shared_images(recordings_of(table, options), vectors.pictures, bool(options.videos))
    return Pairs(vectors, table, classes, notes, encoders)


def texts_of(table: pa.Table, prompt: str) -> tuple[list[str], list[str]]:
    """The text of each pair, empty without caption and label; and a sentence on those without."""
    texts = [
        caption or (prompt.replace("*", label) if label else "")
        for caption, label in zip(table["caption"].to_pylist(), table["label"].to_pylist(), strict=True)
    ]
    missing = sum(not text for text in texts)
    return texts, [f"{missing:,} pairs have neither caption nor label"] if missing else []


def facts_of(table: pa.Table, options: PairOptions, seed: int) -> tuple[Int64[np.ndarray, "pairs 4"], list[str]]:
    """Sound, picture, class and part of each pair; and the labels."""
    sounds, pictures = (_numbers(table[name]) for name in ("clip_id", "image_id"))
    recordings = recordings_of(table, options)
    labels = table["label"].combine_chunks().dictionary_encode()
    classes = labels.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    parts = split(recordings, pictures, table["content_id"].to_pylist(), options, seed)
    return np.stack([sounds, pictures, classes.astype(np.int64), parts], axis=1), labels.dictionary.to_pylist()


def recordings_of(table: pa.Table, options: PairOptions) -> Int64[np.ndarray, " pairs"]:
    """The number of each pair's recording, or of its video."""
    return _numbers(_video_keys(table["key"]) if options.videos else table["content_id"])


def _video_keys(keys: pa.ChunkedArray) -> pa.ChunkedArray:
    """The video of each window, whose key is that of the video and a number."""
    return pc.replace_substring_regex(keys, r"-\d+$", "")


def _write(run: Run, table: pa.Table, texts: list[str], into: tuple[Path, np.ndarray, PairOptions, str]) -> PairVectors:
    """Write the vectors of pairs, streamed from the tables, and what each pair is for."""
    folder, facts, options, digest = into
    with run.query() as query:
        dims = {name: _dim(query, f"{name}_vectors") for name in ("audio", "image")}
        writer = PairWriter(folder, table.num_rows, dims | ({"text": dims["image"]} if texts else {}))
        for name, key in (("audio", "clip_id"), ("image", "image_id")):
            _scatter(query, f"{name}_vectors", key, table[key], writer.arrays[name])
    if texts:
        embed_texts(run, texts, writer.arrays["text"])
    return writer.finish(left_out(writer.view(facts), table, options), digest)


def embed_texts(run: Run, texts: list[str], rows: np.ndarray) -> None:
    """Write the image-text encoder's vectors of texts; those without a text, or with too long a one, are zero."""
    from tasks.runtime.models import open_image_text

    encoder = open_image_text(run.config)
    unique = [text for text in dict.fromkeys(texts) if text and encoder.fault_of(text) is None]
    vectors = dict(zip(unique, encoder.embed_texts(unique).numpy(), strict=True))
    for number, text in enumerate(texts):
        if text in vectors:
            rows[number] = vectors[text]


def _dim(query: Query, table: str) -> int:
    return query.number(f"SELECT len(vector) FROM {table} LIMIT 1")


def _scatter(query: Query, table: str, key: str, ids: pa.ChunkedArray, rows: np.ndarray) -> None:
    """Write the vector of each id of a column to its rows."""
    encoded = ids.combine_chunks().dictionary_encode()
    order = np.argsort(encoded.indices.to_numpy(), kind="stable")
    ends = np.cumsum(np.bincount(encoded.indices.to_numpy(), minlength=len(encoded.dictionary)))
    for batch in query.batches(f"SELECT {key}, vector FROM {table}"):
        found = pc.index_in(batch[key], value_set=encoded.dictionary)
        vectors, numbers = to_array(batch["vector"]), found.fill_null(-1).to_numpy()
        known = np.flatnonzero(numbers >= 0)
        starts = np.where(numbers[known] > 0, ends[numbers[known] - 1], 0)
        counts = ends[numbers[known]] - starts
        targets = np.repeat(starts - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        rows[order[targets]] = vectors[np.repeat(known, counts)]


def left_out(vectors: PairVectors, table: pa.Table, options: PairOptions) -> Int64[np.ndarray, "pairs 4"]:
    """The facts of pairs without the frames that are not chosen, and without misaligned pairs."""
    facts = np.array(vectors.facts)
    if options.videos:
        facts[~chosen_frames(vectors, _numbers(table["key"]), options), -1] = LEFT_OUT
    if options.filters:
        members = np.flatnonzero(facts[:, -1] != LEFT_OUT)
        probability = misaligned.probabilities(vectors, members)
        facts[members[probability > misaligned.THRESHOLD], -1] = MISALIGNED
    return facts


def chosen_frames(
    vectors: PairVectors, keys: Int64[np.ndarray, " pairs"], options: PairOptions
) -> Bool[np.ndarray, " pairs"]:
    """Which pairs have the frame of their window: the most similar to the text, or the first, which is the middle one.

    Without a text all frames are equally similar to it. `keys` numbers the windows.
    """
    scores = np.zeros(len(vectors))
    if options.frame == "label" and vectors.text is not None and vectors.image is not None:
        for start in range(0, len(vectors), 8192):
            part = slice(start, start + 8192)
            scores[part] = np.einsum("id,id->i", np.float32(vectors.image[part]), np.float32(vectors.text[part]))
    order = np.lexsort((np.arange(len(scores)), -scores, keys))
    is_first = np.diff(keys[order], prepend=-1) != 0
    chosen = np.zeros(len(scores), bool)
    chosen[order[is_first]] = True
    return chosen


def _notes_of(vectors: PairVectors, options: PairOptions) -> list[str]:
    counts, notes = Counter(vectors.parts.tolist()), []
    if options.filters:
        num = counts[MISALIGNED]
        used = len(vectors) - counts[LEFT_OUT]
        share = num / max(used, 1)
        notes.append(f"{num:,} of {used:,} pairs ({share:.1%}) are misaligned, and are left out")
    return notes


def _numbers(column: pa.ChunkedArray) -> Int64[np.ndarray, " rows"]:
    return column.combine_chunks().dictionary_encode().indices.to_numpy().astype(np.int64)
