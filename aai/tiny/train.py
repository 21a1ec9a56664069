"""Train the tiny world's models: `python -m aai.tiny.train`, from scratch or from given weights.

Every stage is seeded, shows its progress, resumes after an interruption, and is skipped once it is done. At the end the
models are written to the package, in half precision.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import torch

from aai.tiny.training.adapt import train_aligner, train_mapper
from aai.tiny.training.clap import train_clap
from aai.tiny.training.clip import train_clip
from aai.tiny.training.diffusion import assemble, train_diffusion
from aai.tiny.training.judge import train_judge
from aai.tiny.training.loop import TrainingSetup
from aai.tiny.training.ship import ship
from aai.tiny.training.vae import train_vae
from aai.tiny.world import WEIGHTS

STAGES: dict[str, Callable[[TrainingSetup], None]] = {
    "judge": train_judge,
    "vae": train_vae,
    "clip": train_clip,
    "clap": train_clap,
    "diffusion": train_diffusion,
    "pipeline": assemble,
    "aligner": train_aligner,
    "mapper": train_mapper,
}


def main() -> None:
    """Run all stages that are not done, then write the weights."""
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], epilog="example: python -m aai.tiny.train"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/tiny"), help="working folder (default: build/tiny)")
    parser.add_argument(
        "--weights", type=Path, default=WEIGHTS, help="output folder of the models (default: the package)"
    )
    parser.add_argument(
        "--stages", nargs="+", choices=STAGES, help="run only these stages, in this order, and write no weights"
    )
    parser.add_argument(
        "--start-from",
        type=Path,
        help="folder of weights to start with, such as aai/tiny/weights: with fewer steps and a lower learning rate"
        " (default: from scratch)",
    )
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the number of steps (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: 0)")
    parser.add_argument("--threads", type=int, help="CPU threads (default: all)")
    options = parser.parse_args()
    if options.start_from and not options.start_from.is_dir():
        parser.error(f"--start-from {options.start_from}: no such folder")
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    setup = TrainingSetup(options.folder, device, options.seed, options.scale, start_from=options.start_from)
    for stage in options.stages or STAGES:
        run_stage(stage, setup)
    if not options.stages:
        size = ship(setup.folder, options.weights)
        print(f"wrote {size / 1e6:.1f} MB of models to {options.weights}")


def run_stage(stage: str, setup: TrainingSetup) -> None:
    """Run a stage unless its marker file exists, then write the marker."""
    marker = setup.folder / f"{stage}.done"
    if marker.exists():
        print(f"{stage}: already done")
        return
    start = time.monotonic()
    STAGES[stage](setup)
    marker.write_text(f"{time.monotonic() - start:.0f} s\n")
    (setup.folder / f"{stage}.checkpoint.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
