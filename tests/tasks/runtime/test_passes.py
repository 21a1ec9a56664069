"""Workers take rows from their own share of the memory, and revise them by what slices took."""

from contextlib import contextmanager

import pytest

from aai.models import memory, row_memory
from aai.models.diffusion import load_diffusion
from aai.models.memory import Peak
from aai.models.row_memory import RowMemory
from aai.tiny.world import WEIGHTS
from tasks.runtime import passes
from tasks.runtime.passes import Passes, memory_share
from tasks.runtime.stage import Context
from tasks.stages import make_config

GIB = 2**30


@pytest.mark.parametrize(
    ("pools", "threads", "device", "share"),
    [
        ({}, 4, "cuda", 1.0),
        ({"fit": {"gpus_per_worker": 0.25}}, 4, "cuda", 0.25),
        ({"fit": {"gpus_per_worker": 2}}, 4, "cuda", 1.0),
        ({"fit": {"gpus_per_worker": 0.25}}, 4, "cpu", 0.5),
        ({}, 8, "cpu", 1.0),
    ],
)
def test_workers_that_share_a_device_share_its_memory(monkeypatch, pools, threads, device, share):
    monkeypatch.setattr(passes.os, "cpu_count", lambda: 8)
    monkeypatch.setattr(passes, "num_threads", lambda: threads)
    assert memory_share(make_config(pools=pools), "fit", device) == share


def new_passes(monkeypatch, max_rows=None, most=None) -> tuple[Passes, list[tuple]]:
    asked = []

    def measure(diffusion, num_tokens, share, most):
        asked.append((num_tokens, share, most))
        return RowMemory(0.0, float(GIB), 16.0 * GIB, 128)

    monkeypatch.setattr(row_memory, "measure_rows", measure)
    monkeypatch.setattr(passes, "num_threads", lambda: 10**6)
    context = Context(make_config(), None, {}, {})
    return Passes(context, "fit", load_diffusion(WEIGHTS / "pipeline"), 2, max_rows, most), asked


def test_rows_of_the_options_are_taken_as_they_are(monkeypatch):
    given, asked = new_passes(monkeypatch, max_rows=5)
    with given.work(5):
        pass
    assert (given.max_rows, asked) == (5, [])


def test_a_slice_that_took_more_memory_lowers_the_rows(monkeypatch):
    measured, asked = new_passes(monkeypatch, most=32)
    assert (measured.max_rows, asked) == (16, [(2, 1.0, 32)])
    for peak_gib, rows in ((10, 16), (32, 8), (4, 8)):

        @contextmanager
        def peak(device, peak_gib=peak_gib):
            yield Peak(peak_gib * GIB)

        monkeypatch.setattr(memory, "peak_memory", peak)
        with measured.work(16):
            pass
        assert measured.max_rows == rows
