"""The mapper starts every clip at the same words."""

import pytest
import torch
import torch.nn.functional as F

from aai.cues.interpolate import between
from aai.cues.mapper import CueMapper, unit_for


@pytest.mark.parametrize("size", [0.014, 0.25, 3])
def test_a_mapper_starts_near_the_rows_it_is_given_whatever_their_size(size):
    torch.manual_seed(0)
    rows = torch.randn(2, 8) * size
    mapper = CueMapper(16, 8, num_rows=2, unit=unit_for(rows))
    mapper.start_at(rows)
    cues = mapper(F.normalize(torch.randn(20, 16), dim=1))
    assert cues.shape == (20, 2, 8)
    assert (cues - rows).norm(dim=-1).mean() < 0.6 * rows.norm(dim=-1).mean()
    assert (cues[0] - cues[1]).abs().max() > 0


def test_a_saved_mapper_comes_back_the_same(tmp_path):
    mapper, aligned = CueMapper(16, 8, num_rows=3, hidden_dim=4, unit=0.1), torch.randn(2, 16)
    mapper.save(tmp_path)
    assert torch.equal(CueMapper.load(tmp_path)(aligned), mapper(aligned))


def test_between_two_cues_each_part_of_a_row_turns_evenly_and_its_norm_goes_straight():
    start, end = torch.randn(2, 3, 2, 10, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [5.0]])
    assert torch.equal(between(start, end, 0.0, [4, 6]), start) and torch.equal(between(start, end, 1.0, [4, 6]), end)
    way = torch.stack([between(start, end, step / 8, [4, 6]) for step in range(9)])
    for part in way.split([4, 6], dim=-1):
        norm = part.norm(dim=-1)
        assert torch.allclose(norm, torch.lerp(norm[:1], norm[-1:], torch.arange(9.0)[:, None, None] / 8), atol=1e-5)
        turns = torch.acos(F.cosine_similarity(part[1:], part[:-1], dim=-1))
        whole = torch.acos(F.cosine_similarity(part[0], part[-1], dim=-1))
        assert torch.allclose(turns, (whole / 8).expand_as(turns), atol=1e-3)


def test_between_a_cue_and_itself_there_is_only_that_cue():
    cue = torch.randn(2, 6)
    assert torch.allclose(between(cue, cue, 0.3, [6]), cue, atol=1e-6)
    assert torch.allclose(between(cue, 3 * cue, 0.5, [6]), 2 * cue, atol=1e-5)
