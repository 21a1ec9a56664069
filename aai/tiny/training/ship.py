"""Export of the trained models into the package, in half precision and `from_pretrained` layout."""

import json
import shutil
from pathlib import Path

import torch
from transformers import ClapModel, ClapProcessor, CLIPModel, CLIPProcessor

from aai.align.projector import Projector
from aai.cues.mapper import CueMapper
from aai.tiny.judge import Judge

_MAX_SIZE_BYTES = 25_000_000


def ship(folder: Path, weights: Path) -> int:
    """Write the trained models of a working folder to `weights`; returns their total size in bytes.

    Raises:
        ValueError: the total size exceeds 25 MB.
    """
    shutil.rmtree(weights, ignore_errors=True)
    shutil.copytree(folder / "pipeline", weights / "pipeline")
    for name, model, processor in (("clip", CLIPModel, CLIPProcessor), ("clap", ClapModel, ClapProcessor)):
        model.from_pretrained(folder / name, dtype=torch.float16).save_pretrained(weights / name)
        processor.from_pretrained(folder / name).save_pretrained(weights / name)
    for name, network in (("judge", Judge), ("aligner", Projector), ("mapper", CueMapper)):
        network.load(folder / name).half().save(weights / name)
    for config in weights.rglob("config.json"):
        _remove_path(config)
    size = sum(path.stat().st_size for path in weights.rglob("*") if path.is_file())
    if size > _MAX_SIZE_BYTES:
        raise ValueError(f"{weights} has {size:,} bytes, more than {_MAX_SIZE_BYTES:,}: make the models smaller")
    return size


def _remove_path(config: Path) -> None:
    """Remove the working folder's path from a configuration."""
    content = json.loads(config.read_text())
    content.pop("_name_or_path", None)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
