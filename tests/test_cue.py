"""The mapper starts every clip at the same words."""

import pytest
import torch
import torch.nn.functional as F

from aai.cue import CueMapper, unit_for


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
