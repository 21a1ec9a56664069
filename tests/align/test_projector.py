"""The projector gives unit vectors; the contrastive loss is the textbook's."""

import numpy as np
import torch

from aai.align.projector import Projector, contrast


def test_aligned_vectors_have_length_one():
    aligned = Projector(6, 4)(torch.randn(5, 6))
    assert torch.allclose(aligned.norm(dim=1), torch.ones(5))


def test_a_saved_projector_comes_back_the_same(tmp_path):
    projector, audio = Projector(6, 4, hidden_dim=8), torch.randn(3, 6)
    projector.save(tmp_path)
    assert torch.equal(Projector.load(tmp_path)(audio), projector(audio))


def test_with_one_pair_a_row_the_loss_is_that_of_clip():
    logits = np.random.default_rng(0).normal(size=(4, 4))

    def cross_entropy(rows: np.ndarray) -> float:
        return float(np.mean(np.log(np.exp(rows).sum(1)) - np.diag(rows)))

    expected = (cross_entropy(logits) + cross_entropy(logits.T)) / 2
    found = contrast(torch.from_numpy(logits), torch.eye(4, dtype=torch.float64))
    assert np.isclose(float(found), expected)


def test_rows_without_a_pair_do_not_count():
    logits = torch.tensor([[2.0, 0.0], [5.0, -3.0]])
    only_first = contrast(logits, torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    row, column = -torch.log_softmax(logits[0], 0)[0], -torch.log_softmax(logits[:, 0], 0)[0]
    assert torch.isclose(only_first, (row + column) / 2)


def test_two_equal_pairs_share_the_row():
    logits = torch.zeros(2, 2)
    assert torch.isclose(contrast(logits, torch.ones(2, 2)), torch.tensor(2.0).log())
