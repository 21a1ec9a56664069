"""A mapper that is learned from a bank's own clips tells them apart by their pictures."""

import torch

from aai.cues.fit import ClipToFit
from aai.cues.options import TrainMapperOptions
from aai.cues.train_mapper import learn_mapper
from aai.models.diffusion import load_diffusion

IMAGE_DIM = 16
QUICK = TrainMapperOptions(steps=3, batch_size=2, templates=("a photo of *", "a * city"))


def clips_of(num: int) -> list[ClipToFit]:
    rng = torch.Generator().manual_seed(0)
    aligned = torch.nn.functional.normalize(torch.randn(num, IMAGE_DIM, generator=rng), dim=1)
    return [ClipToFit(f"{i:032x}", aligned[i], torch.randn(2, 4, 8, 8, generator=rng)) for i in range(num)]


def learn(model, steps: int = 3, seed: int = 0, **told):
    start = model.word_embeddings(["rain", "fire"])
    return learn_mapper(model, clips_of(4), start, QUICK.model_copy(update={"steps": steps}), seed, **told)


def test_learning_moves_the_mapper_and_tells_of_every_step(sd15_folder):
    model, seen = load_diffusion(sd15_folder), []
    mapper = learn(model, progress=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == [1, 2, 3]
    assert all(loss > 0 for _, loss in seen)
    aligned = torch.stack([clip.aligned for clip in clips_of(4)])
    first, last = learn(model, steps=1)(aligned), mapper(aligned)
    assert last.shape == (4, 2, model.cue_dim)
    assert not torch.allclose(first, last)
    assert not any(weight.requires_grad for weight in mapper.parameters())


def test_the_same_seed_learns_the_same_and_leaves_the_global_generator_alone(sd15_folder):
    model = load_diffusion(sd15_folder)
    state = torch.get_rng_state()
    first, again, other = learn(model), learn(model), learn(model, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    weights = [next(iter(mapper.parameters())) for mapper in (first, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_a_bank_of_sdxl_learns_too(sdxl_folder):
    model = load_diffusion(sdxl_folder)
    assert learn(model)(clips_of(1)[0].aligned[None]).shape == (1, 2, model.cue_dim)
