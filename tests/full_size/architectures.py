"""The real architectures at full size with random weights, written to disk as half-precision safetensors.

Weights are drawn tensor by tensor, so that writing a model takes little more memory than its size on disk.
"""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, PNDMScheduler, UNet2DConditionModel
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
_SD_NOISE = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "skip_prk_steps": True}


def write_sd15(folder: Path) -> int:
    """Stable Diffusion 1.5; returns its number of parameters."""
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**_SD15_UNET), AutoencoderKL(**_SD15_VAE)
        text = CLIPTextModel(CLIPTextConfig(**_VIT_L_TEXT))
    num = sum(_write(part, folder / name) for name, part in (("unet", unet), ("vae", vae), ("text_encoder", text)))
    write_tokenizer(folder / "tokenizer", _END)
    PNDMScheduler.from_config(_SD_NOISE | {"steps_offset": 1, "set_alpha_to_one": False}).save_pretrained(
        folder / "scheduler"
    )
    parts = {"unet": unet, "vae": vae, "scheduler": PNDMScheduler()}
    index = {name: ["diffusers", type(part).__name__] for name, part in parts.items()}
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"safety_checker": [None, None], "feature_extractor": [None, None]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline"} | index))
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
            weights[name] = (torch.randn(value.shape, generator=rng) * spread).half()
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(model, UNet2DConditionModel | AutoencoderKL):
        model.save_config(folder)
        path = folder / "diffusion_pytorch_model.safetensors"
    else:
        model.config.save_pretrained(folder)
        path = folder / "model.safetensors"
    save_file(weights, path, metadata={"format": "pt"})
    return sum(value.numel() for value in kept.values())
