"""What the package ships: every model in half precision, in the layout that `from_pretrained` reads."""

import json
import shutil
from pathlib import Path

import torch
from transformers import ClapModel, ClapProcessor, CLIPModel, CLIPProcessor

from aai.align.projector import Projector
from aai.cues.mapper import CueMapper
from aai.tiny.judge import Judge

_LARGEST_SIZE_BYTES = 25_000_000


def ship(folder: Path, weights: Path) -> int:
    """Write the trained models of a working folder to `weights`; gives their size in bytes.

    Raises:
        ValueError: they are larger than 25 MB together.
    """
    shutil.rmtree(weights, ignore_errors=True)
    shutil.copytree(folder / "pipeline", weights / "pipeline")
    for name, model, processor in (("clip", CLIPModel, CLIPProcessor), ("clap", ClapModel, ClapProcessor)):
        model.from_pretrained(folder / name, dtype=torch.float16).save_pretrained(weights / name)
        processor.from_pretrained(folder / name).save_pretrained(weights / name)
    for name, network in (("judge", Judge), ("aligner", Projector), ("mapper", CueMapper)):
        network.load(folder / name).half().save(weights / name)
    for config in weights.rglob("config.json"):
        _forget_origin(config)
    size = sum(path.stat().st_size for path in weights.rglob("*") if path.is_file())
    if size > _LARGEST_SIZE_BYTES:
        raise ValueError(f"{weights} has {size:,} bytes, more than the {_LARGEST_SIZE_BYTES:,} that a package may hold")
    return size


def _forget_origin(config: Path) -> None:
    """Take the working folder's name out of a configuration."""
    content = json.loads(config.read_text())
    content.pop("_name_or_path", None)
    config.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n")
