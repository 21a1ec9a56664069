"""Textual-inversion files for diffusers, AUTOMATIC1111's web UI and ComfyUI.

A cue is one safetensors file with a tensor per text encoder. An export folder also has `cues.csv`, an index with label,
licence and provenance of each cue, and a model card.

Source: the loaders `TextualInversionLoaderMixin` (diffusers), `create_embedding_from_data` (AUTOMATIC1111) and
`load_embed` (ComfyUI); docs/EXPORT.md has their rules.
"""

import csv
import io
import json
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float
from safetensors.numpy import save

from aai.errors import BadConfig

Program = Literal["diffusers", "a1111", "comfyui"]

INDEX, CARD = "cues.csv", "README.md"

METADATA_KEY = "aai"
"""Key of the JSON object in the metadata of a cue's file."""

SDXL_KEYS = ("clip_l", "clip_g")
"""Tensor names of a cue for SDXL, in all three programs."""

_ID_DIGITS = 12  # of a clip's id
_MAX_SLUG_LENGTH = 40
_CREDIT = ("title", "author", "artist", "creator", "uploader", "username", "credit", "source", "url")
"""Metadata columns that credit the author of a recording, used in the absence of `attribution`."""


@dataclass(frozen=True)
class Entry:
    """Description of an exported cue: a row of the index, and the metadata of its file."""

    file: str
    token: str
    clip_id: str
    label: str
    licence: str
    """Empty if unknown."""

    attribution: str
    recording: str
    """Name of the audio file."""

    start_s: str
    duration_s: str

    method: str
    base_model: str
    base_revision: str
    recipe: str
    program: str


def name_of(clip_id: str, label: str | None) -> str:
    """Name of a clip's cue, as `aai-heavy-rain-1a2b3c4d5e6f`; independent of the other cues in the bank.

    Lower-case ASCII letters, digits and single hyphens are safe in file names and in the prompt syntax of all programs.
    The probability of a collision among a million clips with the same label is 1 in 500.
    """
    return f"aai-{_slug(label)}-{clip_id[:_ID_DIGITS]}"


def attribution(attributes: str | None) -> str:
    """Attribution of a recording, from a JSON object with the additional columns of its metadata."""
    columns = {key.lower(): " ".join(str(value).split()) for key, value in json.loads(attributes or "{}").items()}
    return columns.get("attribution") or "; ".join(f"{key}: {columns[key]}" for key in _CREDIT if columns.get(key))


def recording(uri: str, offset: int | None) -> str:
    """File name of a recording, or the name of its tar and the offset in it.

    Folders and URL queries are dropped: they may be private.
    """
    name = uri.split("?", 1)[0].rsplit("/", 1)[-1]
    return name if offset is None else f"{name}, from byte {offset}"


def tensors_of(
    vectors: Float[np.ndarray, "tokens cue_dim"], dims: Sequence[int], program: Program, token: str
) -> dict[str, Float[np.ndarray, "tokens dim"]]:
    """Split a cue into one named tensor per text encoder, of `dims` columns each.

    There must be no other tensors: without a known name ComfyUI takes the first one. With one text encoder, programs
    accept any name; each gets its usual one.
    """
    parts = np.split(vectors, np.cumsum(dims)[:-1], axis=1)
    single_key = {"diffusers": token, "a1111": "emb_params", "comfyui": SDXL_KEYS[0]}[program]
    return dict(zip((single_key,) if len(parts) == 1 else SDXL_KEYS, parts, strict=True))


def to_safetensors(tensors: Mapping[str, Float[np.ndarray, "tokens dim"]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file in float32; the same contents give the same bytes.

    The metadata is one JSON object: the library writes several metadata keys in random order.
    """
    contiguous = {name: np.ascontiguousarray(tensor, np.float32) for name, tensor in tensors.items()}
    return save(contiguous, {METADATA_KEY: json.dumps(metadata, ensure_ascii=False, sort_keys=True)})


class Folder:
    """An export folder.

    A cue whose label or licence changed since it was exported is written again; any other file of the same name is an
    error.

    Raises:
        BadConfig: the folder has an index or a card that is not from an export, or an export with another recipe or
            format.
    """

    def __init__(self, path: Path, program: Program, recipe: str) -> None:
        self.path, self.num_new, self.num_updated = path, 0, 0
        self._program, self._recipe = program, recipe
        self._entries = {entry.file: entry for entry in self._read_index()}
        self._files = {entry.clip_id: entry.file for entry in self._entries.values()}

    @property
    def entries(self) -> list[Entry]:
        """All cues in the folder, by file name."""
        return [self._entries[file] for file in sorted(self._entries)]

    def add(self, entry: Entry, vectors: Float[np.ndarray, "tokens cue_dim"], dims: Sequence[int]) -> None:
        """Write a cue's file unless it exists; the file of the same cue with earlier metadata is replaced.

        Raises:
            BadConfig: a different file of that name exists, or the folder is not writable.
        """
        metadata = {key: value for key, value in asdict(entry).items() if value and key not in ("file", "program")}
        tensors = tensors_of(vectors, dims, self._program, entry.token)
        data, path = to_safetensors(tensors, metadata), self.path / entry.file
        earlier = self._entries.pop(self._files.get(entry.clip_id, ""), None)
        is_updated = earlier is not None and earlier != entry
        if (existing := _read(path)) != data:
            if existing is not None and not is_updated:
                raise BadConfig(
                    "a different file of this name exists: choose another folder, or move it", uri=str(path)
                )
            _write(path, data)
            self.num_updated += is_updated
            self.num_new += not is_updated
        if earlier and earlier.file != entry.file:
            (self.path / earlier.file).unlink(missing_ok=True)
        self._entries[entry.file] = entry
        self._files[entry.clip_id] = entry.file

    def close(self, card: str) -> None:
        """Write the index and the card.

        Raises:
            BadConfig: the folder is not writable.
        """
        text = io.StringIO()
        table = csv.DictWriter(text, [field.name for field in fields(Entry)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(entry) for entry in self.entries)
        for name, contents in ((INDEX, text.getvalue()), (CARD, card)):
            if _read(self.path / name) != contents.encode():
                _write(self.path / name, contents.encode())

    def _read_index(self) -> list[Entry]:
        """Entries of earlier exports whose files still exist."""
        index, card = self.path / INDEX, self.path / CARD
        data = _read(index)
        if data is None:
            if card.exists():
                raise BadConfig("it would be overwritten: choose another folder, or move it", uri=str(card))
            return []
        try:
            entries = [Entry(**row) for row in csv.DictReader(io.StringIO(data.decode(), newline=""))]
        except (TypeError, UnicodeDecodeError, csv.Error) as error:
            raise BadConfig("this is no index of cues: choose another folder", uri=str(index)) from error
        if any((entry.recipe, entry.program) != (self._recipe, self._program) for entry in entries):
            sentence = "the folder has cues of another configuration or format: choose another folder"
            raise BadConfig(sentence, uri=str(self.path))
        return [entry for entry in entries if (self.path / entry.file).exists()]


def _slug(label: str | None) -> str:
    """A label in ASCII letters, digits and hyphens; `clip` if nothing is left."""
    plain = unicodedata.normalize("NFKD", label or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_MAX_SLUG_LENGTH].strip("-") or "clip"


def _read(path: Path) -> bytes | None:
    """A file's bytes; None if it does not exist."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadConfig(f"it cannot be read ({error.strerror}): choose another folder", uri=str(path)) from error


def _write(path: Path, data: bytes) -> None:
    """Write a file atomically."""
    partial = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_bytes(data)
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BadConfig(f"it cannot be written ({error.strerror}): choose another folder", uri=str(path)) from error
