"""How long the rows of a text-to-image model's text encoders are: its configuration says so, without the model."""

import json
from pathlib import Path
from typing import Any

from aai.errors import BadConfig

_ENCODERS = ("text_encoder", "text_encoder_2")


def row_dims(name: str | Path, revision: str | None = None) -> list[int]:
    """How much of a cue's row is of each text encoder, in the order in which they stand in it.

    Raises:
        BadConfig: the configuration is not there or not that of a pipeline, or the hub does not answer.
    """
    parts = _read(name, revision, "model_index.json")
    try:
        there = [encoder for encoder in _ENCODERS if parts.get(encoder, [None])[0]]
        return [int(_read(name, revision, f"{encoder}/config.json")["hidden_size"]) for encoder in there]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadConfig(f"{name}: it does not say how long a text encoder's rows are: name a whole pipeline") from error


def _read(name: str | Path, revision: str | None, file: str) -> Any:
    """A JSON file of a folder, or of the hub, which is asked only for what its cache does not have."""
    try:
        return json.loads(_path(name, revision, file).read_text())
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise BadConfig(f"{name}: {file} cannot be read ({said}): name a whole pipeline, or go online") from error


def _path(name: str | Path, revision: str | None, file: str) -> Path:
    if Path(name).is_dir():
        return Path(name, file)
    from huggingface_hub import hf_hub_download  # a folder needs no hub

    return Path(hf_hub_download(str(name), file, revision=revision))
