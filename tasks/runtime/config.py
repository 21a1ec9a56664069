"""The configuration of a workspace: one YAML file, in which each section is the options of its owner."""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from aai.align.options import AlignOptions
from aai.cues.options import FitOptions, TrainMapperOptions
from aai.errors import BadConfig
from aai.media.audio import AudioOptions
from aai.media.images import ImageOptions
from aai.models.options import RenderOptions
from aai.options import Options
from aai.profiles import PROFILES, Models
from aai.retrieve.options import IndexOptions, RetrieveOptions
from tasks.runtime.driver import StageOptions
from tasks.runtime.work import PoolOptions

_SLICE_SIZES = {"fit": 64, "render": 64, "ingest_audio": 64}
"""Items for a worker at a time, where 256 would be too much to lose or to wait for."""


class EmbedOptions(Options):
    """How the frozen encoders are run."""

    batch_size: int = Field(32, gt=0)
    """Items that go through an encoder together; halved where memory is short. Changes no vector."""


class ScoreOptions(Options):
    """What is measured of renders."""

    batch_size: int = Field(64, gt=0)
    """Pictures that are embedded together. Changes no score."""

    num_others: int = Field(1_000, gt=0)
    """Most clips against which a picture's own clip is ranked (AIS-rank)."""


class IngestOptions(Options):
    """Which files are taken, and how."""

    audio: AudioOptions = AudioOptions()
    """Recordings: limits and windows."""

    images: ImageOptions = ImageOptions()
    """Pictures: limits and conversions."""


class Config(Options):
    """Everything that a run can be told."""

    workspace: str = "bank"
    """Folder or bucket URL of the tables, artifacts and shards."""

    audio: tuple[str, ...] = ()
    """Where recordings are: folders, globs, tars, bucket URLs."""

    images: tuple[str, ...] = ()
    """Where pictures are: folders, globs, webdataset tars, bucket URLs."""

    metadata: tuple[str, ...] = ()
    """CSV or Parquet files with a column `file` and any of `label`, `caption`, `licence` and others."""

    profile: str = "tiny"
    """The named choice of models: tiny (shipped, offline), sd15 or sdxl."""

    models: Models
    """The profile's models, each of which may be replaced."""

    seed: int = Field(0, ge=0, lt=2**63)
    """The seed of the run; every random number has an address below it."""

    ingest: IngestOptions = IngestOptions()
    embed: EmbedOptions = EmbedOptions()
    align: AlignOptions = AlignOptions()
    index: IndexOptions = IndexOptions()
    retrieve: RetrieveOptions = RetrieveOptions()
    learn: TrainMapperOptions = TrainMapperOptions()
    fit: FitOptions = FitOptions()
    render: RenderOptions = RenderOptions()
    score: ScoreOptions = ScoreOptions()
    pool: PoolOptions = PoolOptions()
    pools: dict[str, dict[str, Any]] = {}
    """Per stage, options of `pool` that differ for it."""

    run: StageOptions = StageOptions()

    @field_validator("audio", "images", "metadata", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="before")
    @classmethod
    def _under_the_profile(cls, given: Any) -> Any:
        name = given.get("profile", "tiny")
        if name not in PROFILES:
            raise ValueError(f"profile: there is no {name!r}: choose one of {', '.join(PROFILES)}")
        return merge(PROFILES[name], given)

    @model_validator(mode="after")
    def _pools_are_options(self) -> "Config":
        for stage in self.pools:
            self.pool_of(stage)
        return self

    def pool_of(self, stage: str) -> PoolOptions:
        """Who works on a stage."""
        given = self.pool.model_dump(exclude_unset=True) | self.pools.get(stage, {})
        if stage in _SLICE_SIZES:
            given = {"slice_size": _SLICE_SIZES[stage]} | given
        return PoolOptions.model_validate(given)


def make_config(**keys: Any) -> Config:
    """A configuration from Python: nested mappings as in the YAML file.

    Raises:
        BadConfig: a key is unknown or its value is not allowed; the message names it.
    """
    try:
        return Config.model_validate(keys)
    except ValidationError as error:
        raise BadConfig("; ".join(_sentences(error))) from error


def load_config(path: str | Path, changes: dict[str, Any] | None = None) -> Config:
    """The configuration in a YAML file; relative paths in it are meant from its folder.

    Raises:
        BadConfig: there is no such file, it is no YAML, or a key is wrong; the message names it.
    """
    path = Path(path)
    try:
        given = yaml.safe_load(path.read_text())
    except FileNotFoundError as error:
        raise BadConfig(f"{path}: there is no such file: `aai init` writes one") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadConfig(f"{path}: no YAML file: {error}") from error
    if not isinstance(given, dict | None):
        raise BadConfig(f"{path}: holds no keys: `aai init` writes one that does")
    try:
        return make_config(**_from_folder(merge(_filled(Config, given or {}), changes or {}), path.parent))
    except BadConfig as error:
        raise BadConfig(f"{path}: {error}") from error


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested mappings; where both have a key, the upper one counts."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _filled(kind: type[BaseModel], given: dict[str, Any]) -> dict[str, Any]:
    """Without the sections in which everything is commented out."""
    made = {}
    for key, value in given.items():
        section = kind.model_fields[key].annotation if key in kind.model_fields else None
        if not (isinstance(section, type) and issubclass(section, BaseModel)):
            made[key] = value
        elif value is not None:
            made[key] = _filled(section, value) if isinstance(value, dict) else value
    return made


def _from_folder(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    def placed(text: Any) -> Any:
        if not isinstance(text, str) or "://" in text or Path(text).expanduser().is_absolute():
            return text
        return str(folder / text)

    made = dict(given)
    for key in ("workspace", "audio", "images", "metadata"):
        if key in made:
            value = made[key]
            made[key] = [placed(text) for text in value] if isinstance(value, list | tuple) else placed(value)
    made.setdefault("workspace", str(folder / "bank"))
    return made


def _sentences(error: ValidationError) -> list[str]:
    found = []
    for each in error.errors(include_url=False):
        key = ".".join(map(str, each["loc"]))
        text = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            text = "there is no such key: `aai init` writes all there are"
        found.append(f"{key}: {text}" if key else text)
    return found
