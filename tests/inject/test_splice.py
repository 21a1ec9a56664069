"""A cue stands where its placeholder is, and nowhere else."""

import torch
from torch import nn

from aai.inject.splice import NO_ROW, Frame, frame_tokens, splice, spliced

START, END, PADDING = 8, 9, 0
ROWS = torch.tensor([[-1, 0, 1, -1], [0, -1, 1, 0]])


def framed(pieces: list[list[int]], slots: list, length: int = 8) -> tuple[list[int], dict[int, int]]:
    ids, rows = frame_tokens(pieces, slots, Frame(START, END, PADDING, length))
    assert len(ids) == len(rows) == length
    return ids, {i: row for i, row in enumerate(rows) if row != NO_ROW}


def test_a_prompt_without_a_placeholder_is_only_framed():
    assert framed([[3, 4]], []) == ([START, 3, 4, END, 0, 0, 0, 0], {})
    assert framed([[]], [], 3) == ([START, END, 0], {})


def test_a_placeholder_makes_one_place_for_each_row():
    assert framed([[3], [4]], [[0]]) == ([START, 3, START, 4, END, 0, 0, 0], {2: 0})
    assert framed([[3], [4]], [range(2)]) == ([START, 3, START, START, 4, END, 0, 0], {2: 0, 3: 1})
    assert framed([[], []], [[0]]) == ([START, START, END, 0, 0, 0, 0, 0], {1: 0})
    assert framed([[], [5], []], [[0], [0]]) == ([START, START, 5, START, END, 0, 0, 0], {1: 0, 3: 0})


def test_each_slot_has_its_own_rows():
    pieces, slots = [[3], [4], [], []], [range(2, 4), range(2), range(2, 4)]
    ids, rows = framed(pieces, slots, 12)
    assert ids == [START, 3, START, START, 4, START, START, START, START, END, 0, 0]
    assert rows == {2: 2, 3: 3, 5: 0, 6: 1, 7: 2, 8: 3}


def test_what_exceeds_the_frame_is_cut_off_before_the_end():
    assert framed([[3] * 9], [], 5) == ([START, 3, 3, 3, END], {})
    assert framed([[3, 3], [4]], [range(2)], 5) == ([START, 3, 3, START, END], {3: 0})
    assert framed([[3, 3], [4]], [[0]], 5) == ([START, 3, 3, START, END], {3: 0})


def test_rows_go_to_their_places():
    words, cues = torch.zeros(2, 4, 5), torch.arange(20.0).view(2, 2, 5) + 1
    out = splice(words, ROWS, cues)
    assert torch.equal(out[0, 1], cues[0, 0])
    assert torch.equal(out[0, 2], cues[0, 1])
    assert torch.equal(out[1, 0], cues[1, 0])
    assert torch.equal(out[1, 2], cues[1, 1])
    assert torch.equal(out[1, 3], cues[1, 0])
    assert not out[ROWS == NO_ROW].any()


def test_gradients_reach_the_cues_alone():
    embedding = nn.Embedding(10, 4).requires_grad_(False)
    cues = torch.zeros(1, 1, 4, requires_grad=True)
    with spliced(embedding, torch.tensor([[NO_ROW, 0, NO_ROW]]), cues):
        embedding(torch.tensor([[1, START, 2]])).sum().backward()
    assert torch.equal(cues.grad, torch.ones(1, 1, 4))


def test_afterwards_the_embedding_is_as_before():
    embedding = nn.Embedding(10, 4)
    ids = torch.tensor([[1, START, 2]])
    before = embedding(ids)
    with spliced(embedding, torch.where(ids == START, 0, NO_ROW), torch.ones(1, 1, 4)):
        assert torch.equal(embedding(ids)[0, 1], torch.ones(4))
    assert torch.equal(embedding(ids), before)
