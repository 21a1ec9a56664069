"""The encoders that an aligner was trained for: noted in its model card, and compared with those of a configuration."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import metadata_load

from aai.errors import BadConfig

CARD = "README.md"
KEY = "aligns"
"""The key of the card's metadata: name and revision of both encoders, by their roles in `models`."""


def encoders_of(folder: Path) -> dict[str, str]:
    """The encoders that an aligner was trained for as `name@revision`, by role; empty if no card names them."""
    try:
        found = (metadata_load(folder / CARD) or {}).get(KEY)
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return {str(role): str(name) for role, name in found.items()} if isinstance(found, dict) else {}


def card_metadata(encoders: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    """What a card says of the encoders, given their names and revisions."""
    return {KEY: {role: "@".join(encoder) for role, encoder in encoders.items()}}


def check_made_for(folder: str | Path, encoders: Mapping[str, tuple[str, str]]) -> None:
    """Check that an aligner was trained for some encoders, as far as its card says for which it was.

    Names of folders do not count, their digests do. Whether a folder holds what a commit on the hub does is not known
    here, so that is no fault.

    Args:
        folder: the aligner.
        encoders: name and revision of each encoder, by its role in `models`.

    Raises:
        BadConfig: it was trained for others.
    """
    for role, known in encoders_of(Path(folder)).items():
        name, revision = encoders.get(role, ("", ""))
        expected = known.rpartition("@")[2]
        if len(expected) == len(revision) and expected != revision:
            raise BadConfig(
                f"it was trained for the encoder {known}, and models.{role} is {name}@{revision}: set models.{role} to "
                "that encoder, or train an aligner for yours (`aai align train`)",
                key="models.aligner",
                uri=str(folder),
            )
