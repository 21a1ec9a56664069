"""One of two ranks of a training: `python -m tests.align.ranks FOLDER OPTIONS PORT RANK`."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as distributed

from aai.align.pair_vectors import PairVectors
from aai.align.ranks import Ranks
from aai.align.train_options import TrainAlignerOptions
from aai.align.training import Setup, train
from tests.align.towers import open_tower


def main() -> None:
    folder, options, port, rank = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=rank, world_size=2)
    given = TrainAlignerOptions.model_validate_json(options)
    setup = Setup(
        given,
        "ranks",
        folder / "ranks.safetensors",
        torch.device("cpu"),
        ranks=Ranks(rank, 2),
        tower=open_tower(folder / "pairs") if given.tower_blocks else None,
    )
    losses: list[float] = []
    pairs = PairVectors.open(folder / "pairs")
    trained = train(pairs, setup, lambda step, steps, values: losses.append(values["loss"]))
    if rank == 0:
        weight = trained.projector.first.weight.tolist()
        tower = {name: value.tolist() for name, value in trained.tower.items()}
        (folder / "losses.json").write_text(json.dumps({"losses": losses, "weight": weight, "tower": tower}))
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
