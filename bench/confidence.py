"""Confidence of real recordings: of classes that the tiny world knows against classes that it does not.

    python bench/confidence.py ESC-10 [--images demo/images]

Builds a bank of ESC-10 with the demo's images, which `aai demo` leaves. AUROC is the probability that a recording of
fire, rain, waves, helicopter or clock has a higher confidence than one of another class, with a 95 % interval
bootstrapped by recording. The calibration was fitted on folds 1 and 2 (docs/decisions/0012).
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import mannwhitneyu

from aai.tiny.score import RECORDINGS
from flows.steps import build
from tasks.stages import make_config, open_run

SEED, NUM_DRAWS, LOW = 71_000, 1_000, 0.5
_ROWS = "SELECT p.uri, f.confidence FROM present_clips p JOIN confidences f ON p.clip_id = f.clip_id"


def read(recordings: Path, images: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Class, fold and confidence of every recording."""
    with tempfile.TemporaryDirectory() as folder:
        places = {"audio": str(recordings.resolve()), "images": str(images.resolve())}
        run = open_run(make_config(profile="tiny", workspace=folder, pool={"num_workers": 0}, **places))
        build(run)
        with run.query() as query:
            rows = query.table(_ROWS).to_pylist()
    paths = [Path(row["uri"]) for row in rows]
    folds = np.array([int(path.name[0]) for path in paths])
    return np.array([path.parent.name for path in paths]), folds, np.array([row["confidence"] for row in rows])


def auroc(is_known: np.ndarray, confidence: np.ndarray) -> float:
    """Probability that a known sound has the higher confidence; a tie counts half."""
    known, unknown = confidence[is_known], confidence[~is_known]
    return float(mannwhitneyu(known, unknown).statistic / (len(known) * len(unknown)))


def with_interval(is_known: np.ndarray, confidence: np.ndarray) -> str:
    """AUROC and its interval."""
    draws = np.random.default_rng(SEED).integers(len(is_known), size=(NUM_DRAWS, len(is_known)))
    low, high = np.percentile([auroc(is_known[own], confidence[own]) for own in draws], [2.5, 97.5])
    return f"{auroc(is_known, confidence):.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Print AUROC, and the share of each class below the threshold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path, help="folder of ESC-10, with one folder per class")
    parser.add_argument("--images", type=Path, default=Path("demo/images"), help="images of the bank")
    chosen = parser.parse_args()
    names, folds, confidence = read(chosen.recordings, chosen.images)
    is_known = np.isin(names, list(RECORDINGS))
    table = Table("recordings", "items", "AUROC", f"known below {LOW}", f"unknown below {LOW}")
    for title, own in (("all folds", folds > 0), ("folds 1 and 2", folds < 3), ("folds 3 and 4", folds > 2)):
        low = [f"{(confidence[own & which] < LOW).mean():.3f}" for which in (is_known, ~is_known)]
        table.add_row(title, str(own.sum()), with_interval(is_known[own], confidence[own]), *low)
    Console(width=110).print(table)
    for name in sorted(set(names)):
        print(f"{name}: {(confidence[names == name] < LOW).mean():.2f} of {(names == name).sum()} below {LOW}")


if __name__ == "__main__":
    main()
