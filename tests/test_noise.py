"""Every bit of a seed counts, and small seeds are those of torch."""

from pathlib import Path

import numpy as np
import pytest
import torch

import aai
from aai.jobs.job import Job
from aai.noise import generator_of, seeded

NUM = 20_000


def draw(seed: int, num: int = 4) -> torch.Tensor:
    return torch.randn(num, generator=generator_of(seed))


@pytest.mark.parametrize("seed", [0, 5, 2**31, 2**32 - 1])
def test_small_seeds_are_those_of_plain_torch(seed):
    assert torch.equal(draw(seed, 100), torch.randn(100, generator=torch.Generator().manual_seed(seed)))


def test_all_63_bits_count():
    seeds = [5, *(5 + 2**bit for bit in range(3, 63)), 2**63 - 1]
    assert len({draw(seed).numpy().tobytes() for seed in seeds}) == len(seeds)


def test_the_own_seeds_of_a_job_give_as_many_noises():
    seeds = Job(name="all", position="job", prompts=("a photo of *",), seeds=NUM).seeds_under(0)
    assert len({draw(seed).numpy().tobytes() for seed in seeds}) == NUM


def test_the_numbers_of_a_large_seed_are_fixed():
    """The numbers of numpy's Mersenne Twister with the same state, so that other programs can draw them."""
    twister = np.random.MT19937(0)
    key = np.random.SeedSequence(2**32 + 5).generate_state(624)
    twister.state = {"bit_generator": "MT19937", "state": {"key": key, "pos": 624}}
    expected = [int(word) % 2**24 for word in twister.random_raw(1000)]
    drawn = torch.randint(2**24, (1000,), generator=generator_of(2**32 + 5))
    assert drawn.tolist() == expected


def test_noise_of_large_seeds_is_normal_and_independent():
    drawn = torch.stack([draw(2**62 + number, 4096) for number in range(50)])
    assert drawn.mean().abs() < 0.01 and (drawn.std() - 1).abs() < 0.01
    correlations = torch.corrcoef(drawn) - torch.eye(50)
    assert correlations.abs().max() < 0.08  # five standard deviations


def test_a_generator_continues_where_it_stopped():
    """Schedulers with noise in every step draw from it again and again."""
    generator = generator_of(2**40)
    parts = [torch.randn(16, generator=generator) for _ in range(2)]
    assert not torch.equal(*parts) and torch.equal(torch.cat(parts)[:16], draw(2**40, 16))


def test_weights_drawn_from_a_seed_leave_the_numbers_of_others_alone():
    before = torch.random.get_rng_state()
    weights = []
    for seed in (2**40, 2**40, 5):
        with seeded(seed):
            weights.append(torch.nn.Linear(3, 3).weight)
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.random.get_rng_state(), before)


def test_no_other_module_seeds_torch():
    """The training of the tiny world does: the shipped weights come from its seeds."""
    folder = Path(aai.__file__).parents[1]
    modules = [path for name in ("aai", "tasks", "flows") for path in (folder / name).rglob("*.py")]
    seeding = {path.relative_to(folder).as_posix() for path in modules if "manual_seed(" in path.read_text()}
    assert {name for name in seeding if not name.startswith("aai/tiny/training/")} == {"aai/noise.py"}
