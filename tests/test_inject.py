"""A cue stands where its placeholder is, and nowhere else."""

import torch
from torch import nn

from aai.inject import splice, spliced, spread_placeholders

STAR = 7


def test_a_prompt_gets_one_placeholder_for_each_row():
    assert spread_placeholders("a * city", 1) == "a * city"
    assert spread_placeholders("a * city", 2) == "a * * city"
    assert spread_placeholders("a city", 2) == "a city"


def test_rows_go_to_the_placeholders_in_turn():
    ids = torch.tensor([[1, STAR, STAR, 2], [STAR, 3, STAR, STAR]])
    words, cues = torch.zeros(2, 4, 5), torch.arange(20.0).view(2, 2, 5) + 1
    out = splice(words, ids, STAR, cues)
    assert torch.equal(out[0, 1], cues[0, 0])
    assert torch.equal(out[0, 2], cues[0, 1])
    assert torch.equal(out[1, 0], cues[1, 0])
    assert torch.equal(out[1, 2], cues[1, 1])
    assert torch.equal(out[1, 3], cues[1, 0])
    assert not out[ids != STAR].any()


def test_gradients_reach_the_cues_alone():
    embedding = nn.Embedding(10, 4).requires_grad_(False)
    cues = torch.zeros(1, 1, 4, requires_grad=True)
    with spliced(embedding, STAR, cues):
        embedding(torch.tensor([[1, STAR, 2]])).sum().backward()
    assert torch.equal(cues.grad, torch.ones(1, 1, 4))


def test_afterwards_the_embedding_is_as_before():
    embedding = nn.Embedding(10, 4)
    ids = torch.tensor([[1, STAR, 2]])
    before = embedding(ids)
    with spliced(embedding, STAR, torch.ones(1, 1, 4)):
        assert torch.equal(embedding(ids)[0, 1], torch.ones(4))
    assert torch.equal(embedding(ids), before)
