"""What all parts share: sizes, models, runs on workspaces of their own, and how rates are measured."""

import gc
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch

from aai.models.device import best_device, dtype_named
from aai.profiles import Models
from aai.tiny.world import WEIGHTS
from bench.gpu.machine import watched_gpu
from bench.gpu.rows import Measured
from tasks.runtime.driver import StageSummary
from tasks.runtime.run import Run
from tasks.stages import make_config, open_run

_GIB = 2**30
_COMPILE = "compile"  # the option of `models`
_SHORT_TRAINING = {"method": "learned", "steps": 1, "num_clips": 4, "batch_size": 2, "image_share": 0.0}
_SHORT_TRAINING |= {"templates": ("a photo of *",)}
_TINY = {"clip": "clip", "clap": "clap", "sd15": "pipeline"}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    images: int = 4_096
    """Of a repetition, as all of the following."""
    recordings: int = 2_048
    duration_s: float = 10
    rate_hz: int = 48_000
    clips: int = 64
    fit_steps: int = 8
    cues: int = 4
    photos: int = 4
    pictures: int = 64
    """For all cues together; edits are for all cues and photos together."""
    edits: int = 32
    large_pictures: int = 16
    render_steps: int = 20
    batch: int = 16
    """Pictures that the peer makes at once."""
    vectors: int = 1_000_000
    dim: int = 768
    queries: int = 20_000
    at_once: int = 64
    """Rows of the UNet, and a quarter of the encoders' items, where the model is measured alone."""
    repetitions: int = 2


SMALL = Sizes(
    images=3,
    recordings=3,
    duration_s=5,
    rate_hz=16_000,
    clips=2,
    fit_steps=1,
    cues=1,
    photos=1,
    pictures=1,
    edits=1,
    large_pictures=1,
    render_steps=4,
    batch=2,
    vectors=2_000,
    dim=64,
    queries=50,
    at_once=2,
    repetitions=1,
)
"""Enough to see that everything works."""


@dataclass(frozen=True)
class Setting:
    """Where and how much is measured."""

    folder: Path
    """Holds models, files and workspaces; all of it can be made again."""
    is_small: bool = False
    """Tiny models, for a CPU."""
    sizes: Sizes = Sizes()

    @property
    def device(self) -> torch.device:
        """The device of the models."""
        return best_device()

    @property
    def dtype(self) -> torch.dtype:
        """The floating-point type of the models."""
        return dtype_named(self._dtype)

    @property
    def _dtype(self) -> str:
        return "float32" if self.is_small else "bfloat16"

    def model(self, name: str) -> Path:
        """The folder of a model: clip, clap, sd15 or sdxl."""
        return WEIGHTS / _TINY[name] if self.is_small and name in _TINY else self.folder / "models" / name

    def open(self, name: str, diffusion: str = "sd15", is_compiled: bool = False, **keys: Any) -> Run:
        """A run on a workspace with this name; other options than these are as by default.

        It is in this process, with the encoders of the goals, and a bank without index or vectors of images trains its
        mapper. With `is_compiled` the UNet is compiled at once, as it is by default after some minutes of work.
        """
        roles = {"audio": "clap", "image_text": "clip", "diffusion": diffusion}
        models: dict[str, Any] = {role: str(self.model(model)) for role, model in roles.items()}
        models["dtype"] = self._dtype
        if is_compiled and not self.is_small and _COMPILE in Models.model_fields:
            models[_COMPILE] = True
        profile = "tiny" if self.is_small else "sd15"
        defaults: dict[str, Any] = {"profile": profile, "models": models, "pool": {"num_workers": 0}}
        defaults |= {"align": {"method": "labels"}, "train_mapper": _SHORT_TRAINING}
        return open_run(make_config(workspace=str(self.folder / name), **defaults | keys))


def small_setting(folder: Path) -> Setting:
    """Tiny models and few items."""
    return Setting(folder, is_small=True, sizes=SMALL)


def write_models(setting: Setting, names: Sequence[str]) -> None:
    """Write models with random weights, each in a process of its own; those that are there are kept."""
    missing = [name for name in names if not setting.model(name).exists()]
    if setting.is_small:
        for name in missing:
            _write_shrunk(name, setting.model(name))
    elif missing:
        # Not forked: torch has threads.
        with ProcessPoolExecutor(len(missing), get_context("spawn")) as pool:
            list(pool.map(_write_full, missing, [setting.model(name) for name in missing]))


def _write_shrunk(name: str, folder: Path) -> None:
    from tests.models import shrunk

    getattr(shrunk, f"write_{name}")(folder)


def _write_full(name: str, folder: Path) -> None:
    """Write a model of full size; it has its name once it is complete."""
    from tests.full_size import architectures

    begun = folder.with_name(f"{name}.begun")
    getattr(architectures, f"write_{name}")(begun)
    begun.rename(folder)


def say(*words: object, sep: str = " ") -> None:
    """Print progress."""
    print(*words, sep=sep, file=sys.stderr, flush=True)


def wait() -> None:
    """Wait until the GPU is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def rate_of(num: int, work: Callable[[], object], repetitions: int = 3, warm_ups: int = 1) -> float:
    """Items per second: the best of some repetitions."""
    best_s = float("inf")
    for number in range(warm_ups + repetitions):
        wait()
        start_s = time.perf_counter()
        work()
        wait()
        if number >= warm_ups:
            best_s = min(best_s, time.perf_counter() - start_s)
    return num / best_s


@contextmanager
def watched(measured: Measured) -> Iterator[None]:
    """Record how busy the GPU is and how much memory is taken."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with watched_gpu() as busy:
        yield
    measured.busy = busy.percent
    if torch.cuda.is_available():
        measured.peak_gib = torch.cuda.max_memory_reserved() / _GIB


def tried(measured: Measured, name: str, work: Callable[[], float]) -> float | None:
    """A rate beside a row; if it fails the row stays, with a note."""
    try:
        return work()
    except Exception as error:  # noqa: BLE001 - the peer's error is no reason to lose the row
        measured.notes.append(f"{name}: {summary_of(error)}")
        return None
    finally:
        free_memory()


def summary_of(error: BaseException) -> str:
    """Class and first line of an error."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}".rstrip(": ")


def count_of(summary: StageSummary) -> int:
    """Items that a stage has made.

    Raises:
        RuntimeError: it rejected some, or made none.
    """
    if summary.rejected or not summary.new:
        raise RuntimeError(f"{summary.stage} made {summary.new} items and rejected {summary.rejected}")
    return summary.new


def free_memory() -> None:
    """Return the memory of models that nobody uses any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
