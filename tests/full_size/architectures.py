"""The real architectures at full size with random weights, written to disk as half-precision safetensors.

Weights are drawn tensor by tensor, so that writing a model takes little more memory than its size on disk.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn
from transformers import (
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapProcessor,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    RobertaTokenizer,
)

from tests.models.shrunk import write_tokenizer

_END = "<|endoftext|>"
_VIT_L_TEXT = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "projection_dim": 768,
    "bos_token_id": 0,
    "eos_token_id": 2,
}
_VIT_L_VISION = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
    "image_size": 224,
}
_SD15_UNET = {
    "sample_size": 64,
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
    "layers_per_block": 2,
}
_SD15_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "latent_channels": 4,
    "sample_size": 512,
}
_SDXL_UNET = {
    "sample_size": 128,
    "cross_attention_dim": 2048,
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "attention_head_dim": (5, 10, 20),
    "layers_per_block": 2,
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}
_SDXL_VAE = _SD15_VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True}
_VIT_BIGG_TEXT = _VIT_L_TEXT | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_SD_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}


def write_sd15(folder: Path) -> int:
    """Stable Diffusion 1.5; returns its number of parameters."""
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**_SD15_UNET), AutoencoderKL(**_SD15_VAE)
        text = CLIPTextModel(CLIPTextConfig(**_VIT_L_TEXT))
    write_tokenizer(folder / "tokenizer", _END)
    scheduler = PNDMScheduler.from_config(_SD_NOISE | {"steps_offset": 1, "set_alpha_to_one": False})
    parts = {"unet": unet, "vae": vae, "text_encoder": text}
    return _write_pipeline(folder, "StableDiffusionPipeline", parts, scheduler)


def write_sdxl(folder: Path) -> int:
    """SDXL; returns its number of parameters."""
    with torch.device("meta"):
        parts = {"unet": UNet2DConditionModel(**_SDXL_UNET), "vae": AutoencoderKL(**_SDXL_VAE)}
        parts["text_encoder"] = CLIPTextModel(CLIPTextConfig(**_VIT_L_TEXT))
        parts["text_encoder_2"] = CLIPTextModelWithProjection(CLIPTextConfig(**_VIT_BIGG_TEXT))
    write_tokenizer(folder / "tokenizer", _END)
    write_tokenizer(folder / "tokenizer_2", "!")
    scheduler = EulerDiscreteScheduler.from_config(_SD_NOISE | {"steps_offset": 1, "timestep_spacing": "leading"})
    return _write_pipeline(folder, "StableDiffusionXLPipeline", parts, scheduler)


def _write_pipeline(
    folder: Path, kind: str, parts: Mapping[str, nn.Module], scheduler: PNDMScheduler | EulerDiscreteScheduler
) -> int:
    """Write a pipeline whose tokenizers are there; returns its number of parameters."""
    num = sum(_write(part, folder / name) for name, part in parts.items())
    scheduler.save_pretrained(folder / "scheduler")
    index = {name: [type(part).__module__.partition(".")[0], type(part).__name__] for name, part in parts.items()}
    index["scheduler"] = ["diffusers", type(scheduler).__name__]
    index |= {path.name: ["transformers", "CLIPTokenizer"] for path in folder.glob("tokenizer*")}
    of_kind: dict[str, object] = {"safety_checker": [None, None], "feature_extractor": [None, None]}
    if kind == "StableDiffusionXLPipeline":
        of_kind = {"force_zeros_for_empty_prompt": True}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": kind} | of_kind | index))
    return num


def write_clip(folder: Path) -> int:
    """CLIP ViT-L/14; returns its number of parameters."""
    with torch.device("meta"):
        model = CLIPModel(CLIPConfig(text_config=_VIT_L_TEXT, vision_config=_VIT_L_VISION, projection_dim=768))
    CLIPProcessor(CLIPImageProcessor(), write_tokenizer(folder / "tokenizer", _END)).save_pretrained(folder)
    return _write(model, folder)


def write_clap(folder: Path) -> int:
    """CLAP HTSAT without fusion, beside RoBERTa; returns its number of parameters."""
    model = ClapModel(ClapConfig())  # for real: its buffers hold indices that are computed
    names = ["<s>", "<pad>", "</s>", "<unk>", *"abcdefghijklmnopqrstuvwxyzĠ", "<mask>"]
    tokenizer = RobertaTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[])
    ClapProcessor(ClapFeatureExtractor(truncation="rand_trunc"), tokenizer).save_pretrained(folder)
    return _write(model, folder)


def _write(model: nn.Module, folder: Path) -> int:
    """Write random weights, of a scale that keeps activations finite, in place of the model's own."""
    rng, weights, kept = torch.Generator().manual_seed(0), {}, dict(model.named_parameters())
    for name, value in model.state_dict().items():
        if name not in kept:
            weights[name] = value
        elif value.dim() < 2:
            weights[name] = torch.full(value.shape, float(name.endswith("weight")), dtype=torch.float16)
        else:
            spread = 0.02 if "embedding" in name else value[0].numel() ** -0.5
            bound = 3**0.5 * spread  # uniform numbers are drawn in half the time of normal ones
            weights[name] = torch.empty(value.shape, dtype=torch.float16).uniform_(-bound, bound, generator=rng)
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, UNet2DConditionModel | AutoencoderKL):
        model.save_config(folder)
        path = folder / "diffusion_pytorch_model.safetensors"
    else:
        model.config.save_pretrained(folder)
        path = folder / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    return sum(value.numel() for value in kept.values())
