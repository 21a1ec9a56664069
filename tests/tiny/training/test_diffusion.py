"""Captions of the text-to-image model's training, and its noise schedule."""

import pytest
import torch
from torch import nn

from aai.inject.splice import NO_CUE
from aai.tiny.scenes import Scene, sample_scenes
from aai.tiny.training.diffusion import CaptionSampler, new_scheduler
from aai.tiny.training.tokenizer import make_tokenizer


@pytest.fixture(scope="module")
def sampler() -> CaptionSampler:
    tokenizer = make_tokenizer()
    return CaptionSampler(tokenizer, nn.Embedding(len(tokenizer), 8))


def test_adverbs_are_interpolated_by_intensity_and_added_to_the_tone(sampler):
    levels = (0.0, 0.1, 0.2, 0.9, 1.0)  # the centres of faint and weak are 0.1 and 0.3
    vectors = sampler.vectors([Scene("noun", "rain", None, level) for level in levels])
    names = ("faint", "weak", "extreme", "rain", "plain")
    faint, weak, extreme, rain, plain = (sampler.embedding.weight[sampler.id_of(word)] for word in names)
    for vector, expected in zip(vectors[:, 0], (faint, faint, (faint + weak) / 2, extreme, extreme), strict=True):
        assert torch.allclose(vector, expected + plain, atol=1e-6)
    assert torch.equal(vectors[:, 1], rain.expand(5, -1))


def test_tones_are_interpolated(sampler):
    red, warm, weak = (sampler.embedding.weight[sampler.id_of(word)] for word in ("red", "warm", "weak"))
    vectors = sampler.vectors([Scene("noun", "rain", None, 0.3, tone=tone) for tone in (0.0, 0.2)])
    for vector, expected in zip(vectors[:, 0], (red, (red + warm) / 2), strict=True):
        assert torch.allclose(vector, expected + weak, atol=1e-6)


def test_placeholders_are_numbered_cyclically(sampler):
    star = sampler.placeholder
    assert sampler.slots(torch.tensor([[0, star, star, 1, star]]), 2).tolist() == [[NO_CUE, 0, 1, NO_CUE, 0]]


def test_captions_are_a_mix_of_empty_ones_words_and_placeholders(sampler):
    ids, vectors = sampler.sample(sample_scenes(400, seed=1), torch.Generator().manual_seed(0))
    num_placeholders = (ids == sampler.placeholder).sum(dim=1)
    is_empty = ids[:, 1] == sampler.tokenizer.eos_token_id
    assert set(num_placeholders.tolist()) == {0, 2} and 0.3 < (num_placeholders == 2).float().mean() < 0.5
    assert 0.05 < is_empty.float().mean() < 0.2 and vectors.shape == (400, 2, 8)


def test_the_schedule_has_zero_terminal_snr():
    assert new_scheduler().alphas_cumprod[-1] < 1e-6
