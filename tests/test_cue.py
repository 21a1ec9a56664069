"""The mapper starts every clip at the same words."""

import torch
import torch.nn.functional as F

from aai.cue import CueMapper


def test_a_mapper_starts_near_the_rows_it_is_given():
    torch.manual_seed(0)
    mapper, rows = CueMapper(16, 8, num_rows=2), torch.randn(2, 8) * 3
    mapper.start_at(rows)
    cues = mapper(F.normalize(torch.randn(20, 16), dim=1))
    assert cues.shape == (20, 2, 8)
    assert (cues - rows).norm(dim=-1).mean() < 0.2 * rows.norm(dim=-1).mean()
    assert (cues[0] - cues[1]).abs().max() > 0


def test_a_saved_mapper_comes_back_the_same(tmp_path):
    mapper, aligned = CueMapper(16, 8, num_rows=3, hidden_dim=4), torch.randn(2, 16)
    mapper.save(tmp_path)
    assert torch.equal(CueMapper.load(tmp_path)(aligned), mapper(aligned))
