"""Stable Diffusion pipelines with random weights in the hub's layout, shrunk to a few MB.

Classes, configurations and files are those of the real checkpoints: the tokenizers are `vocab.json` and `merges.txt`
with byte-level merges, the schedulers those of SD 1.5 and SDXL. Only sizes and vocabulary are small.
"""

import json
import string
from pathlib import Path

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

DIM, DIM_2, POOLED_DIM, SIZE = 32, 48, 24, 64
MAX_TOKENS = 77
WORDS = ("a", "photo", "of", "rain", "fire", "strong", "city", "forest", "in", "the", "style", "dark")
_START, _END = "<|startoftext|>", "<|endoftext|>"
_NOISE = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "clip_sample": False,
}
_TIME_DIM = 8

PREDICTION_TYPES = ["epsilon", "v_prediction", "sample"]


def write_sd15(folder: Path) -> Path:
    """A pipeline with the architecture of Stable Diffusion 1.5."""
    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder / "tokenizer", _END)
    pipeline = StableDiffusionPipeline(
        vae=new_vae(0.18215, force_upcast=False),
        text_encoder=CLIPTextModel(text_config(tokenizer, DIM, "quick_gelu", POOLED_DIM)),
        tokenizer=tokenizer,
        unet=new_unet(DIM),
        scheduler=PNDMScheduler.from_config(_NOISE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    return save(pipeline, folder)


def write_sdxl(folder: Path) -> Path:
    """A pipeline with the architecture of SDXL: two text encoders; the second tokenizer pads with "!"."""
    torch.manual_seed(1)
    tokenizer, second = write_tokenizer(folder / "tokenizer", _END), write_tokenizer(folder / "tokenizer_2", "!")
    sizes = {"addition_embed_type": "text_time", "addition_time_embed_dim": _TIME_DIM}
    sizes |= {"projection_class_embeddings_input_dim": POOLED_DIM + 6 * _TIME_DIM, "use_linear_projection": True}
    pipeline = StableDiffusionXLPipeline(
        vae=new_vae(0.13025, force_upcast=True),
        text_encoder=CLIPTextModel(text_config(tokenizer, DIM, "quick_gelu", POOLED_DIM)),
        text_encoder_2=CLIPTextModelWithProjection(text_config(second, DIM_2, "gelu", POOLED_DIM)),
        tokenizer=tokenizer,
        tokenizer_2=second,
        unet=new_unet(DIM + DIM_2, **sizes),
        scheduler=EulerDiscreteScheduler.from_config(_NOISE | {"timestep_spacing": "leading"}),
        force_zeros_for_empty_prompt=True,
        add_watermarker=False,
    )
    return save(pipeline, folder)


def save(pipeline: StableDiffusionPipeline | StableDiffusionXLPipeline, folder: Path) -> Path:
    """Save a pipeline without its tokenizers, which are on disk already: the hub's have no `tokenizer.json`."""
    for name in ("vae", "unet", "text_encoder", "text_encoder_2", "scheduler"):
        if (part := getattr(pipeline, name, None)) is not None:
            part.save_pretrained(folder / name)
    pipeline.save_config(folder)
    return folder


def write_tokenizer(folder: Path, padding: str) -> CLIPTokenizer:
    """Each of `WORDS` is one token; so are "*," and "(*", by which a vocabulary can hide a placeholder."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    tokens = [*letters, *(letter + "</w>" for letter in letters)]
    merges = [("*", ",</w>"), ("(", "*</w>"), ("(", "*"), ("*", ")</w>")]
    for word in WORDS:
        merges += [(word[:i], word[i] + "</w>" * (i == len(word) - 1)) for i in range(1, len(word))]
    tokens += ["".join(pair) for pair in merges]
    vocab = {token: i for i, token in enumerate(dict.fromkeys([*tokens, _START, _END]))}
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocab))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, dict.fromkeys(merges))) + "\n")
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_TOKENS, "pad_token": padding}
    settings |= {"bos_token": _START, "eos_token": _END, "unk_token": _END}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return CLIPTokenizer.from_pretrained(folder)


def text_config(tokenizer: CLIPTokenizer, dim: int, activation: str, projection_dim: int) -> CLIPTextConfig:
    """As on the hub, `eos_token_id` is 2, which is wrong: the encoder then pools at the highest token id."""
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=dim,
        intermediate_size=2 * dim,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        hidden_act=activation,
        projection_dim=projection_dim,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,
        initializer_factor=2.5,  # words differ clearly, and rounding errors stay small
    )


def new_vae(scaling_factor: float, force_upcast: bool) -> AutoencoderKL:
    """Four levels, so that a latent pixel is 8 image pixels wide."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 16, 16),
        norm_num_groups=4,
        latent_channels=4,
        sample_size=SIZE,
        scaling_factor=scaling_factor,
        force_upcast=force_upcast,
    )


def new_unet(context_dim: int, **settings: object) -> UNet2DConditionModel:
    """Two levels with cross-attention."""
    return UNet2DConditionModel(
        sample_size=SIZE // 8,
        cross_attention_dim=context_dim,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(16, 32),
        layers_per_block=1,
        norm_num_groups=8,
        attention_head_dim=4,
        **settings,
    )


def new_ddim(prediction_type: str = "epsilon", steps: int = 6, **settings: object) -> DDIMScheduler:
    """DDIM with Stable Diffusion's noise schedule, ready for sampling."""
    noise = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
    scheduler = DDIMScheduler(prediction_type=prediction_type, **noise | settings)
    scheduler.set_timesteps(steps)
    return scheduler
