"""A worker's process keeps to its share, and says why a model does not fit."""

import os

import pytest
import torch

from aai.errors import BadConfig, Transient
from tasks.runtime.process import no_room_for_model, num_threads, take_share

GIB = 2**30


@pytest.fixture
def share(monkeypatch):
    """Variables that are restored, and a torch whose threads stay as they are."""
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    return threads


@pytest.mark.parametrize(("has_gpu", "visible"), [(True, "3"), (False, "")])
def test_a_worker_sees_the_gpu_that_it_was_given_or_none(share, has_gpu, visible):
    take_share(7, has_gpu)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert share == [7] and num_threads() == 7


@pytest.mark.parametrize("value", ["", "0", "many"])
def test_without_a_share_all_cpus_are_used(monkeypatch, value):
    monkeypatch.setenv("OMP_NUM_THREADS", value)
    assert num_threads() == os.cpu_count()


@pytest.mark.parametrize(
    ("free_gib", "own_gib", "error", "text"),
    [
        (1, 14, BadConfig, "does not fit into the 16.0 GiB of GPU memory"),
        (4, 2, Transient, "10.0 of 16.0 GiB of GPU memory are taken by other processes"),
    ],
)
def test_a_model_that_does_not_fit_is_too_large_or_has_too_little_room(monkeypatch, free_gib, own_gib, error, text):
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_gib * GIB, 16 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: own_gib * GIB)
    found = no_room_for_model()
    assert isinstance(found, error) and text in found.sentence


def test_without_a_gpu_a_larger_machine_is_the_remedy():
    found = no_room_for_model()
    assert isinstance(found, BadConfig) and found.key == "models" and "larger machine" in found.sentence
