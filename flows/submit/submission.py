"""What is submitted: a command of `aai` with its configuration, and its job file or description of a training."""

import os
import secrets
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import aai
from aai.errors import BadConfig
from aai.format import without_secrets
from aai.jobs.jobfile import load_jobs
from aai.yaml_reader import read_yaml
from tasks.aligner.config import TrainingConfig, bank_of, load_training
from tasks.render import RenderSectionOptions
from tasks.runtime.config import Config, load_keys, merge
from tasks.runtime.options import SubmitOptions
from tasks.runtime.stage import sections_of
from tasks.stages import STAGES, load_config

FOLDER = "submissions"
"""Where the files of submissions and Slurm's logs are, below the current folder."""

TRAINING = "align train"
"""The command that has a description of a training in place of a configuration."""

OUTPUT = "output"
"""The key of the folder that a training writes to; it cannot be a bucket."""

_LOCATIONS = ("workspace", "audio", "images", "metadata")
_CONFIG, _JOBS, _TRAINING = "aai.yaml", "jobs.yaml", "pairs.yaml"
_PACKAGE = Path(aai.__file__).parent
_JOB_PATHS = ("source_images", "source_masks")


class Place(NamedTuple):
    """A file or folder that a command reads or writes."""

    key: str
    location: str
    file: str
    """The file that has the key."""


@dataclass(frozen=True)
class Submission:
    """A command, and all that it reads besides the source folders."""

    name: str
    """Unique name of the job: letters, digits and hyphens."""
    command: str
    """The command of `aai`, such as `build`."""
    words: tuple[str, ...]
    """The command with its arguments, for nodes that see the current folder."""
    config: Config
    contents: Mapping[str, str]
    """The configuration, and the job file or the description of a training, by file name, with absolute paths: for
    nodes that do not see the folder."""
    places: tuple[Place, ...] = ()
    """All that it reads and writes besides them."""
    others: tuple[str, ...] = ()
    """Further options of the command."""

    @property
    def options(self) -> SubmitOptions:
        """The section `submit` of the configuration."""
        return self.config.submit

    @property
    def is_training(self) -> bool:
        """Whether it has a description of a training in place of a configuration."""
        return self.command == TRAINING

    @property
    def title(self) -> str:
        """The command as the first line of the file shows it."""
        shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in self.here)
        return f"Written by `aai submit` for `{shown}`"

    @property
    def here(self) -> str:
        """The command for a shell, on nodes that see the current folder."""
        return shlex.join(["aai", *self.words])

    def there(self, folder: str) -> str:
        """The command for a shell, on nodes that have the contents in a folder."""
        if self.is_training:
            return shlex.join(["aai", *TRAINING.split(), f"{folder}/{_TRAINING}"])
        jobs = [f"{folder}/{_JOBS}"] if _JOBS in self.contents else []
        return shlex.join(["aai", self.command, *jobs, "-c", f"{folder}/{_CONFIG}", *self.others])

    def write(self, text: str, suffix: str) -> Path:
        """Write the rendered file, readable to its owner alone.

        Raises:
            BadConfig: it cannot be written.
        """
        path = Path(FOLDER, f"{self.name}{suffix}").absolute()
        try:
            path.parent.mkdir(exist_ok=True)
            path.touch(mode=0o600, exist_ok=False)
            path.write_text(text)
        except OSError as error:
            raise BadConfig(
                f"it cannot be written ({error.strerror}): change to another folder", uri=str(path)
            ) from error
        return path

    def remove(self, path: Path) -> None:
        """Remove what was written for a submission that was not taken."""
        path.unlink(missing_ok=True)
        shutil.rmtree(path.with_suffix(""), ignore_errors=True)
        with suppress(OSError):  # it has others
            path.parent.rmdir()

    def write_contents(self, folder: Path) -> None:
        """Write the configuration and the job file into a new folder.

        Raises:
            BadConfig: they cannot be written.
        """
        try:
            folder.mkdir(mode=0o700, parents=True)
            for name, text in self.contents.items():
                (folder / name).write_text(text)
        except OSError as error:
            raise BadConfig(f"it cannot be written ({error.strerror})", uri=str(folder)) from error


def make_submission(
    words: tuple[str, ...],
    config: Path,
    changes: Mapping[str, Any],
    jobs: Path | None = None,
    others: tuple[str, ...] = (),
) -> Submission:
    """A command of `aai` as a submission.

    Args:
        words: the command with its arguments.
        config: its configuration file.
        changes: the keys that its `--set` changes.
        jobs: its job file.
        others: its further options.

    Raises:
        BadConfig: the configuration or the job file is wrong.
    """
    loaded = load_config(config, changes)
    contents = {_CONFIG: _config_text(loaded, config, changes)}
    places = [*_places(loaded, str(config)), *_models(loaded, str(config))]
    if jobs is not None:
        for job in load_jobs(jobs, loaded.options(RenderSectionOptions).of_jobs):
            places += [Place(key, each, str(jobs)) for key in _JOB_PATHS for each in getattr(job, key)]
        content = _with_absolute_paths(read_yaml(jobs, "name a job file"), jobs.absolute().parent)
        contents[_JOBS] = yaml.safe_dump(content, sort_keys=False)
    _check_readable(places, loaded.submit.env, str(config))
    return Submission(_name(words), words[0], words, loaded, contents, tuple(places), others)


def _check_readable(places: Sequence[Place], env: Mapping[str, str], config: str) -> None:
    """Check that nothing secret is in what targets store: addresses with a password in them."""
    values = [*places, *(Place(f"submit.env.{name}", value, config) for name, value in env.items())]
    for place in values:
        if without_secrets(place.location) != place.location:
            raise BadConfig(
                "the target would store the password in this address: leave it out, and name it under submit.secrets",
                key=place.key,
                uri=place.file,
            )


def make_training_submission(words: tuple[str, ...], description: Path, changes: Mapping[str, Any]) -> Submission:
    """`aai align train` as a submission; the bank's configuration has the section `submit`.

    Args:
        words: the command with its arguments.
        description: the file of the training.
        changes: the keys that its `--set` changes.

    Raises:
        BadConfig: the description or the bank's configuration is wrong.
    """
    training = load_training(description.absolute(), changes)
    loaded, contents = bank_of(training), {}
    keys = training.model_dump(mode="json", exclude_unset=True)
    if training.config:
        contents[_CONFIG] = _config_text(loaded, Path(training.config), {})
        keys["config"] = _CONFIG
    contents[_TRAINING] = yaml.safe_dump(keys, sort_keys=False)
    return Submission(
        _name(words), TRAINING, words, loaded, contents, tuple(_places_of_training(training, description))
    )


def _places(config: Config, file: str, keys: Sequence[str] = _LOCATIONS) -> Iterator[Place]:
    for key in keys:
        value = getattr(config, key)
        yield from (Place(key, each, file) for each in ((value,) if isinstance(value, str) else value))


def _models(config: Config, file: str) -> Iterator[Place]:
    """The models that are named by a path, but those that come with AAI."""
    for role, value in config.models.model_dump().items():
        name = value.get("name") or value.get("folder") if isinstance(value, dict) else value
        if isinstance(name, str) and os.path.isabs(name) and not Path(name).is_relative_to(_PACKAGE):
            yield Place(f"models.{role}", name, file)


def _places_of_training(training: TrainingConfig, description: Path) -> Iterator[Place]:
    """Its output, pairs and metadata, and the workspace of the bank whose vectors it takes."""
    file, pairs = str(description), training.pairs
    yield Place(OUTPUT, training.output, file)
    for key in ("folder", "table", "videos"):
        if location := getattr(pairs, key):
            yield Place(f"pairs.{key}", location, file)
    yield from (Place("metadata", each, file) for each in training.metadata)
    if training.config:
        yield from _places(load_config(Path(training.config)), training.config, ("workspace",))


def _name(words: tuple[str, ...]) -> str:
    return f"aai-{words[0]}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def _config_text(loaded: Config, path: Path, changes: Mapping[str, Any]) -> str:
    """A configuration with absolute paths; by its nodes the job knows what the cluster's autoscaler can start."""
    keys = load_keys(path.absolute(), sections_of(STAGES), changes)
    keys = merge({"submit": loaded.submit.model_dump(include={"nodes", "cpus", "gpus"})}, keys)
    return yaml.safe_dump(keys, sort_keys=False)


def _with_absolute_paths(content: Any, folder: Path) -> Any:
    """The content of a job file in which photos and masks are found from any folder."""
    if isinstance(content, list):
        return [_with_absolute_paths(item, folder) for item in content]
    if not isinstance(content, Mapping):
        return content
    return {
        key: _absolute(value, folder) if key in _JOB_PATHS else _with_absolute_paths(value, folder)
        for key, value in content.items()
    }


def _absolute(value: Any, folder: Path) -> Any:
    if isinstance(value, list):
        return [_absolute(item, folder) for item in value]
    return str(folder / Path(value).expanduser()) if isinstance(value, str) and "://" not in value else value
