"""Workers that tell where they are, and stand-ins for models."""

import os
import time
from pathlib import Path

import pyarrow as pa

from tasks.runtime.loaded import loaded_once
from tasks.runtime.work import Outcome

_WAIT_S = 300  # for workers on a busy machine


class WhereAmI:
    """Returns its process, its node, and the GPUs and threads that it was given."""

    def __call__(self, rows: pa.Table) -> Outcome:
        import ray

        context = ray.get_runtime_context()
        found = {
            "pid": os.getpid(),
            "node": context.get_node_id(),
            "given": context.get_accelerator_ids()["GPU"],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "threads": os.environ["OMP_NUM_THREADS"],
        }
        return Outcome(pa.Table.from_pylist([{"id": id} | found for id in rows["id"].to_pylist()]))


class Together(WhereAmI):
    """Waits until a number of workers have a slice each."""

    def __init__(self, folder: Path, num: int) -> None:
        self.folder, self.num = folder, num

    def __call__(self, rows: pa.Table) -> Outcome:
        (self.folder / str(os.getpid())).touch()
        end_s = time.monotonic() + _WAIT_S
        while len(list(self.folder.iterdir())) < self.num and time.monotonic() < end_s:
            time.sleep(0.05)
        return super().__call__(rows)


class Model:
    """A stand-in that takes a while to load, and logs that it is loaded."""

    def __init__(self, log: Path, name: str, load_s: float) -> None:
        time.sleep(load_s)
        with log.open("a") as file:
            file.write(f"{name}\n")


class WithModel(WhereAmI):
    """A worker with such a model."""

    def __init__(self, log: Path, name: str, load_s: float = 0) -> None:
        self.model = loaded_once(name, lambda: Model(log, name, load_s))
