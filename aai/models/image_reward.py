"""ImageReward: how much people prefer an image for a prompt, by BLIP and a small network on top.

The published checkpoint is `ImageReward.pt` with `med_config.json` (Apache-2.0); its vocabulary is the `vocab.txt` of
bert-base-uncased, to be put beside them.

Source: Xu et al. 2023, "ImageReward" (arXiv 2304.05977), and Li et al. 2022, "BLIP".
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from PIL import Image
from tokenizers import BertWordPieceTokenizer
from torch import Tensor, nn
from transformers import BlipTextConfig, BlipVisionConfig
from transformers.models.blip.modeling_blip import BlipVisionModel
from transformers.models.blip.modeling_blip_text import BlipTextModel

from aai.errors import BadConfig
from aai.models.device import to_device
from aai.pretrained import check_finite

CHECKPOINT, CONFIG, VOCABULARY = "ImageReward.pt", "med_config.json", "vocab.txt"
_HEAD_DIM = 64  # of the vision transformers of BLIP
_CONTEXT = 35
_MEAN, _STD = 0.16717362830052426, 1.0333394966054072  # of the rewards of the training set
_PIXEL_MEAN, _PIXEL_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_REMEDY = f"name a folder with {CHECKPOINT}, {CONFIG} and the {VOCABULARY} of bert-base-uncased"
_TEXT_NAMES = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
_NAMES = (
    (r"^blip\.visual_encoder\.cls_token$", "vision.embeddings.class_embedding"),
    (r"^blip\.visual_encoder\.pos_embed$", "vision.embeddings.position_embedding"),
    (r"^blip\.visual_encoder\.patch_embed\.proj\.", "vision.embeddings.patch_embedding."),
    (r"^blip\.visual_encoder\.norm\.", "vision.post_layernorm."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.norm(\d)\.", r"vision.encoder.layers.\1.layer_norm\2."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.qkv\.", r"vision.encoder.layers.\1.self_attn.qkv."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.attn\.proj\.", r"vision.encoder.layers.\1.self_attn.projection."),
    (r"^blip\.visual_encoder\.blocks\.(\d+)\.mlp\.", r"vision.encoder.layers.\1.mlp."),
    (r"^blip\.text_encoder\.", "text."),
    (r"^mlp\.layers\.", "head."),
)
"""The names of the checkpoint, and those here; what matches none is of the pre-training and is not used."""

Picture = UInt8[np.ndarray, "_ _ 3"]


class ImageReward(nn.Module):
    """The reward model from a folder.

    Raises:
        BadConfig: a file is missing or damaged, or the weights do not fit the configuration.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu") -> None:
        super().__init__()
        weights = _renamed(_read(Path(folder)))
        self.device = torch.device(device)
        try:
            options = json.loads((Path(folder) / CONFIG).read_text())
            vision, text = _vision_config(weights), _text_config(options, weights)
            self.tokenizer = BertWordPieceTokenizer(str(Path(folder) / VOCABULARY), lowercase=True)
        except Exception as error:  # tokenizers raises its own class
            raise BadConfig(
                f"it cannot be read ({error}): {_REMEDY}", key="models.image_reward", uri=str(folder)
            ) from error
        self.size = vision.image_size
        self.vision, self.text = BlipVisionModel(vision), BlipTextModel(text, add_pooling_layer=False)
        self.head = _head(text.hidden_size)
        missing, unexpected = self.load_state_dict(weights, strict=False)
        lacking = [name for name in missing if not name.endswith("position_ids")]
        if lacking or [name for name in unexpected if not name.endswith("position_ids")]:
            named = (lacking or unexpected)[0]
            sentence = f"its weights and {CONFIG} do not match, as {named}: download it again"
            raise BadConfig(sentence, key="models.image_reward", uri=str(folder))
        check_finite(self, str(folder), "download it again")
        to_device(self.requires_grad_(False).eval(), self.device)

    def fits(self, prompt: str) -> bool:
        """Whether the model reads a prompt to its end."""
        return len(self.tokenizer.encode(prompt).ids) <= _CONTEXT

    def prepare(self, picture: Picture) -> Float32[np.ndarray, "3 size size"]:
        """A picture resized, cropped and normalised; threads may call it at the same time."""
        height, width = picture.shape[:2]
        scale = self.size / min(height, width)
        shape = [self.size if side == min(height, width) else int(side * scale) for side in (width, height)]
        resized = np.asarray(Image.fromarray(picture).resize((shape[0], shape[1]), Image.Resampling.BICUBIC))
        top, left = (round((side - self.size) / 2) for side in resized.shape[:2])
        cropped = resized[top : top + self.size, left : left + self.size].astype(np.float32) / 255
        normal = (cropped - np.array(_PIXEL_MEAN, np.float32)) / np.array(_PIXEL_STD, np.float32)
        return np.ascontiguousarray(np.moveaxis(normal, -1, 0))

    @torch.inference_mode()
    def score(
        self, pictures: Float32[Tensor, "pictures 3 size size"], prompts: Sequence[str]
    ) -> Float32[Tensor, " pictures"]:
        """Rewards of prepared pictures, each with its prompt; about 0 on average with a standard deviation of 1."""
        seen = self.vision(pixel_values=pictures.to(self.device)).last_hidden_state
        tokens = [self.tokenizer.encode(prompt).ids for prompt in prompts]
        longest = max(map(len, tokens))
        ids = torch.tensor([own + [0] * (longest - len(own)) for own in tokens], device=self.device)
        mask = torch.tensor([[1] * len(own) + [0] * (longest - len(own)) for own in tokens], device=self.device)
        read = self.text(
            input_ids=ids,
            attention_mask=mask,
            encoder_hidden_states=seen,
            encoder_attention_mask=torch.ones(seen.shape[:-1], dtype=torch.long, device=self.device),
        ).last_hidden_state[:, 0]
        return ((self.head(read)[:, 0] - _MEAN) / _STD).float().cpu()


def _read(folder: Path) -> dict[str, Tensor]:
    try:
        weights = torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # of any class: zip, pickle and file errors
        said = " ".join(str(error).split())[:200]
        raise BadConfig(
            f"it cannot be loaded ({said}): {_REMEDY}", key="models.image_reward", uri=str(folder)
        ) from error
    return dict(weights)


def _renamed(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found = {}
    for name, weight in weights.items():
        for pattern, own in _NAMES:
            renamed, num = re.subn(pattern, own, name)
            if num:
                found[renamed] = weight.float() if weight.is_floating_point() else weight
    return found


def _vision_config(weights: Mapping[str, Tensor]) -> BlipVisionConfig:
    """The sizes of the vision transformer, which the checkpoint's weights have."""
    patches = weights["vision.embeddings.patch_embedding.weight"]
    dim, patch = patches.shape[0], patches.shape[-1]
    side = math.isqrt(weights["vision.embeddings.position_embedding"].shape[1] - 1)
    num = len({name.split(".")[3] for name in weights if name.startswith("vision.encoder.layers.")})
    return BlipVisionConfig(
        hidden_size=dim,
        intermediate_size=weights["vision.encoder.layers.0.mlp.fc1.weight"].shape[0],
        num_hidden_layers=num,
        num_attention_heads=dim // _HEAD_DIM,
        image_size=side * patch,
        patch_size=patch,
        layer_norm_eps=1e-6,
    )


def _text_config(options: Mapping[str, Any], weights: Mapping[str, Tensor]) -> BlipTextConfig:
    own = {name: options[name] for name in _TEXT_NAMES}
    own["vocab_size"] = weights["text.embeddings.word_embeddings.weight"].shape[0]
    return BlipTextConfig(
        **own,
        encoder_hidden_size=options["encoder_width"],
        max_position_embeddings=options["max_position_embeddings"],
        layer_norm_eps=options.get("layer_norm_eps", 1e-12),
        is_decoder=True,  # it has cross-attention; the mask is not causal
    )


def _head(dim: int) -> nn.Sequential:
    """The layers of the published head; their dropout has no effect here, but numbers the others."""
    sizes = ((dim, 1024), None, (1024, 128), None, (128, 64), None, (64, 16), (16, 1))
    return nn.Sequential(*(nn.Identity() if size is None else nn.Linear(*size) for size in sizes))
