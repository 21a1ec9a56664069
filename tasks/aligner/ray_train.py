"""Training by several processes with Ray Train: they share each batch, and see the negatives of all.

Each process runs the same steps as a training in one. The first one writes checkpoints and, in a file beside them, how
far it is, because a training has no other way to tell its driver during a step.
"""

import json
import tempfile
import time
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from aai.align.pair_vectors import PairVectors
from aai.errors import AaiError, BadConfig, Transient
from aai.workspace.store import write_whole
from tasks.aligner.train import Job, setup_of
from tasks.runtime.ray_cluster import cluster_nodes, connect

if TYPE_CHECKING:
    from aai.align.training import Trained, Watch

_POLL_S = 0.5
_TOWER = "tower.safetensors"


def train_on_ray(job: Job, watch: "Watch", stop: Event) -> "Trained":
    """Train by several processes.

    Raises:
        BadConfig: the cluster has no room for them, or the training refuses its pairs or options.
        Transient: a process failed; the next run goes on from the last checkpoint.
    """
    connect(job.address)
    use_gpu = _check_room(job.num_workers)
    with tempfile.TemporaryDirectory(prefix="aai-align-", dir=job.checkpoint.parent) as folder:
        results: list[Any] = []
        thread = Thread(target=lambda: results.append(_fitted(job, use_gpu, Path(folder))), daemon=True)
        thread.start()
        while thread.is_alive():
            thread.join(_POLL_S)
            _tell(Path(folder), watch)
            if stop.is_set():
                (Path(folder) / "stop").touch()
        return _result(job, Path(folder), results)


def _check_room(num_workers: int) -> bool:
    """Whether each process takes a GPU; each has a CPU."""
    nodes = cluster_nodes()
    cpus, gpus = sum(int(node.cpus) for node in nodes), sum(int(node.gpus) for node in nodes)
    if cpus < num_workers:
        raise BadConfig(f"the cluster has {cpus} CPUs for {num_workers} workers: set at most {cpus}", key="num_workers")
    return gpus >= num_workers


def _fitted(job: Job, use_gpu: bool, folder: Path) -> Exception | None:
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    resources = {"CPU": 1.0} | ({"GPU": 1.0} if use_gpu else {})
    scaling = ScalingConfig(num_workers=job.num_workers, use_gpu=use_gpu, resources_per_worker=resources)
    run = RunConfig(name="train", storage_path=str(folder / "ray"))
    config = {"job": job, "folder": str(folder)}
    try:
        TorchTrainer(_loop, train_loop_config=config, scaling_config=scaling, run_config=run).fit()
    except Exception as error:  # noqa: BLE001 - Ray raises errors of all kinds
        return error
    return None


def _loop(config: dict[str, Any]) -> None:
    """What each process does."""
    import torch
    import torch.distributed as distributed
    from safetensors.torch import save_file

    from aai.align.training import train

    job, folder = config["job"], Path(config["folder"])
    torch.set_num_threads(1)
    rank = distributed.get_rank()
    last_s = 0.0

    def watch(step: int, steps: int, values: dict[str, float]) -> None:
        nonlocal last_s
        if time.monotonic() - last_s > _POLL_S:
            last_s = time.monotonic()
            _write(folder / "state.json", [step, steps, values])

    try:
        setup = setup_of(job, (folder / "stop").exists, rank=rank, size=distributed.get_world_size())
        trained = train(PairVectors.open(job.pairs), setup, watch)
    except AaiError as error:
        if rank == 0:
            _write(folder / "error.json", {"sentence": error.sentence, "key": error.key})
        raise
    if rank == 0:
        trained.projector.save(folder / "aligner")
        save_file({name: value.cpu().contiguous() for name, value in trained.tower.items()}, folder / _TOWER)
        _write(folder / "done.json", {"progress": vars(trained.progress), "rest": [trained.steps, trained.is_finished]})


def _result(job: Job, folder: Path, results: list[Any]) -> "Trained":
    from safetensors.torch import load_file

    from aai.align.checkpoints import Progress
    from aai.align.projector import Projector
    from aai.align.training import Trained

    if refused := _read(folder / "error.json"):
        raise BadConfig(refused["sentence"], key=refused["key"])
    done = _read(folder / "done.json")
    if not done:
        reason = str(results[0] if results else "it ended").strip().split("\n")[-1]
        raise Transient(f"Ray Train failed ({reason}): the same command goes on from the last checkpoint")
    steps, is_finished = done["rest"]
    tower = load_file(folder / _TOWER)
    return Trained(Projector.load(folder / "aligner"), Progress(**done["progress"]), steps, is_finished, tower)


def _tell(folder: Path, watch: "Watch") -> None:
    if state := _read(folder / "state.json"):
        watch(*state)


def _read(path: Path) -> Any:
    return json.loads(path.read_text()) if path.exists() else None


def _write(path: Path, value: Any) -> None:
    write_whole(path, json.dumps(value).encode())
