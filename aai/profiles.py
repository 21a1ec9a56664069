"""Profiles: named sets of models with matching options. No code depends on the name of a profile."""

from pathlib import Path
from typing import Any, Literal

from pydantic import field_validator

from aai.options import Options

_WEIGHTS = Path(__file__).parent / "tiny" / "weights"


class ModelName(Options):
    """A model in a local folder, or on the Hugging Face hub at a commit; in YAML also as `name@revision`."""

    name: str
    """Local folder, or repository on the Hugging Face hub as `owner/name`."""

    revision: str | None = None
    """Commit hash on the hub (40 hex digits); null for a folder. `name@revision` sets both in one line."""


class JudgeName(Options):
    """Independent classifier that checks what pictures show, as a further metric of `aai score`; null for none."""

    kind: str
    """Kind of judge: an entry point in the group `aai.judges` of an installed package, such as `tiny`."""

    folder: str
    """Folder of the judge's weights."""


class Models(Options):
    """The models of a run."""

    audio: ModelName
    """Audio encoder: a CLAP model (transformers), or the file of a checkpoint of LAION, such as
    630k-audioset-best.pt. Unused with `align.method: joint`."""

    image_text: ModelName
    """Image-text encoder: a CLIP model (transformers). Audio vectors are aligned with its image space; with
    `align.method: joint` it only scores pictures."""

    joint: ModelName | None = None
    """Joint encoder of sounds and images, for `align.method: joint`: PE-AV, which needs `pip install timm torchvision`,
    or EmbeddingGemma 2, as `google/embeddinggemma-2@914f7f89142e33e77833254d9c9b90c3cef7303b` (both Apache-2.0)."""

    diffusion: ModelName
    """Text-to-image model: Stable Diffusion 1.x or SDXL (diffusers), safetensors only."""

    aligner: str | None = None
    """Folder of a pretrained aligner, for `align.method: trained`."""

    mapper: str | None = None
    """Folder of a pretrained mapper, for `train_mapper.method: shipped`."""

    judge: JudgeName | None = None
    """Independent classifier that checks what pictures show, as a further metric of `aai score`; null for none."""

    audio_judge: ModelName | None = None
    """Another joint encoder, by which `aai evaluate` measures how well pictures fit sounds (AIS). Without one it is the
    encoder that retrieved, which agrees with itself."""

    image_reward: str | None = None
    """Folder of ImageReward, a further metric of `aai evaluate`: ImageReward.pt, med_config.json, and the vocab.txt of
    bert-base-uncased; null for none."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Data type of encoders and text-to-image model, on GPUs and CPUs. A change recomputes everything from the
    embeddings on, because it is part of the recipes."""

    compile: Literal["auto"] | bool = "auto"
    """Whether the text-to-image model is compiled (`torch.compile`), which takes about a minute. `auto`: on a GPU, once
    a worker has computed for two minutes. It changes the speed, not the results."""

    def dtype_of(self, role: str) -> str:
        """The data type of a model."""
        return self.dtype if role in ("audio", "image_text", "joint", "audio_judge", "diffusion") else "float32"

    @field_validator("audio", "image_text", "joint", "audio_judge", "diffusion", mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        name, _, revision = value.partition("@")
        return {"name": name, "revision": revision or None}


_PHENOMENA = ("fire", "rain", "snow", "thunder", "waves", "fireworks", "waterfall", "tornado", "helicopter", "clock")
_REAL = {
    "audio": "laion/clap-htsat-unfused@8fa0f1c6d0433df6e97c127f64b2a1d6c0dcda8a",
    "image_text": "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
    "joint": "facebook/pe-av-base@1c4c329b78d80a18d860ebfb05daebff4bc44518",
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
            "judge": {"kind": "tiny", "folder": str(_WEIGHTS / "judge")},
        },
        "ingest": {"audio": {"window_s": 5.0, "hop_s": 5.0}},
        # Its encoders know the names of its phenomena, and spell other words letter by letter.
        "align": {"method": "trained", "labels": list(_PHENOMENA), "audio_prompt": "*"},
        # Scenes of one phenomenon are more similar than photographs, and differ in intensity.
        "retrieve": {"duplicate_similarity": 0.99},
        "train_mapper": {
            "method": "shipped",
            "start_words": list(_PHENOMENA),
            "templates": [
                "a photo of *",
                "a picture of *",
                "a * {place}",
                "a photo of a * {place}",
                "a {place} in the style of *",
                "a photo of a {place} in the style of *",
            ],
            "places": ["city", "forest", "field", "mountains", "desert"],
        },
        "fit": {"steps": 8},
        "render": {"guidance": 4.0},
    },
    "sd15": {
        "models": _REAL
        | {"diffusion": "stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe16113bff5a5d2269ed5ad43b0592e9a14"},
        "align": {"method": "joint"},
    },
    "sdxl": {
        "models": _REAL
        | {"diffusion": "stabilityai/stable-diffusion-xl-base-1.0@462165984030d82259a11f4367a4eed129e94a7b"},
        "align": {"method": "joint"},
    },
}
"""The settings of each profile; keys of the configuration file override them one by one."""
