"""Workers that tell where they are, and stand-ins for models."""

import os
import time
from pathlib import Path

import pyarrow as pa

from tasks.runtime.loaded import loaded_once
from tasks.runtime.work import Outcome

_PAUSE_S = 0.2  # so that a worker that has loaded does not take the slices of those that load


class WhereAmI:
    """Returns its process, its node, and the GPUs and threads that it was given."""

    def __call__(self, rows: pa.Table) -> Outcome:
        import ray

        time.sleep(_PAUSE_S)
        context = ray.get_runtime_context()
        found = {
            "pid": os.getpid(),
            "node": context.get_node_id(),
            "given": context.get_accelerator_ids()["GPU"],
            "visible": os.environ.get("CUDA_VISIBLE_DEVICES"),
            "threads": os.environ["OMP_NUM_THREADS"],
        }
        return Outcome(pa.Table.from_pylist([{"id": id} | found for id in rows["id"].to_pylist()]))


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
