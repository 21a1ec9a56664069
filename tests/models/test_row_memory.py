"""Rows in a pass follow from the free memory, before any is short."""

import pytest
import torch

from aai.cues.options import MOST_ROWS
from aai.models import row_memory
from aai.models.diffusion import load_diffusion
from aai.models.row_memory import RowMemory, measure_rows

GIB = 2**30


@pytest.fixture(scope="module", params=["sd15_folder", "sdxl_folder"])
def model(request):
    return load_diffusion(request.getfixturevalue(request.param))


@pytest.mark.parametrize(
    ("free_gib", "most", "rows"), [(0.5, 128, 1), (13.6, 128, 17), (13.6, 8, 8), (66.5, 128, 86), (116.0, 128, 128)]
)
def test_rows_of_a_model_of_the_measured_size(free_gib, most, rows):
    """0.5 GiB and 0.76 GiB a row, as Stable Diffusion 1.5 took on an H200."""
    line = RowMemory.through((1, int(1.26 * GIB)), (2, int(2.02 * GIB)), free_gib * GIB, most)
    assert line.rows == rows


def test_a_pass_that_took_more_lowers_the_rows_and_one_that_took_less_changes_nothing():
    line = RowMemory.through((1, 2 * GIB), (2, 3 * GIB), 17.0 * GIB, 128)
    assert line.rows == 16 == line.after(16, 10 * GIB).rows == line.after(16, 0).rows
    assert line.after(8, 17 * GIB).rows == 8


def test_half_the_free_memory_holds_half_the_rows(model, monkeypatch):
    monkeypatch.setattr(row_memory, "_MOST_ROWS_ON_CPU", MOST_ROWS)
    found = {}
    for free in (1, 50, 100):
        monkeypatch.setattr(row_memory, "free_bytes", lambda device, share, free=free: share * free * 2**20)
        found[free] = measure_rows(model, 2).rows
        assert measure_rows(model, 2, share=0.5).rows == pytest.approx(found[free] / 2, abs=2)
    assert 1 <= found[1] < found[50] < found[100] < MOST_ROWS
    assert found[100] == pytest.approx(2 * found[50], abs=2)


def test_no_more_rows_than_are_needed_or_make_a_pass_faster(model):
    assert measure_rows(model, 2).rows == 16
    assert measure_rows(model, 2, most=3).rows == 3


def test_kept_tensors_grow_with_the_rows_and_hold_no_weight(model):
    kept = [row_memory._kept_bytes(model, 2, rows) for rows in (1, 2, 4)]
    assert kept[2] - kept[1] == pytest.approx(2 * (kept[1] - kept[0]), rel=0.05)
    weights = sum(weight.nbytes for weight in model.pipeline.unet.parameters())
    assert kept[0] - (kept[1] - kept[0]) < 0.5 * weights


class FakeGpu:
    """A device on which a pass takes 0.5 GiB and 0.76 GiB a row, 1.2 times as much from 5 rows on."""

    def __init__(self, total_gib: float) -> None:
        self.total, self.passes = total_gib * GIB, []

    def pass_bytes(self, model, num_tokens, rows) -> int:
        self.passes.append(rows)
        needed = (0.5 + 0.76 * rows * (1.2 if rows > 4 else 1)) * GIB
        assert needed < self.total, "memory is never short"
        return int(needed)


@pytest.mark.parametrize(("total_gib", "rows"), [(1.5, 1), (4, 3), (13.7, 12), (77, 71), (137, 126)])
def test_on_a_gpu_a_larger_pass_verifies_and_memory_is_never_short(sd15_folder, monkeypatch, total_gib, rows):
    gpu, model = FakeGpu(total_gib), load_diffusion(sd15_folder)
    monkeypatch.setattr(type(model), "device", torch.device("cuda"))
    monkeypatch.setattr(row_memory, "run_passes", lambda *_: None)
    monkeypatch.setattr(row_memory, "_pass_bytes", gpu.pass_bytes)
    monkeypatch.setattr(row_memory, "free_bytes", lambda device, share: share * gpu.total)
    found = measure_rows(model, 2)
    assert found.rows == rows
    assert gpu.pass_bytes(model, 2, found.rows) <= gpu.total
    assert len(gpu.passes) <= 4
