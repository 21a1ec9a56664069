"""Token embedding dimensions of a pipeline's text encoders, read from its configuration without loading the model."""

import json
from pathlib import Path
from typing import Any

from aai.errors import BadConfig

_TEXT_ENCODERS = ("text_encoder", "text_encoder_2")


def embedding_dims(name: str | Path, revision: str | None = None) -> list[int]:
    """The token embedding dimension of each text encoder, in the order in which a cue vector concatenates them.

    Raises:
        BadConfig: the configuration is missing or not a pipeline's, or the hub does not answer.
    """
    components = _read_json(name, revision, "model_index.json")
    try:
        encoders = [encoder for encoder in _TEXT_ENCODERS if components.get(encoder, [None])[0]]
        return [int(_read_json(name, revision, f"{encoder}/config.json")["hidden_size"]) for encoder in encoders]
    except (KeyError, TypeError, AttributeError) as error:
        raise BadConfig(
            "its configuration has no embedding dimension of a text encoder: name a complete diffusers pipeline",
            uri=str(name),
        ) from error


def _read_json(name: str | Path, revision: str | None, file: str) -> Any:
    try:
        return json.loads(_path(name, revision, file).read_text())
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise BadConfig(
            f"cannot read {file} ({reason}): name a complete diffusers pipeline, or go online", uri=str(name)
        ) from error


def _path(name: str | Path, revision: str | None, file: str) -> Path:
    if Path(name).is_dir():
        return Path(name, file)
    from huggingface_hub import hf_hub_download  # a folder does not need it

    from aai.models.hub import use_hub

    use_hub(name)
    return Path(hf_hub_download(str(name), file, revision=revision))
