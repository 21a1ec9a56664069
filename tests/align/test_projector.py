"""The projector returns unit vectors; InfoNCE equals its definition."""

import numpy as np
import torch

from aai.align.projector import Projector, info_nce, logit_scale


def test_aligned_embeddings_are_normalised():
    aligned = Projector(6, 4)(torch.randn(5, 6))
    assert torch.allclose(aligned.norm(dim=1), torch.ones(5))


def test_a_projector_can_be_saved_and_loaded(tmp_path):
    projector, audio = Projector(6, 4, hidden_dim=8), torch.randn(3, 6)
    projector.save(tmp_path)
    assert torch.equal(Projector.load(tmp_path)(audio), projector(audio))


def test_with_the_identity_the_loss_is_that_of_clip():
    logits = np.random.default_rng(0).normal(size=(4, 4))

    def cross_entropy(rows: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(rows).sum(1)) - np.diag(rows)))

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    loss = info_nce(torch.from_numpy(logits), torch.eye(4, dtype=torch.float64))
    assert np.isclose(float(loss), expected)


def test_items_without_a_positive_are_left_out():
    logits = torch.tensor([[2.0, 0.0], [5.0, -3.0]])
    only_first = info_nce(logits, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    row, column = -torch.log_softmax(logits[0], 0)[0], -torch.log_softmax(logits[:, 0], 0)[0]
    assert torch.isclose(only_first, (row + column) / 2)


def test_equal_positives_share_the_probability():
    logits = torch.zeros(2, 2)
    assert torch.isclose(info_nce(logits, torch.ones(2, 2)), torch.tensor(2.0).log())


def test_the_logit_scale_starts_at_clips_temperature():
    assert torch.isclose(logit_scale().exp(), torch.tensor(1 / 0.07))
