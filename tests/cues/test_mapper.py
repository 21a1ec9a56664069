"""The mapper starts every clip near the same vectors, and is saved with its configuration."""

import pytest
import torch
import torch.nn.functional as F

from aai.cues.mapper import CueMapper, unit_for
from aai.tiny.world import WEIGHTS


@pytest.mark.parametrize("size", [0.014, 0.25, 3])
def test_a_mapper_starts_near_the_given_vectors_whatever_their_size(size):
    torch.manual_seed(0)
    vectors = torch.randn(2, 8) * size
    mapper = CueMapper(16, 8, num_tokens=2, unit=unit_for(vectors))
    mapper.start_at(vectors)
    cues = mapper(F.normalize(torch.randn(20, 16), dim=1))
    assert cues.shape == (20, 2, 8)
    assert (cues - vectors).norm(dim=-1).mean() < 0.6 * vectors.norm(dim=-1).mean()
    assert (cues[0] - cues[1]).abs().max() > 0


def test_a_saved_mapper_loads_the_same(tmp_path):
    mapper, aligned = CueMapper(16, 8, num_tokens=3, hidden_dim=4, unit=0.1), torch.randn(2, 16)
    mapper.save(tmp_path)
    assert torch.equal(CueMapper.load(tmp_path)(aligned), mapper(aligned))


def test_the_shipped_mapper_loads():
    mapper = CueMapper.load(WEIGHTS / "mapper")
    assert mapper(F.normalize(torch.ones(1, 128), dim=1)).shape == (1, mapper.num_tokens, mapper.token_dim)
