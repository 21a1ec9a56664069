"""Cues act as words do, pictures depend on their seeds alone, and the loss is the papers'."""

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import nn

from aai.models.diffusion import Diffusion, denoising_loss, load_diffusion
from aai.tiny.training.diffusion import new_scheduler, new_text_encoder, new_unet
from aai.tiny.training.tokenizer import make_tokenizer
from aai.tiny.training.vae import new_vae


@pytest.fixture(scope="module")
def diffusion() -> Diffusion:
    """A pipeline of the tiny world's shape with random weights."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer()
    return Diffusion(
        StableDiffusionPipeline(
            vae=new_vae(),
            text_encoder=new_text_encoder(len(tokenizer), tokenizer.eos_token_id),
            tokenizer=tokenizer,
            unet=new_unet(),
            scheduler=new_scheduler(),
            safety_checker=None,
            feature_extractor=None,
            requires_safety_checker=False,
        )
    )


def rows_of(diffusion: Diffusion, words: list[str]) -> torch.Tensor:
    return diffusion.embedding.weight[diffusion.tokens(words)[:, 1]]


def test_a_cue_made_of_words_is_those_words(diffusion):
    cue = rows_of(diffusion, ["strong", "rain"])[None]
    said = diffusion.encode_prompts(["a photo of strong rain"])
    assert torch.allclose(diffusion.encode_prompts(["a photo of *"], cue), said, atol=1e-6)


def test_each_prompt_gets_its_own_cue(diffusion):
    cues = torch.stack([rows_of(diffusion, [word]) for word in ("fire", "snow")])
    together = diffusion.encode_prompts(["a * city", "a * forest"], cues)
    said = diffusion.encode_prompts(["a fire city", "a snow forest"])
    assert torch.allclose(together, said, atol=1e-5)


def test_the_prompt_reaches_the_cue_with_gradients_and_the_model_stays_frozen(diffusion):
    cue = torch.zeros(1, 2, 128, requires_grad=True)
    diffusion.encode_prompts(["a * city"], cue).sum().backward()
    assert cue.grad.abs().sum() > 0
    assert all(p.grad is None for p in diffusion.pipeline.text_encoder.parameters())


def test_a_picture_depends_on_its_seed_alone(diffusion):
    prompts = ["a photo of fire", "a photo of rain", "a city"]
    together = diffusion.render(prompts, [1, 2, 3], steps=3)
    alone = diffusion.render(prompts[1:2], [2], steps=3)
    other = diffusion.render(prompts[1:2], [4], steps=3)
    assert together.shape == (3, 64, 64, 3) and together.dtype == np.uint8
    assert np.abs(together[1].astype(int) - alone[0]).max() <= 1
    assert np.abs(together[1].astype(int) - other[0]).max() > 5


def test_a_saved_pipeline_renders_the_same(diffusion, tmp_path):
    diffusion.pipeline.save_pretrained(tmp_path)
    again = load_diffusion(tmp_path)
    assert np.array_equal(again.render(["fire"], [1], steps=2), diffusion.render(["fire"], [1], steps=2))


class Constant(nn.Module):
    """A UNet that always predicts the same."""

    def __init__(self, value: torch.Tensor) -> None:
        super().__init__()
        self.value = value

    def forward(self, noisy, timesteps, context):
        return type("Output", (), {"sample": self.value})


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_the_loss_is_the_weighted_error_of_the_asked_for_quantity(kind):
    scheduler = DDIMScheduler(prediction_type=kind)
    clean, noise = torch.randn(2, 4, 3, 3), torch.randn(2, 4, 3, 3)
    timesteps = torch.tensor([10, 800])
    kept = scheduler.alphas_cumprod[timesteps]
    ratio = kept / (1 - kept)
    signal, spread = kept.sqrt().view(-1, 1, 1, 1), (1 - kept).sqrt().view(-1, 1, 1, 1)
    target = noise if kind == "epsilon" else signal * noise - spread * clean
    perfect = denoising_loss(Constant(target), scheduler, clean, torch.zeros(2, 1, 1), timesteps, noise)
    assert torch.allclose(perfect, torch.zeros(2), atol=1e-8)
    off_by_two = denoising_loss(Constant(target + 2), scheduler, clean, torch.zeros(2, 1, 1), timesteps, noise)
    weight = ratio.clamp(max=5) / (ratio if kind == "epsilon" else ratio + 1) + 0.05
    assert torch.allclose(off_by_two, 4 * weight, rtol=1e-4)
