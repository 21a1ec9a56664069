"""Training moves the mapper, gives the same in rounds and in micro-batches as in one go, and is seeded."""

import pytest
import torch
from safetensors.torch import load

from aai.cues.denoising import draw_rows, losses_of
from aai.cues.options import TrainMapperOptions
from aai.cues.train_mapper import MapperTraining
from aai.models.diffusion import load_diffusion
from tests.cues.clips import random_clips

QUICK = TrainMapperOptions(steps=3, batch_size=4, templates=("a photo of *", "a * city"))
CLIPS = random_clips(4)
ALIGNED = torch.stack([clip.aligned for clip in CLIPS])


@pytest.fixture(scope="module")
def model(sd15_folder):
    return load_diffusion(sd15_folder)


def training(model, seed: int = 0, state: bytes | None = None, **options) -> MapperTraining:
    start = model.word_embeddings(["rain", "fire"])
    return MapperTraining(model, CLIPS, start, QUICK.model_copy(update=options), seed, state)


def trained(model, seed: int = 0, **options) -> torch.Tensor:
    """The cues of the trained mapper."""
    whole = training(model, seed, **options)
    whole.run(100)
    return whole.result()(ALIGNED)


def test_training_moves_the_mapper_and_reports_every_step(model):
    reports, whole = [], training(model)
    before = whole.result()(ALIGNED)
    whole.run(100, lambda step, loss: reports.append((step, loss)))
    assert [step for step, _ in reports] == [1, 2, 3] and whole.step == 3
    assert all(loss > 0 for _, loss in reports)
    mapper = whole.result()
    assert mapper(ALIGNED).shape == (4, 2, model.cue_dim)
    assert not torch.allclose(mapper(ALIGNED), before)
    assert not any(weight.requires_grad for weight in mapper.parameters())


def test_training_lowers_the_loss_of_every_clip(model):
    """On rows that it was not trained on: the losses of its own few rows are mostly noise."""
    rows = [draw_rows(index, clip, 32, QUICK.templates, 1000) for index, clip in enumerate(CLIPS)]
    whole = training(model, steps=40, learning_rate=1e-2)
    before = losses_of(model, whole.result()(ALIGNED), rows, max_rows=64)
    whole.run(40)
    assert bool((losses_of(model, whole.result()(ALIGNED), rows, max_rows=64) < before - 0.003).all())


@pytest.mark.parametrize("rounds", [(0, 5), (2, 1, 2)])
def test_rounds_give_the_mapper_of_one_go(model, rounds):
    whole, state = training(model, steps=5), None
    whole.run(5)
    for num_steps in rounds:
        part = training(model, state=state, steps=5)
        part.run(num_steps)
        state = part.state()
    assert part.step == 5
    last, expected = load(state), load(whole.state())
    assert last.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(last[name], tensor), name
    assert torch.equal(part.result()(ALIGNED), whole.result()(ALIGNED))


def test_a_later_round_keeps_the_start_of_the_first(model):
    first = training(model)
    later = MapperTraining(model, CLIPS, torch.ones(2, model.cue_dim), QUICK, 0, first.state())
    assert torch.equal(later.start, first.start) and later.mapper.unit == first.mapper.unit


@pytest.mark.parametrize("max_rows", [1, 3])
def test_micro_batches_give_the_mapper_of_whole_batches(model, max_rows):
    torch.testing.assert_close(trained(model, max_rows=max_rows), trained(model), rtol=1e-4, atol=1e-6)


def test_memory_is_halved_from_the_batch_down_to_a_row(model):
    part = training(model)
    assert [(part.halve_memory(), part.max_rows) for _ in range(3)] == [(True, 2), (True, 1), (False, 1)]
    part.run(100)
    torch.testing.assert_close(part.result()(ALIGNED), trained(model), rtol=1e-4, atol=1e-6)


def test_the_seed_alone_decides_and_the_global_generator_is_left_alone(model):
    state = torch.get_rng_state()
    first, second, other = trained(model), trained(model), trained(model, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second) and not torch.equal(first, other)


def test_the_learning_rate_warms_up_and_decays_along_a_cosine(model):
    part, rates = training(model, steps=20), []
    for _ in range(20):
        rates.append(part.schedule.get_last_lr()[0] / QUICK.learning_rate)
        part.run(1)
    assert rates[0] == pytest.approx(0.1) and rates[10] == pytest.approx(0.5)
    assert rates[:8] == sorted(rates[:8]) and rates[10:] == sorted(rates[10:], reverse=True)
    assert part.schedule.get_last_lr()[0] == pytest.approx(0)


def test_the_result_is_the_moving_average_of_the_weights(model):
    part = training(model, steps=4)
    part.run(1)
    average = part.mapper.layers[0].weight.detach().clone()
    for step in range(1, 4):
        part.run(1)
        average.lerp_(part.mapper.layers[0].weight.detach(), 1 - (step + 1) / (step + 10))
    torch.testing.assert_close(part.result().layers[0].weight, average)


def test_sdxl_has_a_mapper_too(sdxl_folder):
    model = load_diffusion(sdxl_folder)
    assert trained(model, steps=1).shape == (4, 2, model.cue_dim)


def test_images_stand_for_clips_in_a_share_of_each_batch(model):
    images = random_clips(3, seed=9)
    start = model.word_embeddings(["rain", "fire"])
    mixed = MapperTraining(model, CLIPS, start, QUICK.model_copy(update={"image_share": 0.25}), 0, images=images)
    own = {id(clip) for clip in images}
    for mixed.step in range(20):
        assert sum(id(clip) in own for clip in mixed._draw_clips()) == 1
    alone = MapperTraining(model, CLIPS, start, QUICK.model_copy(update={"image_share": 0}), 0, images=images)
    assert [id(clip) in own for clip in alone._draw_clips()] == [False] * 4
