"""Cue vectors replace token embeddings at placeholder positions, and nowhere else."""

import torch
from torch import nn

from aai.inject.splice import NO_CUE, SpecialTokens, build_token_ids, splice, spliced

START, END, PADDING = 8, 9, 0
INDICES = torch.tensor([[-1, 0, 1, -1], [0, -1, 1, 0]])


def build(pieces: list[list[int]], slots: list, length: int = 8) -> tuple[list[int], dict[int, int]]:
    ids, indices = build_token_ids(pieces, slots, SpecialTokens(START, END, PADDING, length))
    assert len(ids) == len(indices) == length
    return ids, {position: index for position, index in enumerate(indices) if index != NO_CUE}


def test_a_prompt_without_a_placeholder_gets_special_tokens_alone():
    assert build([[3, 4]], []) == ([START, 3, 4, END, 0, 0, 0, 0], {})
    assert build([[]], [], 3) == ([START, END, 0], {})


def test_a_placeholder_takes_a_position_for_each_vector():
    assert build([[3], [4]], [[0]]) == ([START, 3, START, 4, END, 0, 0, 0], {2: 0})
    assert build([[3], [4]], [range(2)]) == ([START, 3, START, START, 4, END, 0, 0], {2: 0, 3: 1})
    assert build([[], []], [[0]]) == ([START, START, END, 0, 0, 0, 0, 0], {1: 0})
    assert build([[], [5], []], [[0], [0]]) == ([START, START, 5, START, END, 0, 0, 0], {1: 0, 3: 0})


def test_each_slot_has_its_own_vectors():
    pieces, slots = [[3], [4], [], []], [range(2, 4), range(2), range(2, 4)]
    ids, indices = build(pieces, slots, 12)
    assert ids == [START, 3, START, START, 4, START, START, START, START, END, 0, 0]
    assert indices == {2: 2, 3: 3, 5: 0, 6: 1, 7: 2, 8: 3}


def test_a_prompt_of_the_greatest_length_has_no_padding():
    assert build([[3, 3, 3]], [], 5) == ([START, 3, 3, 3, END], {})
    assert build([[3], []], [range(2)], 5) == ([START, 3, START, START, END], {2: 0, 3: 1})


def test_vectors_replace_the_embeddings_at_their_positions():
    words, cues = torch.zeros(2, 4, 5), torch.arange(20.0).view(2, 2, 5) + 1
    out = splice(words, INDICES, cues)
    assert torch.equal(out[0, 1], cues[0, 0])
    assert torch.equal(out[0, 2], cues[0, 1])
    assert torch.equal(out[1, 0], cues[1, 0])
    assert torch.equal(out[1, 2], cues[1, 1])
    assert torch.equal(out[1, 3], cues[1, 0])
    assert not out[INDICES == NO_CUE].any()


def test_gradients_reach_the_cues_alone():
    embedding = nn.Embedding(10, 4).requires_grad_(False)
    cues = torch.zeros(1, 1, 4, requires_grad=True)
    with spliced(embedding, torch.tensor([[NO_CUE, 0, NO_CUE]]), cues):
        embedding(torch.tensor([[1, START, 2]])).sum().backward()
    assert torch.equal(cues.grad, torch.ones(1, 1, 4))


def test_the_embedding_layer_is_unchanged_afterwards():
    embedding = nn.Embedding(10, 4)
    ids = torch.tensor([[1, START, 2]])
    before = embedding(ids)
    with spliced(embedding, torch.where(ids == START, 0, NO_CUE), torch.ones(1, 1, 4)):
        assert torch.equal(embedding(ids)[0, 1], torch.ones(4))
    assert torch.equal(embedding(ids), before)
