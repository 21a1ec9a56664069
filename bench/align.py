"""Seconds and memory per epoch of training an aligner on cached pairs, which are read from disk.

    python bench/align.py [--pairs 1000000] [--audio-dim 512] [--image-dim 768] [--batch 4096] [--steps N]

The vectors are random: their content does not change the speed. Without `--steps` a whole epoch is trained.
"""

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from aai.align.pair_vectors import PairVectors, PairWriter, digest_in
from aai.align.train_options import TrainAlignerOptions
from aai.align.training import Plan, Setup, train
from aai.models.device import best_device

_CHUNK = 50_000


def write_pairs(folder: Path, num: int, dims: dict[str, int]) -> PairVectors:
    """Random pairs; those that are there are used again."""
    digest = f"{num} {dims}"
    if digest_in(folder) == digest:
        return PairVectors.open(folder)
    writer, rng = PairWriter(folder, num, dims), np.random.default_rng(0)
    for start in range(0, num, _CHUNK):
        for name, dim in dims.items():
            part = rng.standard_normal((min(_CHUNK, num - start), dim), np.float32)
            writer.arrays[name][start : start + len(part)] = part / np.sqrt(dim)
    numbers = np.arange(num)
    return writer.finish(np.stack([numbers, numbers, np.full(num, -1), np.zeros(num, int)], axis=1), digest)


def main() -> None:
    """Train, and print what it took."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--audio-dim", type=int, default=512)
    parser.add_argument("--image-dim", type=int, default=768)
    parser.add_argument("--batch", type=int, default=4096)
    parser.add_argument("--steps", type=int, help="end after so many steps, and extrapolate")
    parser.add_argument("--folder", type=Path, help="for the vectors; by default a temporary one")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, checkpoint = given.folder or Path(temporary), Path(temporary) / "checkpoint.safetensors"
        pairs = write_pairs(folder, given.pairs, {"audio": given.audio_dim, "image": given.image_dim})
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        options = TrainAlignerOptions(epochs=1, min_steps=0, batch=given.batch, evaluations=1, checkpoint_steps=10**6)
        plan, done = Plan.of(given.pairs, options), [0]

        def is_enough() -> bool:
            done[0] += 1
            return done[0] >= (given.steps or plan.steps)

        start_s, start_cpu_s = time.perf_counter(), time.process_time()
        train(pairs, Setup(options, "bench", checkpoint, best_device(), stop=is_enough), lambda *of_step: None)
        took_s, cpu_s = time.perf_counter() - start_s, time.process_time() - start_cpu_s
    factor = plan.steps / done[0]
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{given.pairs:,} pairs of {given.audio_dim} and {given.image_dim} dimensions, batch {plan.batch:,}")
    print(f"{done[0]} of {plan.steps} steps in {took_s:.0f} s ({cpu_s:.0f} s of processor time)")
    print(f"an epoch: {took_s * factor:.0f} s ({cpu_s * factor:.0f} s of processor time)")
    print(f"memory: {peak_mb:,.0f} MB at most, {before_mb:,.0f} MB before; {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
