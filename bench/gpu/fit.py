"""Fitting: 64 clips at the defaults, and the same with 16 GB of GPU memory."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from bench.fit import invert, new_workload, unet_alone
from bench.gpu.bank import absent_recordings, add_clips, add_images, add_neighbours
from bench.gpu.rows import Measured
from bench.gpu.setting import Setting, count_of, free_memory, rate_of, tried, watched
from bench.gpu.sources import write_tar
from tasks.fit import CUES
from tasks.train_mapper import MAPPER

_LIMIT_BYTES = 16e9
_CONTEXT_BYTES = 0.6e9
"""What the driver takes of a card's memory, which a limit of the process does not count."""

_ROWS_PER_STEP = 4
_PEER_CLIPS = 2
_SHORT = 3
"""With little memory a third of the steps is measured."""


def measure(setting: Setting) -> Iterator[Measured]:
    """The rows `fit_16gb`, without compiling, and `fit`; then `fit` again, with what is beside it."""
    with _limited(limited := Measured("fit_16gb")):
        yield _fitted(setting, limited, max(1, setting.sizes.fit_steps // _SHORT), repetitions=1)
    measured = _fitted(setting, Measured("fit"), setting.sizes.fit_steps, setting.sizes.repetitions)
    yield measured
    measured.peer_is, measured.alone_is = "textual inversion, one clip at a time", "UNet, forward and backward"
    measured.peer = tried(measured, "peer", lambda: _peer(setting))
    measured.alone = tried(measured, "model alone", lambda: _alone(setting))
    yield measured


def _fitted(setting: Setting, measured: Measured, steps: int, repetitions: int) -> Measured:
    """Fit clips, first without measuring: models are loaded, and perhaps compiled."""
    options = {"method": "adapter", "steps": steps, "eval_every": steps, "eval_rows": 1, "min_improvement": 0}
    run, sizes = setting.open(measured.row, is_compiled=measured.row == "fit", fit=options), setting.sizes
    dim = 128 if setting.is_small else 768
    images = add_images(run, write_tar(setting.folder / f"{measured.row}.tar", 5 * sizes.clips // 2, seed=7))
    with watched(measured):
        for number in range(repetitions + 1):
            recordings = absent_recordings(sizes.clips, number * sizes.clips)
            clips = add_clips(run, recordings, sizes.duration_s)
            add_neighbours(run, clips, images, dim)
            if number == 0:
                run.do(MAPPER)
            summary = run.do(CUES)
            rate = count_of(summary) * steps * _ROWS_PER_STEP / summary.took_s
            if number == 0:
                measured.notes.append(f"the first {sizes.clips} clips took {summary.took_s:.1f} s with loading")
            else:
                measured.values.append(rate)
    measured.num_items = sizes.clips * steps * _ROWS_PER_STEP
    measured.notes.append(f"{_num_out_of_memory()} times out of memory on the way")
    run.close()
    free_memory()
    return measured


def _num_out_of_memory() -> int:
    return torch.cuda.memory_stats().get("num_ooms", 0) if torch.cuda.is_available() else 0


@contextmanager
def _limited(measured: Measured) -> Iterator[None]:
    """Limit this process to 16 GB of the GPU, less what the driver takes."""
    if not torch.cuda.is_available():
        measured.notes.append("there is no GPU, so nothing limits the memory")
        yield
        return
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (_LIMIT_BYTES - _CONTEXT_BYTES) / total))
    torch.cuda.reset_accumulated_memory_stats()
    try:
        yield
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.reset_accumulated_memory_stats()  # the next row counts its own


def _peer(setting: Setting) -> float:
    task = new_workload(str(setting.model("sd15")), _PEER_CLIPS, setting.sizes.fit_steps)
    return rate_of(task.num_rows, lambda: invert(task), repetitions=1)


def _alone(setting: Setting) -> float:
    num = setting.sizes.at_once
    task = new_workload(str(setting.model("sd15")), max(1, num // _ROWS_PER_STEP), 2)
    rows = -(-task.num_rows // num) * num
    return rate_of(rows, lambda: unet_alone(task, num), repetitions=2)
