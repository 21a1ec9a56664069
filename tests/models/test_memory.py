"""Free memory counts the limits of the process and of the container; batches follow from it."""

from types import SimpleNamespace

import pytest
import torch

from aai.models import memory
from aai.models.batching import BatchSizes
from aai.models.memory import free_bytes, peak_memory

GIB = 2**30
CPU, CUDA = torch.device("cpu"), torch.device("cuda:0")
SD15 = 320 * 2  # channels of the first level, in bfloat16
LATENT = 64 * 64


@pytest.fixture
def gpu(monkeypatch) -> SimpleNamespace:
    """A GPU that is not there: sizes in bytes."""
    state = SimpleNamespace(free=100 * GIB, total=140 * GIB, reserved=0, allocated=0, fraction=1.0, peak=0)
    fakes = {
        "mem_get_info": lambda device: (state.free, state.total),
        "memory_reserved": lambda device: state.reserved,
        "memory_allocated": lambda device: state.allocated,
        "get_per_process_memory_fraction": lambda device: state.fraction,
        "reset_peak_memory_stats": lambda device: None,
        "max_memory_allocated": lambda device: state.peak,
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    return state


def test_what_torch_holds_and_does_not_use_is_free(gpu):
    gpu.free, gpu.reserved, gpu.allocated = 10 * GIB, 6 * GIB, 2 * GIB
    assert free_bytes(CUDA) == 14 * GIB


def test_a_limit_of_the_process_counts(gpu):
    gpu.fraction, gpu.allocated, gpu.reserved = 16 / 140, 4 * GIB, 4 * GIB
    assert free_bytes(CUDA) == pytest.approx(12 * GIB, rel=1e-3)


def test_half_a_gpu_is_half_of_its_memory_whatever_another_process_has_taken(gpu):
    gpu.free, gpu.allocated, gpu.reserved = 70 * GIB, 2 * GIB, 2 * GIB
    assert free_bytes(CUDA, 0.5) == 68 * GIB
    gpu.free = 10 * GIB
    assert free_bytes(CUDA, 0.5) == 10 * GIB


def test_a_limit_of_the_container_counts_without_cached_files(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text(f"{8 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{5 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {2 * GIB}\n")
    assert memory._left_in_container(tmp_path) == 5 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._left_in_container(tmp_path) == 2**63
    monkeypatch.setattr(memory, "_left_in_container", lambda: 3)
    assert free_bytes(CPU) == 3


def test_the_peak_is_what_came_on_top(gpu):
    gpu.allocated = 2 * GIB
    with peak_memory(CUDA) as peak:
        gpu.peak = 5 * GIB
    assert peak.num_bytes == 3 * GIB


def measure(gpu: SimpleNamespace, sizes: BatchSizes, num: int, num_bytes: int, kind: str = "a") -> None:
    with sizes.measured(kind, num):
        gpu.peak = gpu.allocated + num_bytes


def test_a_first_batch_is_small_and_the_next_one_follows_from_its_memory(gpu):
    sizes = BatchSizes(CUDA, SD15)
    assert sizes.size("a", LATENT, 2) == 4
    measure(gpu, sizes, 4, 4 * GIB)
    assert sizes.size("a", LATENT, 2) == 32, "64 rows saturate the GPU"
    assert sizes.size("b", LATENT, 2) == 4, "another kind is measured by itself"
    gpu.free = 10 * GIB
    assert sizes.size("a", LATENT, 2) == 7, "70 % of what is free"
    measure(gpu, sizes, 2, 4 * GIB)
    assert sizes.size("a", LATENT, 2) == 7, "a smaller batch says less"
    measure(gpu, sizes, 7, int(3.5 * GIB))
    assert sizes.size("a", LATENT, 2) == 14


def test_larger_pictures_and_more_rows_make_smaller_batches(gpu):
    sizes = BatchSizes(CUDA, SD15)
    for kind, num_pixels, num_rows, most in (
        ("xl", 4 * LATENT, 2, 8),
        ("edit", LATENT, 4, 16),
        ("plain", LATENT, 1, 64),
    ):
        measure(gpu, sizes, 4, 1, kind)
        assert sizes.size(kind, num_pixels, num_rows) == most


def test_little_memory_makes_even_the_first_batch_smaller(gpu):
    gpu.free = GIB
    assert BatchSizes(CUDA, SD15).size("a", LATENT, 2) == 2
    gpu.free = 0
    assert BatchSizes(CUDA, SD15).size("a", LATENT, 2) == 1


def test_a_cpu_takes_16_small_pictures_and_a_given_size_is_kept(gpu, monkeypatch):
    monkeypatch.setattr("aai.models.batching.free_bytes", lambda device, share: share * 64 * GIB)
    assert BatchSizes(CPU, SD15).size("a", 16 * 16, 2) == 16
    assert BatchSizes(CPU, SD15, 40).size("a", LATENT, 2) == 40


@pytest.mark.parametrize("fixed", [None, 12])
def test_a_shortage_halves_the_batch_that_was_too_large(gpu, fixed):
    sizes = BatchSizes(CUDA, SD15, fixed)
    measure(gpu, sizes, 6, 1)
    assert sizes.halve() and sizes.size("a", LATENT, 2) == 3
    measure(gpu, sizes, 1, 1)
    assert not sizes.halve()
