"""Training of the image-text encoder: a CLIPModel for phenomenon, background, intensity and tone."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from aai.align.losses import info_nce
from aai.tiny.scenes import Scene
from aai.tiny.training.data import TRAINING_SEED, scene_set
from aai.tiny.training.loop import LoopOptions, TrainingSetup, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, save_tokenizer
from aai.tiny.training.warm import warm_start
from aai.tiny.vocabulary import PHENOMENA

OPTIONS = LoopOptions(steps=2500, batch=128, learning_rate=1e-3, warm_share=0.18)
DIM = 128
"""Dimension of the embedding space of images, captions and aligned clips."""

_INTENSITY_SCALE = 0.08
"""Difference in intensity at which the weight of a pair falls to 1/e."""

_TONE_SCALE = 0.15
"""The same for the difference in tone."""


def new_clip(vocab_size: int, end_id: int) -> CLIPModel:
    """An untrained encoder, 0.8 million parameters."""
    tower = {"num_attention_heads": 4, "intermediate_size": 256}
    text = tower | {"hidden_size": 96, "num_hidden_layers": 2, "max_position_embeddings": MAX_TOKENS}
    ids = {"vocab_size": vocab_size, "bos_token_id": end_id - 1, "eos_token_id": end_id, "pad_token_id": end_id}
    vision = tower | {"hidden_size": DIM, "num_hidden_layers": 4, "image_size": 64, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text | ids, vision_config=vision, projection_dim=DIM))


def train_clip(setup: TrainingSetup) -> None:
    """Train with InfoNCE between images and captions (equal captions are positives) and between similar images."""
    torch.manual_seed(setup.seed + 1)
    folder = setup.folder / "clip"
    tokenizer = save_tokenizer(folder)
    clip = new_clip(len(tokenizer), tokenizer.eos_token_id).to(setup.device)
    warm_start(clip, setup, "clip", tokenizer.get_vocab())
    scenes = scene_set(setup.num_scenes, TRAINING_SEED, setup.folder)
    phenomena = torch.tensor([PHENOMENA.index(s.phenomenon) if s.phenomenon else -1 for s in scenes.scenes])
    intensities = torch.tensor([s.intensity for s in scenes.scenes])
    tones = torch.tensor([s.tone for s in scenes.scenes])

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(scenes), (batch,), generator=rng)
        texts = captions([scenes.scenes[i] for i in chosen.tolist()], rng)
        ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with setup.autocast():
            out = clip(input_ids=ids.to(setup.device), pixel_values=scenes.tensor(chosen).to(setup.device))
        same_caption = torch.tensor([[a == b for b in texts] for a in texts]).float()
        similar = pair_weights(phenomena[chosen], intensities[chosen], tones[chosen])
        scale = clip.logit_scale.exp()
        image, text = out.image_embeds.float(), out.text_embeds.float()
        caption_loss = info_nce(image @ text.T * scale, same_caption.to(setup.device))
        image_loss = info_nce(
            image @ image.T * scale - 1e4 * torch.eye(batch, device=setup.device), similar.to(setup.device)
        )
        figures = {"captions": caption_loss.item(), "images": image_loss.item()}
        return caption_loss + 0.3 * image_loss, figures

    fit("clip", nn.ModuleDict({"clip": clip}), loss, OPTIONS, setup)
    clip.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=size, **means)
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)


def captions(scenes: list[Scene], rng: torch.Generator) -> list[str]:
    """A random caption for each scene."""
    caption_rng = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
    return [scene.caption(caption_rng) for scene in scenes]


def pair_weights(phenomena: Tensor, intensities: Tensor, tones: Tensor) -> Tensor:
    """Weights of soft positives in a batch, batch x batch: 1 for equal items, 0 on the diagonal.

    Items without a phenomenon (-1) have no positives.
    """
    same = (phenomena[:, None] == phenomena) & (phenomena >= 0)
    distance = ((intensities[:, None] - intensities) / _INTENSITY_SCALE) ** 2
    distance = distance + ((tones[:, None] - tones) / _TONE_SCALE) ** 2
    near = torch.exp(-distance)
    return same * near * (1 - torch.eye(len(phenomena)))
