"""Trajectories of sources and edits: DDIM inversion and its cache, direct and virtual inversion."""

import pytest
import torch
from diffusers import DDIMScheduler, EulerDiscreteScheduler

from aai.edit.trajectories import Generated, InversionCache, Inverted, Trajectory, VirtualInversion, invert
from aai.models.schedulers import NoiseLevels
from tests.models.shrunk import PREDICTION_TYPES, new_ddim

SHAPE, STEPS = (3, 4, 8, 6), 6


def noise(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kind", [DDIMScheduler, EulerDiscreteScheduler])
def test_generated_sources_and_edits_take_the_schedulers_steps(kind):
    scheduler, reference = (kind.from_config(new_ddim().config) for _ in range(2))
    for one in (scheduler, reference):
        one.set_timesteps(STEPS)
    latents = torch.cat([noise(0)[:1], noise(1)[:2]]) * reference.init_noise_sigma
    trajectory = Generated(scheduler, {}, noise(0)[:1], noise(1)[:2])
    for index, timestep in enumerate(reference.timesteps):
        expected = reference.scale_model_input(latents, timestep)
        assert torch.equal(torch.cat(trajectory.model_inputs(index)), expected)
        latents = reference.step(noise(index), timestep, latents).prev_sample
        trajectory.step(index, noise(index)[:1], noise(index)[1:])
    assert torch.equal(torch.cat(trajectory.latents()), latents)
    trajectory.replace_edits(torch.ones(2, *SHAPE[1:]))
    sources, edits = trajectory.latents()
    assert torch.equal(sources, latents[:1]) and bool((edits == 1).all())


@pytest.mark.parametrize("prediction_type", PREDICTION_TYPES)
def test_direct_inversion_reconstructs_where_predictions_are_consistent(prediction_type):
    """A model that always predicts the same noise is inverted without an error."""
    levels, clean, predicted = NoiseLevels(new_ddim(prediction_type)), noise(0), noise(1)

    def predict(latents, timestep):
        index = levels.timesteps.tolist().index(int(timestep))
        signal, sigma = levels.signal(index), levels.sigma(index)
        x0 = (latents - sigma * predicted) / signal
        return {"epsilon": predicted, "v_prediction": signal * predicted - sigma * x0, "sample": x0}[prediction_type]

    inversions = torch.stack([levels.add_noise(clean, predicted, index) for index in range(STEPS + 1)], dim=1)
    if prediction_type == "epsilon":
        inverted = invert(predict, levels, clean)
        assert torch.allclose(inverted, inversions, atol=1e-4) and torch.equal(inverted[:, -1], clean)
    trajectory = Inverted(levels, inversions, clean, [0, 1, 2])
    for index, timestep in enumerate(levels.timesteps):
        sources, edits = trajectory.model_inputs(index)
        assert torch.allclose(sources, inversions[:, index], atol=1e-4) and torch.allclose(edits, sources, atol=1e-4)
        trajectory.step(index, sources, predict(edits, timestep))
    sources, edits = trajectory.latents()
    assert torch.equal(sources, clean) and torch.allclose(edits, clean, atol=1e-4)


def test_inverted_sources_replay_their_latents_whatever_the_model_predicts():
    levels, clean = NoiseLevels(new_ddim()), noise(0)
    inversions = torch.stack([noise(seed) for seed in range(STEPS + 1)], dim=1)
    trajectory = Inverted(levels, inversions, clean, [2, 2, 0, 1])
    assert torch.equal(trajectory.latents()[1], inversions[[2, 2, 0, 1], 0])
    trajectory.step(0, noise(9), torch.zeros(4, *SHAPE[1:]))
    assert torch.equal(trajectory.latents()[0], inversions[:, 1])
    trajectory.replace_edits(torch.ones(4, *SHAPE[1:]))
    assert bool((trajectory.latents()[1] == 1).all())


def test_virtual_inversion_reconstructs_where_predictions_for_source_and_edit_agree():
    levels, clean, index_of = NoiseLevels(new_ddim()), noise(0), [1, 0, 2, 1]
    trajectory = VirtualInversion(levels, clean, [5, 6, 7], index_of)
    for index in range(STEPS):
        sources, edits = trajectory.model_inputs(index)
        assert torch.allclose(edits, sources[index_of], atol=1e-5)
        assert torch.allclose(levels.split(sources, noise(0), index)[1], noise(0), atol=1e-6)
        trajectory.step(index, noise(index), noise(index)[index_of])
    sources, edits = trajectory.latents()
    assert torch.equal(sources, clean) and torch.allclose(edits, clean[index_of], atol=1e-4)


def test_virtual_inversion_moves_edits_by_the_difference_of_predictions():
    levels, clean = NoiseLevels(new_ddim()), noise(0)
    trajectory = VirtualInversion(levels, clean, [5, 6, 7], [0, 1, 2])
    for index in range(STEPS):
        sources, edits = trajectory.model_inputs(index)
        sigma, signal = levels.sigma(index), levels.signal(index)
        # The edit's predicted clean latents are the source's plus 1.
        trajectory.step(index, (sources - signal * clean) / sigma, (edits - signal * (clean + 1)) / sigma)
    assert torch.allclose(trajectory.latents()[1], clean + 1, atol=1e-3)


def test_virtual_noise_depends_on_the_sources_seed_and_not_on_its_index():
    levels, clean = NoiseLevels(new_ddim()), noise(0)
    batch = VirtualInversion(levels, clean, [5, 6, 7], [0, 1, 2])
    single = VirtualInversion(levels, clean[1:2], [6], [0])
    for index in range(STEPS):
        assert torch.equal(batch.model_inputs(index)[0][1], single.model_inputs(index)[0][0])
        batch.step(index, noise(1), noise(1))
        single.step(index, noise(1)[1:2], noise(1)[1:2])


def test_every_bit_of_a_seed_counts_in_virtual_noise():
    noises = VirtualInversion(NoiseLevels(new_ddim()), torch.zeros(3, 4, 8, 6), [5, 2**32 + 5, 5], [0, 1, 2])
    small, large, again = noises.latents()[0]
    assert not torch.equal(small, large) and torch.equal(small, again)


def test_every_trajectory_follows_the_protocol():
    levels, clean = NoiseLevels(new_ddim()), noise(0)
    inversions = torch.stack([clean] * (STEPS + 1), dim=1)
    trajectories = [
        Generated(new_ddim(), {}, clean, clean),
        Inverted(levels, inversions, clean, [0]),
        VirtualInversion(levels, clean, [1, 2, 3], [0]),
    ]
    assert all(isinstance(trajectory, Trajectory) for trajectory in trajectories)
    assert [trajectory.guides_sources for trajectory in trajectories] == [True, False, False]


def test_photos_are_inverted_once():
    computed = []

    def compute(indices):
        computed.append([keys[index] for index in indices])
        return torch.stack([torch.full((STEPS + 1, *SHAPE[1:]), float(ord(keys[index]))) for index in indices])

    cache, keys = InversionCache(), ["a", "b"]
    assert cache.get(keys, compute)[:, 0, 0, 0, 0].tolist() == [97, 98]
    keys = ["b", "c", "a"]
    inversions = cache.get(keys, compute)
    assert computed == [["a", "b"], ["c"]] and inversions[:, 0, 0, 0, 0].tolist() == [98, 99, 97]
    assert inversions.shape == (3, STEPS + 1, *SHAPE[1:])


def test_the_cache_evicts_the_least_recently_used_inversions():
    computed = []

    def compute(indices):
        computed.extend(keys[index] for index in indices)
        return torch.zeros(len(indices), 4, 64, 64, 32)  # 1 MiB each in half precision

    cache = InversionCache(max_mib=2)
    for key in "abacab":
        keys = [key]
        cache.get(keys, compute)
    assert computed == ["a", "b", "c", "b"]
