"""The image-text encoder: a CLIPModel that knows what is seen and how much of it."""

import numpy as np
import torch
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPProcessor

from aai.align.projector import contrast
from aai.tiny.scenes import Scene
from aai.tiny.training.data import TRAINING_SEED, scene_set
from aai.tiny.training.loop import LoopOptions, Place, fit
from aai.tiny.training.tokenizer import MAX_TOKENS, save_tokenizer
from aai.tiny.vocabulary import PHENOMENA

OPTIONS = LoopOptions(steps=2500, batch=128, learning_rate=1e-3)
DIM = 128
"""Width of the space that pictures, captions and aligned sounds share."""

_SAME_INTENSITY = 0.08
"""Two intensities this far apart are half as much a pair as two equal ones are, roughly."""


def new_clip(vocab_size: int, end_id: int) -> CLIPModel:
    """An untrained encoder, 0.8 million parameters."""
    tower = {"num_attention_heads": 4, "intermediate_size": 256}
    text = tower | {"hidden_size": 96, "num_hidden_layers": 2, "max_position_embeddings": MAX_TOKENS}
    ids = {"vocab_size": vocab_size, "bos_token_id": end_id - 1, "eos_token_id": end_id, "pad_token_id": end_id}
    vision = tower | {"hidden_size": DIM, "num_hidden_layers": 4, "image_size": 64, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=text | ids, vision_config=vision, projection_dim=DIM))


def train_clip(place: Place) -> None:
    """Symmetric contrastive learning; captions that say the same count as pairs, and so do pictures that are alike."""
    torch.manual_seed(place.seed + 1)
    folder = place.folder / "clip"
    tokenizer = save_tokenizer(folder)
    clip = new_clip(len(tokenizer), tokenizer.eos_token_id).to(place.device)
    scenes = scene_set(place.num_scenes, TRAINING_SEED, place.folder)
    phenomena = torch.tensor([PHENOMENA.index(s.phenomenon) if s.phenomenon else -1 for s in scenes.scenes])
    intensities = torch.tensor([s.intensity for s in scenes.scenes])

    def loss(rng: torch.Generator, batch: int) -> tuple[Tensor, dict[str, float]]:
        chosen = torch.randint(len(scenes), (batch,), generator=rng)
        said = captions([scenes.scenes[i] for i in chosen.tolist()], rng)
        ids = tokenizer(said, padding="max_length", truncation=True, return_tensors="pt").input_ids
        with place.autocast():
            out = clip(input_ids=ids.to(place.device), pixel_values=scenes.tensor(chosen).to(place.device))
        same_words = torch.tensor([[a == b for b in said] for a in said]).float()
        alike = pairs_of(phenomena[chosen], intensities[chosen])
        scale = clip.logit_scale.exp()
        image, text = out.image_embeds.float(), out.text_embeds.float()
        words = contrast(image @ text.T * scale, same_words.to(place.device))
        looks = contrast(image @ image.T * scale - 1e4 * torch.eye(batch, device=place.device), alike.to(place.device))
        return words + 0.3 * looks, {"words": words.item(), "looks": looks.item()}

    fit("clip", nn.ModuleDict({"clip": clip}), loss, OPTIONS, place)
    clip.save_pretrained(folder)
    size = {"height": 64, "width": 64}
    means = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    processor = CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=size, **means)
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(folder)


def captions(scenes: list[Scene], rng: torch.Generator) -> list[str]:
    """A caption for each scene, said at random."""
    words = np.random.default_rng(int(torch.randint(2**62, (1,), generator=rng)))
    return [scene.caption(words) for scene in scenes]


def pairs_of(phenomena: Tensor, intensities: Tensor) -> Tensor:
    """How much each two of a batch are a pair: same phenomenon, near intensity; nothing pairs with itself.

    A phenomenon of -1, a background alone, is no one's pair.
    """
    same = (phenomena[:, None] == phenomena) & (phenomena >= 0)
    near = torch.exp(-(((intensities[:, None] - intensities) / _SAME_INTENSITY) ** 2))
    return same * near * (1 - torch.eye(len(phenomena)))
