"""The projector returns unit vectors."""

import torch

from aai.align.projector import Projector


def test_aligned_embeddings_are_normalised():
    aligned = Projector(6, 4)(torch.randn(5, 6))
    assert torch.allclose(aligned.norm(dim=1), torch.ones(5))


def test_a_projector_can_be_saved_and_loaded(tmp_path):
    projector, audio = Projector(6, 4, hidden_dim=8), torch.randn(3, 6)
    projector.save(tmp_path)
    assert torch.equal(Projector.load(tmp_path)(audio), projector(audio))


def test_without_a_hidden_layer_it_is_linear(tmp_path):
    projector = Projector(6, 4, hidden_dim=0)
    projector.save(tmp_path)
    audio, weight = torch.randn(3, 6), projector.first.weight
    expected = torch.nn.functional.normalize(audio @ weight.T + projector.first.bias, dim=1)
    assert torch.allclose(Projector.load(tmp_path)(audio), expected)
