"""Profiles: named choices of models, with the options that suit them. No code asks which one it runs."""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from aai.options import Options

_WEIGHTS = Path(__file__).parent / "tiny" / "weights"


class ModelName(Options):
    """A model in a folder, or on the Hugging Face hub at a commit; in YAML also as `name@revision`."""

    name: str
    """A folder, or the name on the hub."""

    revision: str | None = None
    """The commit on the hub, 40 hex digits; a folder has none."""


class Models(Options):
    """The models of a run."""

    audio: ModelName
    """The audio encoder: a CLAP model."""

    image_text: ModelName
    """The image-text encoder: a CLIP model; its space is the one in which sounds meet images."""

    diffusion: ModelName
    """The text-to-image model: Stable Diffusion 1.x or SDXL."""

    aligner: str | None = None
    """Folder of a trained aligner, for `align.method: trained`."""

    mapper: str | None = None
    """Folder of a mapper, for `learn.method: shipped`."""

    judge: str | None = None
    """Folder of an independent reader of pictures, for scores where the truth is known."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """The numbers the models compute with on a GPU; on a CPU it is float32."""

    @field_validator("audio", "image_text", "diffusion", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name, _, revision = value.partition("@")
        return {"name": name, "revision": revision or None}


_REAL = {
    "audio": "laion/clap-htsat-unfused@8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
    "image_text": "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
    "dtype": "bfloat16",
}

PROFILES: dict[str, dict[str, Any]] = {
    "tiny": {
        "models": {
            "audio": str(_WEIGHTS / "clap"),
            "image_text": str(_WEIGHTS / "clip"),
            "diffusion": str(_WEIGHTS / "pipeline"),
            "aligner": str(_WEIGHTS / "aligner"),
            "mapper": str(_WEIGHTS / "mapper"),
            "judge": str(_WEIGHTS / "judge"),
        },
        "ingest": {"audio": {"window_s": 5.0, "hop_s": 5.0}},
        "align": {"method": "trained"},
        # Scenes of one phenomenon are more alike than photographs are: what differs between them is the intensity.
        "retrieve": {"duplicate_similarity": 0.99},
        "learn": {"method": "shipped"},
        "fit": {"steps": 8},
        "render": {"guidance": 4.0},
    },
    "sd15": {
        "models": _REAL
        | {"diffusion": "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"},
    },
    "sdxl": {
        "models": _REAL
        | {"diffusion": "stabilityai/stable-diffusion-xl-base-1.0@462165984030d82259a11f4367a4eed129e94a7b"},
    },
}
"""What a profile sets; what the user's file says goes before it, key by key."""
