"""A worker's process keeps to its share, and says why a model does not fit."""

import os

import pytest
import torch

from aai.errors import BadConfig, Transient
from tasks.runtime.process import (
    gpu_failed,
    is_gpu_failure,
    is_out_of_memory,
    no_room_for_model,
    num_threads,
    take_share,
)

GIB = 2**30
FULL = torch.AcceleratorError("CUDA error: out of memory")
"""What CUDA says if there is no room for what a process itself takes of a GPU."""


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
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (free_gib * GIB, 16 * GIB))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda: own_gib * GIB)
    found = no_room_for_model(torch.OutOfMemoryError("CUDA out of memory"))
    assert isinstance(found, error) and text in found.sentence


def test_a_gpu_without_room_for_a_process_is_taken_by_others(monkeypatch):
    def fail():
        raise FULL

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", fail)
    found = no_room_for_model(FULL)
    assert isinstance(found, Transient) and "taken by other processes" in found.sentence


@pytest.mark.parametrize("has_gpu", [False, True])
def test_where_the_machine_is_short_of_memory_a_larger_one_is_the_remedy(monkeypatch, has_gpu):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    for error in (MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")):
        found = no_room_for_model(error)
        assert isinstance(found, BadConfig) and found.key == "models" and "larger machine" in found.sentence


@pytest.mark.parametrize(
    ("error", "is_shortage", "is_failure"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), True, False),
        (FULL, True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True, False),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), True, False),
        (RuntimeError("Triton Error [CUDA]: out of memory"), True, False),
        (RuntimeError("Error: err == cudaSuccess failed: CUDA error 2 out of memory"), True, False),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), True, False),
        (MemoryError(), True, False),
        (
            torch.AcceleratorError("CUDA error: uncorrectable ECC error encountered\nCUDA kernel errors ..."),
            False,
            True,
        ),
        (RuntimeError("expected all tensors to be on the same device"), False, False),
        (ValueError("out of memory"), False, False),
        (None, False, False),
    ],
)
def test_shortages_and_failures_of_gpus_are_known_by_what_libraries_say(error, is_shortage, is_failure):
    assert (is_out_of_memory(error), is_gpu_failure(error)) == (is_shortage, is_failure)


def test_the_failure_of_a_gpu_is_one_line():
    found = gpu_failed(torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with ..."))
    assert isinstance(found, Transient)
    assert "failed (CUDA error: an illegal memory access was encountered)" in found.sentence
