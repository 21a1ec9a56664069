"""Training data: scenes and clips, computed once and cached in memory-mapped files."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aai.tiny.canvas import SIZE_PX
from aai.tiny.clips import NUM_BINS, NUM_FRAMES, Clip, log_mel_features, sample_clips
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.vocabulary import PHENOMENA

_CHUNK = 250

TRAINING_SEED, JUDGE_SEED, HELD_OUT_SEED = 1, 2, 3
"""Seeds of the training set, the judge's training set, and the evaluation set."""


class SceneSet:
    """Scenes and their images: `pixels` is uint8, scenes x height x width x 3."""

    def __init__(self, scenes: list[Scene], pixels: np.ndarray) -> None:
        self.scenes, self.pixels = scenes, pixels

    def __len__(self) -> int:
        return len(self.scenes)

    def tensor(self, chosen: np.ndarray | Tensor) -> Float[Tensor, "scenes 3 height width"]:
        """Images in [-1, 1]."""
        return to_tensor(self.pixels[np.asarray(chosen)])


def to_tensor(pixels: np.ndarray) -> Float[Tensor, "scenes 3 height width"]:
    """Convert uint8, channels last, to float in [-1, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def scene_set(num: int, seed: int, folder: Path) -> SceneSet:
    """The first `num` scenes of a seed, from the cache in the folder if there is one."""
    scenes = sample_scenes(num, seed)
    pixels = _cached(folder / f"scenes-{seed}-{num}.npy", scenes, _pixels, (SIZE_PX, SIZE_PX, 3), np.dtype(np.uint8))
    return SceneSet(scenes, pixels)


def _pixels(scenes: list[Scene]) -> np.ndarray:
    return render(scenes).pixels


class ClipSet:
    """Clips and their log-mel spectrograms: `features` is clips x frames x bins, in dB."""

    def __init__(self, clips: list[Clip], features: np.ndarray) -> None:
        self.clips, self.features = clips, features
        self.phenomena = torch.tensor([PHENOMENA.index(clip.phenomenon) for clip in clips])
        self.intensities = torch.tensor([clip.intensity for clip in clips])
        self.tones = torch.tensor([clip.tone for clip in clips])

    def __len__(self) -> int:
        return len(self.clips)

    def tensor(self, chosen: np.ndarray | Tensor) -> Float[Tensor, "clips 1 frames bins"]:
        """Log-mel spectrograms in dB."""
        return torch.from_numpy(self.features[np.asarray(chosen)]).float()[:, None]


def clip_set(num: int, seed: int, folder: Path) -> ClipSet:
    """The first `num` clips of a seed, from the cache in the folder if there is one."""
    clips, shape = sample_clips(num, seed), (NUM_FRAMES, NUM_BINS)
    features = _cached(folder / f"clips-{seed}-{num}.npy", clips, _features, shape, np.dtype(np.float16))
    return ClipSet(clips, features)


def _features(clips: list[Clip]) -> np.ndarray:
    return log_mel_features([clip.wave() for clip in clips])


def _cached(
    path: Path, items: Sequence, make: Callable[[list], np.ndarray], shape: tuple[int, ...], kind: np.dtype
) -> np.ndarray:
    """`make` of the items, computed in chunks on all processors, or loaded from the cache file."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        chunks = [list(items[i : i + _CHUNK]) for i in range(0, len(items), _CHUNK)]
        result = np.empty((len(items), *shape), kind)
        with _workers(len(chunks)) as run:
            for i, part in enumerate(run(make, chunks)):
                result[i * _CHUNK : i * _CHUNK + len(part)] = part
        np.save(path.with_suffix(".part.npy"), result)
        path.with_suffix(".part.npy").rename(path)
    return np.load(path, mmap_mode="r")


@contextmanager
def _workers(num_chunks: int) -> Iterator[Callable]:
    """`map` in a process pool, or the built-in one for a single chunk."""
    if num_chunks == 1:
        yield map
        return
    with get_context("spawn").Pool() as pool:
        yield pool.imap
