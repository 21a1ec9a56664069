"""A clip gets the same cue alone and in a batch, with a lower loss on its images."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch

from aai.cues.denoising import ClipToFit
from aai.cues.fit import Fitter, FreeCue
from aai.cues.mapper import CueMapper
from aai.cues.options import FitOptions
from aai.models.diffusion import load_diffusion
from aai.tiny.scenes import Scene, render
from aai.tiny.world import load_world
from tests.cues.clips import IMAGE_DIM, clip_of, random_clips

QUICK = FitOptions(steps=6, eval_every=3, rows_per_step=2, eval_rows=4, learning_rate=1e-3, min_improvement=0)


@pytest.fixture(scope="module")
def model(sd15_folder):
    return load_diffusion(sd15_folder)


@pytest.fixture(scope="module")
def mapper(model):
    torch.manual_seed(0)
    return CueMapper(IMAGE_DIM, model.cue_dim, hidden_dim=8)


def fit(model, network, clips, options=QUICK, seed=0):
    return {cue.clip_id: cue for cue in Fitter(model, network, options, seed).fit(clips)}


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.slow
def test_a_clip_alone_gets_the_cue_that_it_gets_among_others():
    world = load_world()
    pixels = render([Scene("noun", name, None, level, 3) for name in ("fire", "snow") for level in (0.2, 0.9)]).pixels
    latents = world.diffusion.encode_images(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    aligned = world.embed_images(pixels)
    clips = [clip_of(f"{i:032x}", aligned[i % 4], latents[i % 4 :: 2]) for i in range(6)]
    together = fit(world.diffusion, world.mapper, clips)
    for clip in clips[:2]:
        alone = fit(world.diffusion, world.mapper, [clip])[clip.clip_id]
        assert relative(alone.vector, together[clip.clip_id].vector) < 1e-4
        assert alone.losses == pytest.approx(together[clip.clip_id].losses, rel=1e-4)
    moved = [relative(together[clip.clip_id].vector, world.mapper(clip.aligned[None])[0]) for clip in clips]
    assert sorted(moved)[-2] > 1e-2, "fitting improves some of them"


@pytest.mark.parametrize("max_rows", [pytest.param(1, marks=pytest.mark.slow), 3, 4])
def test_order_and_the_rows_in_a_pass_change_no_cue(model, mapper, max_rows):
    clips, num_clips = random_clips(3), {1: 1, 3: 1, 4: 2}
    fitter = Fitter(model, mapper, QUICK.model_copy(update={"max_rows": max_rows}), 0)
    assert fitter.max_clips == num_clips[max_rows]
    wide, narrow = fit(model, mapper, clips), {cue.clip_id: cue for cue in fitter.fit(clips[::-1])}
    assert wide.keys() == narrow.keys()
    for name, cue in wide.items():
        assert relative(narrow[name].vector, cue.vector) < 1e-4
        assert narrow[name].losses == pytest.approx(cue.losses, rel=1e-4)


def test_memory_is_halved_down_to_a_row_in_a_pass(model, mapper):
    fitter = Fitter(model, mapper, QUICK.model_copy(update={"max_rows": 5}), 0)
    assert [(fitter.halve_memory(), fitter.max_rows) for _ in range(3)] == [(True, 2), (True, 1), (False, 1)]


def test_the_default_batch_is_64_rows_of_16_clips(model, mapper):
    fitter = Fitter(model, mapper, FitOptions(), 0)
    assert (fitter.max_rows, fitter.max_clips) == (64, 16)


def test_a_finished_clip_frees_its_slot_and_clips_are_read_no_sooner(model, mapper):
    taken, done = [], []

    def lazily() -> Iterator[ClipToFit]:
        for clip in random_clips(4):
            taken.append(clip.clip_id)
            yield clip

    for cue in Fitter(model, mapper, QUICK.model_copy(update={"max_rows": 4}), 0).fit(lazily()):
        done.append(cue.clip_id)
        assert len(taken) <= len(done) + 2
    assert sorted(done) == sorted(taken) and len(set(done)) == 4


def test_another_run_seed_gives_another_cue_and_the_same_the_same(model, mapper):
    clip = random_clips(1)
    first, again, other = (fit(model, mapper, clip, seed=seed)[clip[0].clip_id].vector for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert relative(other, first) > 1e-4


def test_without_steps_a_cue_is_what_the_network_starts_as(model, mapper):
    clips = random_clips(5)
    cues = fit(model, mapper, clips, QUICK.model_copy(update={"steps": 0, "max_rows": 4}))
    for clip in clips:
        cue = cues[clip.clip_id]
        torch.testing.assert_close(cue.vector, mapper(clip.aligned[None])[0])
        assert (cue.steps, cue.stop_reason, len(cue.losses)) == (0, "steps", 1)


def test_a_cue_names_the_images_that_it_was_fitted_on(model, mapper):
    clips = random_clips(3)
    cues = fit(model, mapper, clips, QUICK.model_copy(update={"max_rows": 4}))
    assert {name: cue.image_ids for name, cue in cues.items()} == {clip.clip_id: clip.image_ids for clip in clips}


def test_early_stopping_is_recorded(model, mapper):
    options = QUICK.model_copy(update={"steps": 30, "learning_rate": 1e-9, "min_improvement": 0.01})
    [cue] = fit(model, mapper, random_clips(1), options).values()
    assert (cue.steps, cue.stop_reason) == (3, "steady")


class Bowl:
    """A loss with its minimum at the cue 0, which large steps miss."""

    num_train_timesteps, device = 1000, torch.device("cpu")

    def encode_prompts(self, prompts, cues=None):
        return cues

    def denoising_losses(self, latents, conditioning, timesteps, noise):
        return conditioning.square().mean((1, 2))


def test_the_cue_with_the_lowest_validation_loss_is_kept(mapper):
    wild = QUICK.model_copy(update={"learning_rate": 1e4, "prior_weight": 0.0})
    [clip] = random_clips(1)
    [cue] = fit(Bowl(), mapper, [clip], wild).values()
    assert cue.loss_after == cue.losses[0] < min(cue.losses[1:])
    torch.testing.assert_close(cue.vector, mapper(clip.aligned[None])[0])


def test_a_larger_prior_weight_keeps_a_cue_nearer_to_its_start(model, mapper):
    clips = random_clips(4)
    starts = {clip.clip_id: mapper(clip.aligned[None])[0] for clip in clips}
    far, near = (fit(model, mapper, clips, QUICK.model_copy(update={"prior_weight": weight})) for weight in (0.0, 1e4))
    assert np.mean([relative(near[n].vector, s) for n, s in starts.items()]) < 0.7 * np.mean(
        [relative(far[n].vector, s) for n, s in starts.items()]
    )


def test_two_text_encoders_are_fitted_too(sdxl_folder):
    model = load_diffusion(sdxl_folder)
    cue = FreeCue(model.word_embeddings(["rain"]))
    clips = [clip_of("00", torch.zeros(IMAGE_DIM), torch.randn(2, 4, 8, 8))]
    [fitted] = fit(model, cue, clips).values()
    assert fitted.vector.shape == (1, model.cue_dim)
    assert relative(fitted.vector, cue.start) > 1e-3


def test_textual_inversion_moves_from_rain_to_images_of_fire():
    diffusion = load_world().diffusion
    pixels = render([Scene("noun", "fire", None, 0.8, seed) for seed in range(4)]).pixels
    latents = diffusion.encode_images(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 127.5 - 1)
    words = diffusion.word_embeddings(["rain", "fire"])
    options = FitOptions(steps=12, eval_every=6, learning_rate=0.1, prior_weight=0.0, min_improvement=0)
    [cue] = fit(diffusion, FreeCue(words[:1]), [clip_of("00", torch.zeros(1), latents)], options).values()
    assert cue.loss_after < 0.9 * cue.losses[0]
    way = (words[1] - words[0]) / (words[1] - words[0]).norm()
    assert float((cue.vector[0] - words[0]) @ way) > 0
