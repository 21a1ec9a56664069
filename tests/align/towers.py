"""Pairs whose sounds are heard well only by a trained tower: a linear map, of which half is noise at first."""

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from aai.align.pair_vectors import PairVectors
from aai.align.tower import Tower
from tests.align.pairs import AUDIO_DIM, write_pairs

PATCHES = 3


class Blocks(nn.Module):
    """Unit vectors of the mean patch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(AUDIO_DIM, AUDIO_DIM)
        with torch.no_grad():
            self.layer.weight.copy_(torch.diag((torch.arange(AUDIO_DIM) % 2).float() + 0.01))
            self.layer.bias.zero_()

    def forward(self, inputs: Tensor) -> Tensor:
        return F.normalize(self.layer(inputs.mean(dim=1)), dim=-1)


def write_tower_pairs(folder: Path, num: int) -> tuple[PairVectors, Tower]:
    """Pairs with a tower whose inputs have all that is in the sounds; their audio vectors lack half of it."""
    whole = write_pairs(folder, num)
    inputs = np.repeat(whole.audio[:, None], PATCHES, axis=1)
    np.save(folder / "inputs.npy", inputs)
    tower = open_tower(folder)
    with torch.inference_mode():
        vectors = tower.blocks(torch.from_numpy(inputs).float()).numpy()
    np.save(folder / "audio.npy", vectors.astype(np.float16))
    return PairVectors.open(folder), tower


def open_tower(folder: Path) -> Tower:
    return Tower(Blocks(), np.load(folder / "inputs.npy", mmap_mode="r"))
