"""Compares vectors of encoders with those of the library's processor and model, for networks with random weights.

Such networks give nearly the same vector for every input, so a cosine alone shows nothing. Here the library's mean over
all inputs is subtracted first: what is compared is how inputs differ.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from transformers import ClapModel, ClapProcessor, CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from aai.models.clap import AudioEncoder
from aai.models.clip import ImageTextEncoder
from aai.tiny.training.tokenizer import MAX_TOKENS, make_tokenizer
from tests.models.test_clap import new_model, new_processor

VIT_L = {"hidden_size": 1_024, "intermediate_size": 4_096, "num_attention_heads": 16, "patch_size": 14}
VIT_H = {"hidden_size": 1_280, "intermediate_size": 5_120, "num_attention_heads": 16, "patch_size": 14}
IMAGE_ENCODERS = {
    "ViT-L/14 at 224": (VIT_L | {"image_size": 224, "hidden_act": "quick_gelu"}, 24, 768),
    "ViT-L/14 at 336": (VIT_L | {"image_size": 336, "hidden_act": "quick_gelu"}, 24, 768),
    "ViT-H/14 at 224": (VIT_H | {"image_size": 224, "hidden_act": "gelu"}, 32, 1_024),
}
HTSAT = {"patch_embeds_hidden_size": 96, "hidden_size": 768, "num_attention_heads": [4, 8, 16, 32]}
AUDIO_ENCODERS = {"HTSAT without fusion": False, "HTSAT with fusion": True}
RATE_HZ, NUM_SAMPLES = 48_000, 480_000

MIN_COSINE = {torch.float32: 0.9999, torch.bfloat16: 0.999}
"""Of our vectors and those of the library in float32."""

MIN_CENTRED = {torch.float32: 0.9999, torch.bfloat16: 0.995}
"""The same of the differences from the mean; 24 layers of bfloat16 round them by up to .002."""


def pictures() -> list[np.ndarray]:
    """Stripes, a gradient, a disc and noise, of different sizes and colours."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:480, :640]
    shades = [np.sin(x / 9) > 0, (x + y) / 1_120, np.hypot(x - 320, y - 240) < 150, rng.random((480, 640))]
    drawn = [
        (np.stack([shade * weight for weight in rng.random(3)], axis=-1) * 255).astype(np.uint8) for shade in shades
    ]
    return [drawn[0], np.ascontiguousarray(drawn[1][:, :300]), drawn[2][:400], drawn[3][:224, :224]]


def sounds() -> list[np.ndarray]:
    """Noise, a tone, a rising tone and clicks; two are shorter than the input."""
    rng, time_s = np.random.default_rng(0), np.arange(NUM_SAMPLES) / RATE_HZ
    clicks = np.zeros(NUM_SAMPLES)
    clicks[::4_800] = 0.9
    rising = 0.3 * np.sin(2 * np.pi * (200 + 300 * time_s) * time_s)
    made = [0.1 * rng.standard_normal(NUM_SAMPLES), 0.5 * np.sin(2_765 * time_s), rising[:150_000], clicks[:300_000]]
    return [wave.astype(np.float32) for wave in made]


def spread_out(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights by which inputs differ clearly in the output; the same each time."""
    rng = torch.Generator().manual_seed(0)
    for value in model.parameters():
        if value.dim() > 1:
            torch.nn.init.normal_(value, std=value[0].numel() ** -0.5, generator=rng)
    return model.eval()


def write_clip(folder: Path, vision: dict, num_layers: int, dim: int) -> Path:
    tokenizer = make_tokenizer()
    ids = {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id, "max_position_embeddings": MAX_TOKENS}
    text = ids | {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = CLIPConfig(text_config=text, vision_config=vision | {"num_hidden_layers": num_layers}, projection_dim=dim)
    spread_out(CLIPModel(config)).save_pretrained(folder)
    side = vision["image_size"]
    images = CLIPImageProcessor(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    CLIPProcessor(images, tokenizer).save_pretrained(folder)
    return folder


def write_clap(folder: Path, is_fused: bool, depths: list[int]) -> Path:
    torch.manual_seed(0)
    spread_out(new_model(is_fused, **HTSAT, depths=depths)).save_pretrained(folder)
    new_processor(is_fused).save_pretrained(folder)
    return folder


@torch.inference_mode()
def image_vectors_of_library(folder: Path) -> Tensor:
    model, processor = CLIPModel.from_pretrained(folder).eval(), CLIPProcessor.from_pretrained(folder, backend="pil")
    inputs = processor(images=[Image.fromarray(image) for image in pictures()], return_tensors="pt")
    return F.normalize(model.get_image_features(**inputs).pooler_output, dim=-1)


@torch.inference_mode()
def sound_vectors_of_library(folder: Path) -> Tensor:
    """Without the random clip that the extractor marks as longer."""
    model, processor = ClapModel.from_pretrained(folder).eval(), ClapProcessor.from_pretrained(folder)
    inputs = processor(audio=sounds(), sampling_rate=RATE_HZ, return_tensors="pt")
    inputs["is_longer"] = torch.zeros_like(inputs["is_longer"])
    return F.normalize(model.get_audio_features(**inputs).pooler_output, dim=-1)


def figures(expected: Tensor, embed: Callable[[torch.dtype], Tensor]) -> dict[str, tuple[float, float]]:
    """By dtype, the least cosine as it is and of the differences from the mean."""
    mean = expected.mean(0)
    assert torch.pdist(expected).mean() > 0.3, "inputs differ, so that a wrong vector would be seen"
    found = {}
    for dtype, least in MIN_COSINE.items():
        vectors = embed(dtype)
        cosines = F.cosine_similarity(vectors, expected)
        centred = F.cosine_similarity(vectors - mean, expected - mean)
        found[str(dtype)] = float(cosines.min()), float(centred.min())
        assert cosines.min() >= least and centred.min() >= MIN_CENTRED[dtype], found
    return found


def of_images(folder: Path) -> dict[str, tuple[float, float]]:
    """The figures of a CLIP model."""
    expected = image_vectors_of_library(folder)
    return figures(expected, lambda dtype: ImageTextEncoder(folder, dtype=dtype).embed_images(pictures()))


def of_sounds(folder: Path) -> dict[str, tuple[float, float]]:
    """The figures of a CLAP model."""
    expected = sound_vectors_of_library(folder)
    return figures(expected, lambda dtype: AudioEncoder(folder, dtype=dtype).embed_clips(sounds(), RATE_HZ))
