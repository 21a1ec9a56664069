"""Levels are those of the library's DDIM; photos come back from their inversions."""

import pytest
import torch
from diffusers import DDIMScheduler

from aai.edit.trajectories import Inversions, Mixed, Replayed, invert
from aai.models.schedulers import Levels

KINDS = ["epsilon", "v_prediction", "sample"]
SETTINGS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False}
SHAPE = (3, 4, 8, 6)


def scheduler_of(kind: str = "epsilon", steps: int = 6, **settings) -> DDIMScheduler:
    scheduler = DDIMScheduler(prediction_type=kind, **SETTINGS | settings)
    scheduler.set_timesteps(steps)
    return scheduler


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ends_clean", [True, False])
def test_a_step_is_the_librarys(kind, ends_clean):
    scheduler = scheduler_of(kind, set_alpha_to_one=ends_clean, steps_offset=1)
    latents, said = noise(0), noise(1)
    levels = Levels(scheduler)
    for at, timestep in enumerate(scheduler.timesteps):
        wanted = scheduler.step(said, timestep, latents).prev_sample
        latents = levels.mix(*levels.split(latents, said, at), at + 1)
        assert torch.allclose(latents, wanted, atol=1e-4)


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
def test_what_is_mixed_is_split_again(spacing):
    levels = Levels(scheduler_of(timestep_spacing=spacing))
    for at in range(7):
        latents = levels.mix(noise(0), noise(1), at)
        picture, rest = levels.split(latents, noise(1), at)
        assert torch.allclose(picture, noise(0), atol=1e-3) and torch.equal(rest, noise(1))
    signals = [levels.signal(at) for at in range(7)]
    assert signals == sorted(signals) and signals[-1] > 0.99


@pytest.mark.parametrize("kind", KINDS)
def test_an_inversion_leads_back_where_predictions_hold(kind):
    """A model that always says the same noise is inverted without an error."""
    levels, clean, said = Levels(scheduler_of(kind)), noise(0), noise(1)

    def predict(latents, timestep):
        at = levels.timesteps.tolist().index(int(timestep))
        signal, spread = levels.signal(at), float((1 - levels.kept[at]).sqrt())
        picture = (latents - spread * said) / signal
        return {"epsilon": said, "v_prediction": signal * said - spread * picture, "sample": picture}[kind]

    courses = torch.stack([levels.mix(clean, said, at) for at in range(7)], dim=1)
    if kind == "epsilon":
        found = invert(predict, levels, clean)
        assert torch.allclose(found, courses, atol=1e-4) and torch.equal(found[:, -1], clean)
    course = Replayed(levels, courses, clean, [0, 1, 2])
    for at, timestep in enumerate(levels.timesteps):
        sources, edits = course.inputs(at)
        assert torch.allclose(sources, courses[:, at], atol=1e-4) and torch.allclose(edits, sources, atol=1e-4)
        course.step(at, sources, predict(edits, timestep))
    assert torch.equal(course.latents()[0], clean) and torch.allclose(course.latents()[1], clean, atol=1e-4)


def test_replayed_sources_go_their_stored_way_whatever_is_said():
    levels, clean = Levels(scheduler_of()), noise(0)
    courses = torch.stack([noise(seed) for seed in range(7)], dim=1)
    course = Replayed(levels, courses, clean, [2, 2, 0, 1])
    assert torch.equal(course.latents()[1], courses[[2, 2, 0, 1], 0])
    course.step(0, noise(9), torch.zeros(4, *SHAPE[1:]))
    assert torch.equal(course.latents()[0], courses[:, 1])
    course.keep(torch.ones(4, *SHAPE[1:]))
    assert bool((course.latents()[1] == 1).all())


def test_mixed_photos_come_back_when_nothing_else_is_said_of_the_edit():
    levels, clean, of = Levels(scheduler_of()), noise(0), [1, 0, 2, 1]
    course = Mixed(levels, clean, [5, 6, 7], of)
    for at in range(6):
        sources, edits = course.inputs(at)
        assert torch.allclose(edits, sources[of], atol=1e-5)
        assert torch.allclose(levels.split(sources, noise(0), at)[1], noise(0), atol=1e-6)
        course.step(at, noise(at), noise(at)[of])
    assert torch.equal(course.latents()[0], clean) and torch.allclose(course.latents()[1], clean[of], atol=1e-4)


def test_mixed_edits_differ_from_photos_as_predictions_do():
    levels, clean = Levels(scheduler_of()), noise(0)
    course = Mixed(levels, clean, [5, 6, 7], [0, 1, 2])
    for at in range(6):
        sources, edits = course.inputs(at)
        spread, signal = float((1 - levels.kept[at]).sqrt()), levels.signal(at)
        # One more in the picture that is predicted, whatever the latents.
        course.step(at, (sources - signal * clean) / spread, (edits - signal * (clean + 1)) / spread)
    assert torch.allclose(course.latents()[1], clean + 1, atol=1e-3)


def test_mixed_noise_has_a_seed_for_each_source_and_not_for_its_place():
    levels, clean = Levels(scheduler_of()), noise(0)
    together, alone = Mixed(levels, clean, [5, 6, 7], [0, 1, 2]), Mixed(levels, clean[1:2], [6], [0])
    for at in range(6):
        assert torch.equal(together.inputs(at)[0][1], alone.inputs(at)[0][0])
        together.step(at, noise(1), noise(1))
        alone.step(at, noise(1)[1:2], noise(1)[1:2])


def test_photos_are_inverted_once():
    made = []

    def make(places):
        made.append([keys[place] for place in places])
        return torch.stack([torch.full((7, *SHAPE[1:]), float(ord(keys[place]))) for place in places])

    inversions, keys = Inversions(), ["a", "b"]
    assert inversions.of(keys, make)[:, 0, 0, 0, 0].tolist() == [97, 98]
    keys = ["b", "c", "a"]
    found = inversions.of(keys, make)
    assert made == [["a", "b"], ["c"]] and found[:, 0, 0, 0, 0].tolist() == [98, 99, 97]
    assert found.shape == (3, 7, *SHAPE[1:])


def test_the_photos_that_were_used_last_are_remembered():
    made = []

    def make(places):
        made.extend(keys[place] for place in places)
        return torch.zeros(len(places), 4, 64, 64, 32)  # 1 MiB each in half precision

    inversions = Inversions(most_mib=2)
    for key in "abacab":
        keys = [key]
        inversions.of(keys, make)
    assert made == ["a", "b", "c", "b"]
