"""Micro-batches change neither losses nor gradients, and equal prompts are encoded once."""

import pytest
import torch

from aai.cues.denoising import ClipToFit, draw_rows, losses_and_gradient, losses_of
from aai.models.diffusion import load_diffusion
from tests.cues.clips import clip_of, random_clips

TEMPLATES = ("a photo of *", "a * city")


@pytest.fixture(scope="module", params=["sd15_folder", "sdxl_folder"])
def model(request):
    return load_diffusion(request.getfixturevalue(request.param))


class Counted:
    """A model that counts the prompts it encodes and the rows of its largest pass."""

    def __init__(self, model):
        self.model, self.num_prompts, self.largest = model, 0, 0
        self.num_train_timesteps, self.device = model.num_train_timesteps, model.device

    def encode_prompts(self, prompts, cues=None):
        self.num_prompts += len(prompts)
        return self.model.encode_prompts(prompts, cues)

    def denoising_losses(self, latents, conditioning, timesteps, noise):
        self.largest = max(self.largest, len(latents))
        return self.model.denoising_losses(latents, conditioning, timesteps, noise)


def cues_and_rows(model, num_rows: int = 5):
    rows = [draw_rows(i, clip, num_rows, TEMPLATES, 1000) for i, clip in enumerate(random_clips(3))]
    noise = 0.1 * torch.randn(3, 2, model.cue_dim, generator=torch.Generator().manual_seed(1))
    return model.word_embeddings(["rain", "fire"]) + noise, rows


def test_losses_and_gradient_are_those_of_one_pass_with_a_prompt_per_row(model):
    cues, rows = cues_and_rows(model)
    leaf = cues.clone().requires_grad_()
    prompts = [prompt for drawn in rows for prompt in drawn.prompts]
    latents, timesteps, noise = (
        torch.cat([getattr(drawn, name) for drawn in rows]) for name in ("latents", "timesteps", "noise")
    )
    conditioning = model.encode_prompts(prompts, leaf.repeat_interleave(5, dim=0))
    expected = model.denoising_losses(latents, conditioning, timesteps, noise).view(3, 5).mean(1)
    losses, gradient = losses_and_gradient(model, cues, rows, max_rows=100)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), leaf)[0])


@pytest.mark.parametrize("max_rows", [1, 4, 5])
def test_micro_batches_change_neither_losses_nor_gradient(model, max_rows):
    cues, rows = cues_and_rows(model)
    losses, gradient = losses_and_gradient(model, cues, rows, max_rows=100)
    counted = Counted(model)
    split_losses, split_gradient = losses_and_gradient(counted, cues, rows, max_rows)
    torch.testing.assert_close(split_losses, losses)
    torch.testing.assert_close(split_gradient, gradient, atol=1e-7, rtol=1e-4)
    torch.testing.assert_close(losses_of(model, cues, rows, max_rows), losses)
    assert counted.largest == max_rows


@pytest.mark.parametrize("max_rows", [100, 3])
def test_a_prompt_is_encoded_once_per_cue_not_once_per_row(model, max_rows):
    counted = Counted(model)
    cues, rows = cues_and_rows(model, num_rows=8)
    losses_of(counted, cues, rows, max_rows)
    assert counted.num_prompts == sum(len(set(drawn.prompts)) for drawn in rows) < 3 * 8


def test_every_cue_needs_as_many_rows(model):
    cues, rows = cues_and_rows(model)
    rows[1] = draw_rows(0, random_clips(1)[0], 2, TEMPLATES, 1000)
    with pytest.raises(AssertionError, match="as many rows"):
        losses_of(model, cues, rows, max_rows=4)


def test_rows_use_all_images_evenly_and_timesteps_from_the_whole_range():
    latents = torch.arange(3.0).view(3, 1, 1, 1).expand(3, 4, 8, 8)
    clip = clip_of("00", torch.zeros(2), latents)
    rows = draw_rows(5, clip, 8, ("a *", "b *"), 1000)
    images = rows.latents[:, 0, 0, 0].int()
    assert torch.bincount(images).tolist() in ([3, 3, 2], [3, 2, 3], [2, 3, 3])
    assert (rows.timesteps // 125).tolist() == list(range(8))
    assert set(rows.prompts) <= {"a *", "b *"}
    assert not torch.equal(draw_rows(6, clip, 8, ("a *",), 1000).noise, rows.noise)


def test_every_latent_needs_an_image_id():
    with pytest.raises(AssertionError, match="an id for each image"):
        ClipToFit("00", torch.zeros(2), torch.zeros(3, 4, 8, 8), ("a", "b"))


def test_every_bit_of_a_seed_counts_in_the_rows_of_a_clip():
    [clip] = random_clips(1)
    small, large = (draw_rows(seed, clip, 2, TEMPLATES, 1000) for seed in (7, 2**32 + 7))
    assert not torch.equal(small.noise, large.noise) and not torch.equal(small.timesteps, large.timesteps)


def test_images_and_prompts_are_drawn_as_often_as_their_weights_say():
    [clip] = random_clips(1)
    latents = torch.stack([torch.zeros(4, 8, 8), torch.ones(4, 8, 8)])
    weights = torch.tensor([[1.0, 0.0], [0.5, 1.5]])
    rows = draw_rows(0, ClipToFit("a", clip.aligned, latents, ("0", "1"), weights), 400, TEMPLATES, 1000)
    second = rows.latents[:, 0, 0, 0] == 1
    prompts = [TEMPLATES.index(prompt) for prompt in rows.prompts]
    of = [[prompt for prompt, own in zip(prompts, second.tolist(), strict=True) if own == one] for one in (False, True)]
    assert len(of[1]) / 400 == pytest.approx(2 / 3, abs=0.1)
    assert set(of[0]) == {0} and sum(of[1]) / len(of[1]) == pytest.approx(0.75, abs=0.1)
