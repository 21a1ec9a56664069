"""Configuration files of a pipeline's parts, read without loading a model."""

import json
from pathlib import Path
from typing import Any


def read_part(name: str | Path, revision: str | None, part: str, file: str) -> dict[str, Any]:
    """A JSON file of a pipeline in a folder, or on the hub if it was loaded before; empty if it is not there."""
    path = Path(name, part, file)
    if not Path(name).is_dir():
        from huggingface_hub import try_to_load_from_cache  # a folder does not need it

        path = Path(str(try_to_load_from_cache(str(name), f"{part}/{file}", revision=revision)))
    try:
        values = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return values if isinstance(values, dict) else {}
