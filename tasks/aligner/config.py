"""The configuration of a training: one YAML file."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from aai.align.train_options import PairOptions, TextOnlyOptions, TrainAlignerOptions
from aai.errors import BadConfig
from aai.options import SPEED_ONLY, Options
from aai.yaml_reader import read_yaml
from tasks.runtime import config as files
from tasks.runtime.config import Config, merge, read_options
from tasks.runtime.options import PoolOptions
from tasks.runtime.stage import sections_of
from tasks.stages import STAGES, make_config

_REMEDY = "write one as in README.md, section `Train your own aligner`"
_KEYS = "docs/ALIGN.md lists all there are"

BANK, VECTORS, ALIGNER, AUDIO = "bank", "vectors", "aligner", "audio"
EXTRACTED, CHECKPOINT, RESULT = "extracted", "checkpoint.safetensors", "training.json"
"""What is in the folder of a training: its own workspace, the vectors of the pairs, the weights of the aligner and, if
it was trained, too, of the audio encoder; what videos held; and how the training went."""


ALIGNED: dict[str, Any] = {"align": {"method": "labels"}}
"""Keys with which sounds and images have vectors of the two encoders that an aligner is for, and not of a joint one."""


class TrainingConfig(Options):
    """Everything that can be configured about a training."""

    output: str = "trained"
    """Folder to write to: the weights are in its folder `aligner`, with a model card."""

    config: str | None = None
    """Configuration of a bank, whose encoders and options embed the pairs; without one those of `profile`. Vectors that
    the bank has already are taken from it."""

    profile: str = "tiny"
    """Named set of models, without `config`: tiny, sd15 or sdxl."""

    metadata: tuple[str, ...] = ()
    """Tables with labels and captions of the files, as `metadata` of a bank's configuration."""

    pairs: PairOptions
    """Where the pairs come from."""

    train: TrainAlignerOptions = TrainAlignerOptions()
    """Loss, network and optimiser."""

    pool: PoolOptions = PoolOptions()
    """Workers that embed the files: on Ray, or in this process."""

    num_workers: int = Field(1, ge=1, json_schema_extra=SPEED_ONLY)
    """Processes that train together, by Ray Train; each takes a GPU if the cluster has as many."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of split, order, weights and noise."""


class TextTrainingConfig(Options):
    """Everything that can be configured about a training from captions alone."""

    text_only: TextOnlyOptions = TextOnlyOptions()
    """Noise and ridge regression."""

    train: TrainAlignerOptions = TrainAlignerOptions(min_steps=1500)
    """Loss, network and optimiser."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of split, order, weights and noise."""


def load_training(path: Path, changes: Mapping[str, Any]) -> TrainingConfig:
    """The training that a YAML file describes; relative paths are resolved against its folder.

    Raises:
        BadConfig: there is no such file, it is not YAML, or a key is wrong; `key` names it.
    """
    given = read_yaml(path, _REMEDY)
    if not isinstance(given, dict | None):
        raise BadConfig(f"it holds no keys: {_REMEDY}", uri=str(path))
    keys = merge(given or {}, changes)
    if keys.get("pairs") is None:
        raise BadConfig("it is missing: set folder, table or videos below it", key="pairs", uri=str(path))
    keys.setdefault("output", "trained")
    check_output(keys["output"])
    folder = path.parent
    keys = _resolved(keys, folder, ("output", "config", "metadata"))
    if isinstance(keys["pairs"], dict):
        keys["pairs"] = _resolved(keys["pairs"], folder, ("folder", "table", "videos"))
    if isinstance(keys.get("metadata"), str):
        keys["metadata"] = [keys["metadata"]]
    training = read_options(TrainingConfig, keys, _KEYS, str(path))
    if (batch := training.train.batch) < (num := training.num_workers):
        raise BadConfig(f"a batch of {batch} cannot be shared by {num}: raise it", key="train.batch", uri=str(path))
    return training


def check_output(output: object) -> None:
    """Check that a training can be written there.

    Raises:
        BadConfig: it is a URL.
    """
    if re.match("[a-z][a-z0-9+.-]+:/", str(output)):  # a Path has one slash only
        raise BadConfig("a training is written to a folder on disk: name one", key="output", uri=str(output))


def read_text_training(changes: Mapping[str, Any], seed: int) -> TextTrainingConfig:
    """The options of a training from captions, from `--set`.

    Raises:
        BadConfig: a key is wrong.
    """
    return read_options(TextTrainingConfig, {**changes, "seed": seed}, _KEYS)


def bank_of(training: TrainingConfig) -> Config:
    """The configuration of the workspace in which the pairs are embedded: its own, with the bank's encoders.

    Raises:
        BadConfig: the bank's configuration is wrong, or its encoder is a joint one and is to be trained.
    """
    keys: dict[str, Any] = {"profile": training.profile}
    if training.config:
        keys = files.load_keys(training.config, sections_of(STAGES))
    audio, images = sources_of(training)
    own: dict[str, Any] = {"audio": audio, "images": images, "workspace": str(Path(training.output) / BANK)}

    if training.pool != PoolOptions():
        own["pool"] = training.pool.model_dump(exclude_unset=True)
    return make_config(**merge(keys, ALIGNED) | own | {"metadata": list(training.metadata)})


def sources_of(training: TrainingConfig) -> tuple[list[str], list[str]]:
    """The locations of the sounds and of the images."""
    pairs = training.pairs
    if pairs.table:
        from tasks.aligner.tables import folders_of

        return folders_of(pairs.table)
    folder = pairs.folder or str(Path(training.output) / EXTRACTED)
    return [folder], [folder]


def _resolved(keys: Mapping[str, Any], folder: Path, names: tuple[str, ...]) -> dict[str, Any]:
    def whole(value: Any) -> Any:
        if isinstance(value, list):
            return [whole(each) for each in value]
        if not isinstance(value, str) or not value.strip() or "://" in value:
            return value
        return str(folder / os.path.expanduser(value))

    return {name: whole(value) if name in names else value for name, value in keys.items()}
