"""Cues as files that other programs load: diffusers, AUTOMATIC1111's web UI and ComfyUI.

They call it a textual inversion: one safetensors file with the rows, one tensor for each text encoder. Beside the files
lie `cues.csv`, which says of each what it is and under which licence its recording came, and a model card.

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
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from aai.errors import BadConfig

Program = Literal["diffusers", "a1111", "comfyui"]

INDEX, CARD = "cues.csv", "README.md"

SDXL_KEYS = ("clip_l", "clip_g")
"""What all three call the parts of a cue for SDXL."""

_ID_DIGITS = 12  # of a clip's id
_MOST_LETTERS = 40
_CREDIT = ("title", "author", "artist", "creator", "uploader", "username", "credit", "source", "url")
"""Columns of the metadata that say whose a recording is, where there is no `attribution`."""


@dataclass(frozen=True)
class Entry:
    """What is said of an exported cue: a row of the index, and the metadata in its file."""

    file: str
    token: str
    clip_id: str
    label: str
    licence: str
    """Empty where none is known."""

    attribution: str
    recording: str
    """The file that it was heard in."""

    start_s: str
    duration_s: str

    method: str
    base_model: str
    base_revision: str
    recipe: str
    program: str


def name_of(clip_id: str, label: str | None) -> str:
    """The name of a clip's cue: `aai-heavy-rain-1a2b3c4d5e6f`; it does not depend on what else is in a bank.

    Lower-case ASCII letters, digits and single hyphens, so that every file system takes it, and no program reads a part
    of it as something else. Two of a million clips with one label share a name with a chance of 1 in 500.
    """
    return f"aai-{_slug(label)}-{clip_id[:_ID_DIGITS]}"


def attribution(attributes: str | None) -> str:
    """Whose a recording is, as far as its metadata says so: a JSON object of columns that have no other place."""
    said = {key.lower(): " ".join(str(value).split()) for key, value in json.loads(attributes or "{}").items()}
    return said.get("attribution") or "; ".join(f"{key}: {said[key]}" for key in _CREDIT if said.get(key))


def recording(uri: str, offset: int | None) -> str:
    """The name of a recording's file; of a member of a tar the tar's, and where in it the member begins.

    Where it lies, and what its URL says besides, are no matter of whoever gets the cue.
    """
    name = uri.split("?", 1)[0].rsplit("/", 1)[-1]
    return name if offset is None else f"{name}, from byte {offset}"


def tensors_of(
    rows: Float[np.ndarray, "rows cue_dim"], dims: Sequence[int], program: Program, token: str
) -> dict[str, Float[np.ndarray, "rows dim"]]:
    """The tensors of a cue's file by their names, and no others: ComfyUI would take the first it finds.

    `dims` says how much of a row is of each text encoder. Where there is one, programs take whatever the only tensor is
    called; each gets the name that it would look for.
    """
    parts = np.split(rows, np.cumsum(dims)[:-1], axis=1)
    alone = {"diffusers": token, "a1111": "emb_params", "comfyui": SDXL_KEYS[0]}[program]
    return dict(zip((alone,) if len(parts) == 1 else SDXL_KEYS, parts, strict=True))


def to_safetensors(tensors: Mapping[str, Float[np.ndarray, "rows dim"]], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file in float32; the same bytes for the same contents.

    The library's own writer puts the metadata in another order each time.

    Source: https://github.com/huggingface/safetensors, "Format".
    """
    header: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    data = b""
    for name, tensor in tensors.items():
        more = np.ascontiguousarray(tensor, "<f4").tobytes()
        offsets = [len(data), len(data) + len(more)]
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": offsets}
        data += more
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text + data


class Folder:
    """Where an export goes. Files that are there stay as they are; one that is there and differs stops the export.

    Raises:
        BadConfig: the folder holds an index or a card that no export wrote, or an export of other cues' kind.
    """

    def __init__(self, path: Path, program: Program, recipe: str) -> None:
        self.path, self.num_new = path, 0
        self._program, self._recipe = program, recipe
        self._entries = {entry.file: entry for entry in self._earlier()}

    @property
    def entries(self) -> list[Entry]:
        """All that is in it, in the order of names."""
        return [self._entries[file] for file in sorted(self._entries)]

    def add(self, entry: Entry, rows: Float[np.ndarray, "rows cue_dim"], dims: Sequence[int]) -> None:
        """Write a cue's file unless it is there.

        Raises:
            BadConfig: another file of that name is there, or none can be written.
        """
        said = {key: value for key, value in asdict(entry).items() if value and key not in ("file", "program")}
        tensors = tensors_of(rows, dims, self._program, entry.token)
        data, path = to_safetensors(tensors, said | {"made_by": "AAI", "format": "pt"}), self.path / entry.file
        if (there := _read(path)) is None:
            _write(path, data)
            self.num_new += 1
        elif there != data:
            raise BadConfig(f"{path}: another file of this name is there: name another folder, or move it away")
        self._entries[entry.file] = entry

    def close(self, card: str) -> None:
        """Write the index and the card.

        Raises:
            BadConfig: they cannot be written.
        """
        text = io.StringIO()
        table = csv.DictWriter(text, [field.name for field in fields(Entry)], lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(entry) for entry in self.entries)
        for name, contents in ((INDEX, text.getvalue()), (CARD, card)):
            if _read(self.path / name) != contents.encode():
                _write(self.path / name, contents.encode())

    def _earlier(self) -> list[Entry]:
        """What earlier exports put there."""
        index = _read(self.path / INDEX)
        if index is None:
            if (self.path / CARD).exists():
                raise BadConfig(f"{self.path / CARD}: it would be overwritten: name another folder, or move it away")
            return []
        try:
            found = [Entry(**row) for row in csv.DictReader(io.StringIO(index.decode(), newline=""))]
        except (TypeError, UnicodeDecodeError, csv.Error) as error:
            raise BadConfig(f"{self.path / INDEX}: it is no index of cues: name another folder") from error
        if any((entry.recipe, entry.program) != (self._recipe, self._program) for entry in found):
            raise BadConfig(f"{self.path}: it holds cues of another configuration or format: name another folder")
        return [entry for entry in found if (self.path / entry.file).exists()]


def _slug(label: str | None) -> str:
    """A label in letters and digits of ASCII; what has none of these is a clip."""
    plain = unicodedata.normalize("NFKD", label or "").encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain)[:_MOST_LETTERS].strip("-") or "clip"


def _read(path: Path) -> bytes | None:
    """A file's contents; none where there is no such file."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadConfig(f"{path}: it cannot be read ({error.strerror}): name another folder") from error


def _write(path: Path, data: bytes) -> None:
    """Make a file that is there whole or not at all."""
    unfinished = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(data)
        os.replace(unfinished, path)
    except OSError as error:
        raise BadConfig(f"{path}: it cannot be written ({error.strerror}): name another folder") from error
