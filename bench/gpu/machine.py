"""The machine that is measured, and how busy its GPU is."""

import ctypes
import os
import platform
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import fmean
from threading import Event, Thread

_GIB = 2**30
_PERIOD_S = 0.1
_PACKAGES = ("torch", "diffusers", "transformers", "ray")


def facts(commit: str | None = None) -> dict[str, object]:
    """The machine, its card, the versions and the commit of the code."""
    import torch

    from aai.retrieve.index import faiss_build

    card = "no GPU"
    if torch.cuda.is_available():
        own = torch.cuda.get_device_properties(0)
        card = f"{own.name} ({own.total_memory / _GIB:.0f} GiB, CUDA {torch.version.cuda})"
    return {
        "card": card,
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "Python": platform.python_version(),
        **{name: _version(name) for name in _PACKAGES},
        "FAISS": f"for {faiss_build()}",
        "commit": commit or _commit(),
        "date": datetime.now(UTC).date().isoformat(),
    }


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


@dataclass
class Busy:
    """How busy the GPU was."""

    samples: list[int] = field(default_factory=list)
    """In percent."""

    @property
    def percent(self) -> float | None:
        """The mean; None without a GPU that tells."""
        return fmean(self.samples) if self.samples else None


class _Utilization(ctypes.Structure):
    _fields_ = [("gpu", ctypes.c_uint), ("memory", ctypes.c_uint)]


@contextmanager
def watched_gpu() -> Iterator[Busy]:
    """Ask the first GPU ten times a second how busy it is."""
    busy, stop = Busy(), Event()
    thread = Thread(target=_sample, args=(busy, stop), daemon=True)
    thread.start()
    try:
        yield busy
    finally:
        stop.set()
        thread.join()


def _sample(busy: Busy, stop: Event) -> None:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return
    handle, used = ctypes.c_void_p(), _Utilization()
    if library.nvmlInit_v2() or library.nvmlDeviceGetHandleByIndex_v2(0, ctypes.byref(handle)):
        return
    while not stop.wait(_PERIOD_S):
        if library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(used)) == 0:
            busy.samples.append(used.gpu)
