"""Interpolation of cues: even turns, and norms on a straight line."""

import torch
import torch.nn.functional as F

from aai.cues.interpolate import between


def test_each_text_encoders_part_turns_evenly_and_its_norm_changes_linearly():
    start, end = torch.randn(2, 3, 2, 10, generator=torch.Generator().manual_seed(0)) * torch.tensor([[1.0], [5.0]])
    assert torch.equal(between(start, end, 0.0, [4, 6]), start) and torch.equal(between(start, end, 1.0, [4, 6]), end)
    path = torch.stack([between(start, end, step / 8, [4, 6]) for step in range(9)])
    for part in path.split([4, 6], dim=-1):
        norm = part.norm(dim=-1)
        assert torch.allclose(norm, torch.lerp(norm[:1], norm[-1:], torch.arange(9.0)[:, None, None] / 8), atol=1e-5)
        angles = torch.acos(F.cosine_similarity(part[1:], part[:-1], dim=-1))
        total = torch.acos(F.cosine_similarity(part[0], part[-1], dim=-1))
        assert torch.allclose(angles, (total / 8).expand_as(angles), atol=1e-3)


def test_between_a_cue_and_itself_is_that_cue():
    cue = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(between(cue, cue, 0.3, [6]), cue, atol=1e-6)
    assert torch.allclose(between(cue, 3 * cue, 0.5, [6]), 2 * cue, atol=1e-5)
