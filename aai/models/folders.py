"""Checks of model folders before any work, without loading a model: this module imports neither torch nor transformers.

Files are there and whole, the configuration is that of the right kind of model, sizes fit one another, and all weights
are finite. Of models on the hub this is checked of the files in the cache, before the others are downloaded.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from aai.errors import BadConfig
from aai.models.encoders import embedding_dims
from aai.models.remembered import remembered

_AGAIN = "copy or download the model again"
JOINT_KINDS = ("pe_audio_video", "embedding_gemma2")
"""The `model_type` of the joint encoders."""
_PACKAGES = {"pe_audio_video": ("timm", "torchvision")}
"""Packages that models of a type need beside those that AAI always has."""
_KINDS = {"audio": ("clap",), "image_text": ("clip",), "joint": JOINT_KINDS, "audio_judge": JOINT_KINDS}
"""The `model_type` of the transformers models, by role."""
_LAION_DIM = 512
"""The embeddings of all checkpoints of LAION; their sizes are in the weights alone."""
_PARTS = {"text_encoder": True, "text_encoder_2": False, "unet": True, "vae": True}
"""The models of a diffusers pipeline, and whether each pipeline has them."""
_WEIGHTS = ("model.safetensors", "diffusion_pytorch_model.safetensors")
_JSON = ("config.json", "tokenizer.json", "model_index.json", ".index.json")
BOUNDS = (".input_min", ".input_max", ".output_min", ".output_max")
"""The ends of the names of limits that EmbeddingGemma 2 clips its activations to, which may be infinite."""
_EXPONENTS: dict[str, tuple[type[np.unsignedinteger], int]] = {
    "F64": (np.uint64, 0x7FF0 << 48),
    "F32": (np.uint32, 0x7F80_0000),
    "F16": (np.uint16, 0x7C00),
    "BF16": (np.uint16, 0x7F80),
}
"""By type in safetensors: the bits of an exponent, which are all set in numbers that are not finite."""
_CHUNK = 2**22
_HEADER_BYTES = 8


def check_folders(folders: Mapping[str, Path]) -> None:
    """Check the folders of models, by role, and that they fit one another.

    Raises:
        BadConfig: a file is missing or damaged, of another kind of model, has weights that are not finite, or the sizes
            of two models differ; `key` is the role's.
    """
    for role, folder in folders.items():
        try:
            check_folder(role, folder)
        except BadConfig as error:
            raise BadConfig(error.sentence, key=f"models.{role}", uri=error.uri) from error
    _check_sizes(folders)


class MissingFile(BadConfig):
    """A file of a model is not there."""


def check_hub_model(role: str, name: str, revision: str | None) -> Path | None:
    """Check the files of a model on the hub that are in the cache; its folder there if it is complete.

    Raises:
        BadConfig: one is damaged, or some are not there and the hub does not answer.
    """
    from aai.models.hub import cached_folder, is_online  # models in folders do not need it

    folder = cached_folder(name, revision)
    try:
        check_folder(role, folder)
    except MissingFile as error:
        if not is_online():
            missing = str(error.uri).removeprefix(f"{folder}/") if folder.is_dir() else "any of its files"
            raise BadConfig(
                f"the cache ({folder.parents[2]}) has not {missing}, and the hub does not answer: go online, or name a "
                "folder with the model",
                key=f"models.{role}",
                uri=name,
            ) from error
        return None
    except BadConfig as error:
        remedy = "delete it there, so that it is downloaded again"
        raise BadConfig(f"{error.sentence}; {remedy}", key=f"models.{role}", uri=error.uri) from error
    return folder


def check_folder(role: str, folder: Path) -> None:
    """Check a model's folder.

    Raises:
        BadConfig: as `check_folders`; `uri` is the file.
    """
    for path in sorted(folder.rglob("*.json")):
        if path.name.endswith(_JSON):
            _read_json(path)
    if folder.is_file():
        _check_checkpoint(role, folder)
    elif role == "diffusion":
        index = _read_json(folder / "model_index.json")
        for part, is_needed in _PARTS.items():
            if is_needed or (index.get(part) or [None])[0]:
                _check_part(folder / part)
    elif role == "image_reward":
        _check_files(folder, ("ImageReward.pt", "med_config.json", "vocab.txt"))
    elif role != "judge":  # another package may provide it
        _check_part(folder, role)
    for path in _weights(folder) if role == "judge" else ():
        check_weights(path)


def _check_files(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        if not (folder / name).is_file():
            raise MissingFile(f"it has no {name}: copy it there", uri=str(folder))


def _check_checkpoint(role: str, path: Path) -> None:
    """Check a file in place of a folder: a checkpoint of LAION, a zip of tensors."""
    if role != "audio":
        raise BadConfig("it is a file: name the model's folder", uri=str(path))
    if not zipfile.is_zipfile(path):
        raise BadConfig(
            "it is no checkpoint of PyTorch, or cut short: name a folder with a CLAP model of transformers, or a "
            "checkpoint of LAION as 630k-audioset-best.pt",
            uri=str(path),
        )


def check_packages(kind: str, name: str | Path, role: str = "") -> None:
    """Check that the packages that a model needs are installed, without importing them.

    Raises:
        BadConfig: one is not.
    """
    if missing := [package for package in _PACKAGES.get(kind, ()) if find_spec(package) is None]:
        sentence = f"it needs the package {missing[0]}: pip install timm torchvision"
        other = "set align.method to labels" if role == "joint" else "name EmbeddingGemma 2"
        raise BadConfig(f"{sentence}, or {other}, which needs no further package", uri=str(name))


def check_weights(path: Path) -> None:
    """Check that a safetensors file is whole and all its numbers are finite.

    Raises:
        BadConfig: it is not.
    """
    state = path.stat()
    if fault := _fault(path, state.st_size, state.st_mtime_ns, state.st_ino):
        raise BadConfig(f"{fault}: {_AGAIN}", uri=str(path))


def _check_part(folder: Path, role: str = "") -> None:
    config, kinds = _read_json(folder / "config.json"), _KINDS.get(role, ())
    if kinds and config.get("model_type", kinds[0]) not in kinds:
        needed = " or ".join(kinds)
        sentence = f"a model of the type {config['model_type']}, where one of the type {needed} is needed"
        raise BadConfig(f"{sentence}: name another folder", uri=str(folder / "config.json"))
    check_packages(config.get("model_type", ""), folder, role)
    weights = _weights(folder)
    if not weights and not (role == "audio" and (folder / "pytorch_model.bin").is_file()):
        raise MissingFile(f"it has no weights (safetensors): {_AGAIN}", uri=str(folder))
    for path in weights:
        if not path.is_file():
            raise MissingFile(f"the file is missing: {_AGAIN}", uri=str(path))
        check_weights(path)


def _weights(folder: Path) -> list[Path]:
    """The weights that `from_pretrained` reads: one file, or those that an index names."""
    for name in _WEIGHTS:
        if (folder / name).is_file():
            return [folder / name]
        if (folder / f"{name}.index.json").is_file():
            named = _read_json(folder / f"{name}.index.json").get("weight_map", {})
            return [folder / file for file in sorted(set(named.values()))]
    return []


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise MissingFile(f"the file is missing: {_AGAIN}", uri=str(path)) from error
    except (OSError, ValueError, RecursionError) as error:
        raise BadConfig(f"it cannot be read as JSON: {_AGAIN}", uri=str(path)) from error
    if not isinstance(values, dict):
        raise BadConfig(f"it holds no keys: {_AGAIN}", uri=str(path))
    return values


@lru_cache(maxsize=4096)
def _fault(path: Path, *state: int) -> str:
    """What is wrong with a safetensors file; looked for again only once its state has changed. Empty if nothing is."""
    return remembered("whole and finite but for bounds", path, _find_fault)


def _find_fault(path: Path) -> str:
    try:
        with safe_open(path, "numpy"):  # compares the header with the size
            pass
    except (SafetensorError, OSError) as error:
        return f"the weights are damaged or cut short ({error})"
    for name, numbers, mask in _tensors(path):
        if name.endswith(BOUNDS):
            continue
        for first in range(0, len(numbers), _CHUNK):
            if ((numbers[first : first + _CHUNK] & mask) == mask).any():
                return f"its weight {name} is not finite"
    return ""


def _tensors(path: Path) -> Iterator[tuple[str, np.ndarray, np.unsignedinteger]]:
    """Name, bits, and the mask of the exponent of each tensor of floating-point numbers."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(_HEADER_BYTES), "little")
        header = json.loads(file.read(size))
    for name, entry in header.items():
        if entry.get("dtype") in _EXPONENTS:
            kind, mask = _EXPONENTS[entry["dtype"]]
            first, end = entry["data_offsets"]
            if end > first:
                start, num = _HEADER_BYTES + size + first, (end - first) // np.dtype(kind).itemsize
                yield name, np.memmap(path, kind, "r", start, (num,)), kind(mask)


def _check_sizes(folders: Mapping[str, Path]) -> None:
    """Aligner and mapper stand between the spaces of the other models."""
    sizes = {role: _dim(folders[role]) for role in _KINDS if role in folders}
    space = "joint" if "joint" in folders else "image_text"
    for role, size, between in (
        ("aligner", "audio_dim", "audio"),
        ("aligner", "image_dim", "image_text"),
        ("mapper", "image_dim", space),
    ):
        if role in folders and sizes.get(between):
            own = _read_json(folders[role] / "config.json").get(size)
            _compare(role, folders[role], size, own, f"models.{between}", sizes[between])
    if "mapper" in folders and "diffusion" in folders:
        own = _read_json(folders["mapper"] / "config.json").get("token_dim")
        dim = sum(embedding_dims(folders["diffusion"]))
        _compare("mapper", folders["mapper"], "token_dim", own, "models.diffusion", dim)


def _dim(path: Path) -> int | None:
    """The dimension of an encoder's vectors; none if its configuration leaves it to the class."""
    if path.is_file():
        return _LAION_DIM
    config = _read_json(path / "config.json")
    text = config.get("text_config") or {}
    return (
        config.get("projection_dim")
        or text.get("embedding_dim")
        or (text.get("hidden_size") if config.get("model_type") in JOINT_KINDS else None)
    )


def _compare(role: str, folder: Path, size: str, own: object, other: str, wanted: object) -> None:
    if own != wanted:
        raise BadConfig(
            f"its {size} is {own}, but {other} has {wanted}: name a folder that was trained for it, or train one",
            key=f"models.{role}",
            uri=str(folder / "config.json"),
        )
