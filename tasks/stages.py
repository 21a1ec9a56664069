"""All stages in their order, and the configurations and runs that have them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aai.errors import BadConfig
from aai.workspace import Workspace
from tasks.align import ALIGNED_VECTORS
from tasks.confidence import confidence_stage
from tasks.describe_members import AUDIO_MEMBER_METADATA, IMAGE_MEMBER_METADATA
from tasks.embed import AUDIO_VECTORS, IMAGE_VECTORS
from tasks.fit import CUES
from tasks.index import INDEX
from tasks.ingest import CLIPS, IMAGES
from tasks.list_files import LIST_AUDIO, LIST_IMAGES
from tasks.measure import MEASURES
from tasks.read_tars import AUDIO_TARS, IMAGE_TARS
from tasks.render import RENDERS
from tasks.retrieve import NEIGHBOURS
from tasks.runtime import config
from tasks.runtime.config import Config
from tasks.runtime.run import Run, Watch
from tasks.runtime.stage import Stage, sections_of
from tasks.score import SCORES
from tasks.train_mapper import MAPPER

assert ALIGNED_VECTORS.worker, "align has a worker"
CONFIDENCES = confidence_stage(ALIGNED_VECTORS.worker)

STAGES: tuple[Stage, ...] = (
    LIST_IMAGES,
    LIST_AUDIO,
    IMAGE_TARS,
    AUDIO_TARS,
    IMAGE_MEMBER_METADATA,
    AUDIO_MEMBER_METADATA,
    IMAGES,
    CLIPS,
    IMAGE_VECTORS,
    AUDIO_VECTORS,
    ALIGNED_VECTORS,
    INDEX,
    NEIGHBOURS,
    MAPPER,
    CUES,
    CONFIDENCES,
    RENDERS,
    SCORES,
    MEASURES,
)
"""Each reads the tables of stages before it."""


def make_config(stages: Sequence[Stage] = STAGES, /, **keys: Any) -> Config:
    """A configuration from Python: nested mappings as in the YAML file.

    Raises:
        BadConfig: a key is unknown or its value is not allowed; `key` names it.
    """
    return config.make_config(sections_of(stages), tuple(stage.name for stage in stages), keys)


def load_config(path: str | Path, changes: Mapping[str, Any] | None = None, stages: Sequence[Stage] = STAGES) -> Config:
    """The configuration in a YAML file, with some keys changed; relative paths are resolved against its folder.

    Raises:
        BadConfig: there is no such file, it is not YAML, or a key is wrong; `key` names it.
    """
    keys = config.load_keys(path, sections_of(stages), changes)
    try:
        return make_config(stages, **keys)
    except BadConfig as error:
        raise BadConfig(error.sentence, key=error.key, uri=str(path)) from error


def open_file(path: str | Path, changes: Mapping[str, Any] | None = None) -> Run:
    """A run of a configuration file, with some keys changed.

    Raises:
        BadConfig: the file, a key or the workspace is wrong.
    """
    run = open_run(load_config(path, changes))
    run.file = str(Path(path).absolute())
    return run


def open_run(settings: Config, watch: Watch | None = None, stages: Sequence[Stage] = STAGES) -> Run:
    """A run on the workspace that a configuration names.

    Raises:
        BadConfig: no workspace can be there.
    """
    return Run(settings, Workspace(settings.workspace), tuple(stages), watch)
