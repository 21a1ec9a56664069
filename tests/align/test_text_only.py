"""Ridge regression and the shift from texts to sounds."""

import numpy as np
import torch

from aai.align.ridge import fit_ridge
from aai.align.text_only import hear_sounds, judge, ridge_projector
from tests.align.pairs import make_vectors


def test_ridge_regression_is_the_closed_form():
    inputs, outputs = make_vectors(50)
    centred, aims = inputs - inputs.mean(0), outputs - outputs.mean(0)
    penalty = 0.1 * 50 * np.trace(np.cov(inputs.T, bias=True)) / inputs.shape[1]
    weight = np.linalg.solve(centred.T @ centred + penalty * np.eye(inputs.shape[1]), centred.T @ aims)
    ridge = fit_ridge(inputs, outputs, 0.1)
    assert np.allclose(ridge.weight, weight, atol=1e-4)
    assert np.allclose(ridge(inputs).mean(0), outputs.mean(0), atol=1e-4)


def test_pairs_of_no_weight_count_for_nothing():
    inputs, outputs = make_vectors(60)
    weights = (np.arange(60) < 40).astype(float)
    part = fit_ridge(inputs[:40], outputs[:40], 0.1)
    assert np.allclose(fit_ridge(inputs, outputs, 0.1, weights).weight, part.weight, atol=1e-4)


def test_a_shifted_projector_hears_sounds_as_their_texts():
    texts, targets = (each.astype(np.float32) for each in make_vectors(80))
    sounds = texts + np.float32(0.7)
    projector = ridge_projector(texts, targets, 0.01)
    with torch.inference_mode():
        before = projector(torch.from_numpy(texts))
        after = hear_sounds(projector, texts, sounds)(torch.from_numpy(sounds))
    assert torch.allclose(before, after, atol=1e-4)


def test_noise_makes_the_judgement_harder():
    texts, targets = make_vectors(80)
    projector = ridge_projector(texts, targets, 0.01)
    quiet, loud = (judge(projector, texts, targets, noise, np.random.default_rng(0)) for noise in (0.0, 1.0))
    assert quiet[0] > 0.8 > loud[0] and quiet[1] > loud[1]
