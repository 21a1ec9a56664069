"""Make the tiny world's models from nothing: `python -m aai.tiny.train`.

Every stage is seeded, shows its progress, goes on where it was stopped, and is skipped when it is done. The last one
writes what the package ships, in half precision.
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
from aai.tiny.training.loop import Place
from aai.tiny.training.ship import ship
from aai.tiny.training.vae import train_vae
from aai.tiny.world import WEIGHTS

STAGES: dict[str, Callable[[Place], None]] = {
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
    """Run the stages that are not done yet, then write the weights."""
    parser = argparse.ArgumentParser(
        description=str(__doc__).splitlines()[0], epilog="example: python -m aai.tiny.train"
    )
    parser.add_argument("--folder", type=Path, default=Path("build/tiny"), help="working folder (default: build/tiny)")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="where the models go (default: the package's)")
    parser.add_argument("--stages", nargs="+", choices=STAGES, help="only these, in this order, and write no weights")
    parser.add_argument("--scale", type=float, default=1.0, help="factor on the steps of every stage (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="seed of every random number (default: 0)")
    parser.add_argument("--threads", type=int, help="processor threads (default: all)")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    place = Place(options.folder, device, options.seed, options.scale)
    for stage in options.stages or STAGES:
        run_stage(stage, place)
    if not options.stages:
        size = ship(place.folder, options.weights)
        print(f"wrote {size / 1e6:.1f} MB of models to {options.weights}")


def run_stage(stage: str, place: Place) -> None:
    """Run one stage unless its mark says that it is done, then mark it."""
    mark = place.folder / f"{stage}.done"
    if mark.exists():
        print(f"{stage}: done before")
        return
    start = time.monotonic()
    STAGES[stage](place)
    mark.write_text(f"{time.monotonic() - start:.0f} s\n")
    (place.folder / f"{stage}.checkpoint.pt").unlink(missing_ok=True)


if __name__ == "__main__":
    main()
