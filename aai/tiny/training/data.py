"""What the models learn from: scenes and clips, made once and kept in files that every stage maps into memory."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aai.tiny.canvas import SIZE_PX
from aai.tiny.clips import NUM_BINS, NUM_FRAMES, Clip, listen, sample_clips
from aai.tiny.scenes import Scene, render, sample_scenes
from aai.tiny.vocabulary import PHENOMENA

_PART = 250

TRAINING_SEED, JUDGE_SEED, HELD_OUT_SEED = 1, 2, 3
"""Seeds of three collections: what models learn from, what the judge learns from, what is only measured on."""


class SceneSet:
    """A collection of scenes and their pictures, `pixels` of shape scenes x height x width x 3 in bytes."""

    def __init__(self, scenes: list[Scene], pixels: np.ndarray) -> None:
        self.scenes, self.pixels = scenes, pixels

    def __len__(self) -> int:
        return len(self.scenes)

    def tensor(self, chosen: np.ndarray | Tensor) -> Float[Tensor, "scenes 3 height width"]:
        """Pictures in [-1, 1]."""
        return to_tensor(self.pixels[np.asarray(chosen)])


def to_tensor(pixels: np.ndarray) -> Float[Tensor, "scenes 3 height width"]:
    """Bytes, channels last, to floats in [-1, 1], channels first."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def scene_set(num: int, seed: int, folder: Path) -> SceneSet:
    """The first `num` scenes of a seed, rendered, or read from the folder where an earlier call kept them."""
    scenes = sample_scenes(num, seed)
    pixels = _kept(folder / f"scenes-{seed}-{num}.npy", scenes, _pixels, (SIZE_PX, SIZE_PX, 3), np.dtype(np.uint8))
    return SceneSet(scenes, pixels)


def _pixels(scenes: list[Scene]) -> np.ndarray:
    return render(scenes).pixels


class ClipSet:
    """A collection of clips and what the audio encoder takes of them: `features`, clips x frames x bins, in dB."""

    def __init__(self, clips: list[Clip], features: np.ndarray) -> None:
        self.clips, self.features = clips, features
        self.phenomena = torch.tensor([PHENOMENA.index(clip.phenomenon) for clip in clips])
        self.intensities = torch.tensor([clip.intensity for clip in clips])

    def __len__(self) -> int:
        return len(self.clips)

    def tensor(self, chosen: np.ndarray | Tensor) -> Float[Tensor, "clips 1 frames bins"]:
        """Log-mel spectrograms in dB."""
        return torch.from_numpy(self.features[np.asarray(chosen)]).float()[:, None]


def clip_set(num: int, seed: int, folder: Path) -> ClipSet:
    """The first `num` clips of a seed, synthesised and analysed, or read from the folder where they were kept."""
    clips, shape = sample_clips(num, seed), (NUM_FRAMES, NUM_BINS)
    features = _kept(folder / f"clips-{seed}-{num}.npy", clips, _features, shape, np.dtype(np.float16))
    return ClipSet(clips, features)


def _features(clips: list[Clip]) -> np.ndarray:
    return listen([clip.wave() for clip in clips])


def _kept(
    path: Path, items: Sequence, make: Callable[[list], np.ndarray], shape: tuple[int, ...], kind: np.dtype
) -> np.ndarray:
    """What `make` gives for the items, in parts on all processors, or the file in which it was kept before."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        parts = [list(items[i : i + _PART]) for i in range(0, len(items), _PART)]
        made = np.empty((len(items), *shape), kind)
        with _workers(len(parts)) as run:
            for i, part in enumerate(run(make, parts)):
                made[i * _PART : i * _PART + len(part)] = part
        np.save(path.with_suffix(".part.npy"), made)
        path.with_suffix(".part.npy").rename(path)
    return np.load(path, mmap_mode="r")


@contextmanager
def _workers(num_parts: int) -> Iterator[Callable]:
    """A `map` on all processors, or the ordinary one when there is but one part."""
    if num_parts == 1:
        yield map
        return
    with get_context("spawn").Pool() as pool:
        yield pool.imap
