"""Trainings of the last blocks of the audio encoder: what they need, and the encoder that they leave behind."""

import json
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from aai.errors import BadConfig
from aai.profiles import ModelName
from tasks.aligner.config import ALIGNER, AUDIO, RESULT
from tasks.aligner.inputs import open_split
from tasks.embed import AUDIO_VECTORS
from tasks.runtime.arrow import to_array
from tasks.runtime.run import Run
from tasks.runtime.source import QuerySource

if TYPE_CHECKING:
    from torch import Tensor

    from aai.align.tower import Tower


@dataclass(frozen=True)
class TowerJob:
    """The last blocks of an audio encoder, and what enters them."""

    model: ModelName
    num_blocks: int
    inputs: Path

    def open(self) -> "Tower":
        """The blocks with their first weights, on the CPU.

        Raises:
            BadConfig: the encoder cannot be loaded, or has fewer blocks.
        """
        from aai.align.tower import Tower
        from aai.models.clap_blocks import SplitEncoder

        split = SplitEncoder(self.model.name, self.model.revision, self.num_blocks)
        return Tower(split.blocks, np.load(self.inputs, mmap_mode="r"))


def publish_encoder(run: Run, folder: Path, weights: "Mapping[str, Tensor]", num_blocks: int) -> None:
    """Write the bank's audio encoder with other weights of its last blocks, as a folder of `transformers`.

    Raises:
        BadConfig: the encoder cannot be loaded.
        OSError: the folder cannot be written.
    """
    split = open_split(run, num_blocks)
    split.set_weights(weights)
    split.encoder.save(folder)


def encoder_of(aligner: Path) -> Path | None:
    """The audio encoder that was trained with an aligner; none if it was frozen."""
    try:
        options = json.loads((aligner.parent / RESULT).read_text())["options"]
    except (OSError, ValueError, KeyError):
        return None
    is_own = aligner.name == ALIGNER and options.get("tower_blocks")
    return aligner.parent / AUDIO if is_own else None


def embed_clips(run: Run, encoder: Path, clip_ids: Sequence[str]) -> Float32[np.ndarray, "clips dim"]:
    """Vectors of some clips of a workspace by another audio encoder, kept there as those of a build.

    Raises:
        BadConfig: the encoder cannot be loaded, or a clip can no longer be read.
        Transient: the store failed.
    """
    models = run.config.models.model_copy(update={"audio": ModelName(name=str(encoder))})
    own = Run(run.config.model_copy(update={"models": models}), run.workspace, run.stages, run.watch)
    with closing(own):
        own.do(AUDIO_VECTORS, QuerySource(own, AUDIO_VECTORS, {"present_audio_ids": pa.table({"id": clip_ids})}))
    wanted = pa.table({"clip_id": clip_ids, "number": range(len(clip_ids))})
    with own.query(extra={"wanted": wanted}) as query:
        rows = query.table(
            "SELECT v.vector FROM audio_vectors v JOIN wanted w ON v.clip_id = w.clip_id ORDER BY w.number"
        )
    if len(rows) < len(clip_ids):
        sentence = f"{len(clip_ids) - len(rows):,} held-out clips can no longer be read: run `aai align train` again"
        raise BadConfig(sentence, key="pairs")
    return to_array(rows["vector"])
