"""The configuration of a workspace: one YAML file. Each stage's options are a section of it."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, Field, ValidationError, field_validator

from aai.errors import BadConfig, no_such_key
from aai.format import shortened
from aai.options import Options
from aai.profiles import PROFILES, Models
from aai.yaml_reader import parse_yaml, read_yaml
from tasks.runtime.options import PoolOptions, RunOptions, SubmitOptions

AnyOptions = TypeVar("AnyOptions", bound=Options)
Sections = Mapping[str, type[Options]]

_ALL_KEYS = "`aai init` writes all there are"
_MAX_PARTS = 20
_PATHS = ("workspace", "audio", "images", "metadata")
_NO_MODELS = ("dtype", "compile")
"""Keys of `models` that name none."""


class Config(Options):
    """Everything that can be configured about a run."""

    include: tuple[str, ...] = ()
    """YAML files with further keys, which count where this file has none, such as the `recommended.yaml` of a sweep; of
    two files the later one counts."""

    workspace: str = "bank"
    """Folder or bucket URL of the cue bank: its tables, artifacts and shards."""

    audio: tuple[str, ...] = ()
    """Recordings: folders, globs, tars or bucket URLs."""

    images: tuple[str, ...] = ()
    """Images: folders, globs, webdataset tars or bucket URLs."""

    metadata: tuple[str, ...] = ()
    """CSV, TSV, JSON lines or Parquet files with a column `file` (relative to the table's folder) and any of `label`,
    `caption`, `licence`; further columns become attributes."""

    sidecars: bool = True
    """Whether `a.json`, `a.jpg.json`, `a.txt` and `a.cls` describe the file `a.jpg` beside them."""

    profile: str = "tiny"
    """Named set of models and defaults: tiny (shipped, offline), sd15 or sdxl."""

    models: Models
    """The profile's models; each can be replaced."""

    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of the run; every random number is derived from it."""

    sections: dict[str, Options] = Field({}, exclude=True)

    pool: PoolOptions = PoolOptions()
    """Workers: on Ray, or in this process."""

    pools: dict[str, dict[str, Any]] = {}
    """Options that replace those of `pool` for a stage, such as {fit: {gpus_per_worker: 1}}."""

    run: RunOptions = RunOptions()
    """Commits, rejects and limits."""

    submit: SubmitOptions = SubmitOptions()
    """Jobs on clusters: what `aai submit` asks for."""

    @field_validator("include")
    @classmethod
    def _is_of_a_file(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            raise ValueError("only the file of a configuration includes others: give the keys themselves")
        return names

    @field_validator("audio", "images", "metadata", mode="before")
    @classmethod
    def _one_or_many(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("audio", "images", "metadata", "workspace")
    @classmethod
    def _names_something(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for location in (value,) if isinstance(value, str) else value:
            if not location.strip():  # an empty path is the current folder
                raise ValueError("it is empty: name a folder, a file or a bucket URL, or leave it out")
        return value

    def options(self, kind: type[AnyOptions]) -> AnyOptions:
        """The section with these options.

        Raises:
            LookupError: no stage of the run has such options.
        """
        for section in self.sections.values():
            if isinstance(section, kind):
                return section
        raise LookupError(f"no stage of this run has {kind.__name__}")

    def pool_of(self, stage: str, slice_size: int) -> PoolOptions:
        """The workers of a stage, whose slices have the given size by default."""
        return PoolOptions.model_validate(
            {"slice_size": slice_size} | self.pool.model_dump(exclude_unset=True) | self.pools.get(stage, {})
        )


def make_config(sections: Sections, stages: tuple[str, ...], keys: Mapping[str, Any]) -> Config:
    """A configuration from nested mappings as in the YAML file, on top of those of its profile.

    Args:
        sections: the options of the stages, by section.
        stages: the names of the stages, which are the keys of `pools`.
        keys: the configuration.

    Raises:
        BadConfig: a key is unknown or its value is not allowed; `key` names it.
    """
    given = _with_profile(keys)
    if "sections" in given:
        raise BadConfig(f"there is no such key: {_ALL_KEYS}", key="sections")
    errors: list[tuple[str, str]] = []
    own = {name: _validated(kind, given.pop(name, {}), name, errors) for name, kind in sections.items()}
    for name in given.keys() - Config.model_fields.keys():
        known = [*sections, *(Config.model_fields.keys() - {"sections"})]
        errors.append((name, no_such_key(name, sorted(known), _ALL_KEYS)))
    given = {key: value for key, value in given.items() if key in Config.model_fields}
    config = _validated(Config, given | {"sections": own if not errors else {}}, "", errors)
    pools = given.get("pools")
    for stage in pools if isinstance(pools, Mapping) else ():
        if stage not in stages:
            errors.append((f"pools.{stage}", f"there is no such stage: choose from {', '.join(stages)}"))
        elif isinstance(config, Config):
            _validated(PoolOptions, config.pools[stage], f"pools.{stage}", errors)
    if errors:
        first, sentence = errors[0]
        others = "".join(f"; {key}: {text}" if key else f"; {text}" for key, text in errors[1:])
        raise BadConfig(sentence + others, key=first or None)
    assert isinstance(config, Config)
    return config


def read_options(kind: type[AnyOptions], given: Any, where: str, uri: str | None = None) -> AnyOptions:
    """Options from a mapping, such as a whole file of them; `where` says which keys there are.

    Raises:
        BadConfig: a key is unknown or its value is not allowed; `key` names it.
    """
    errors: list[tuple[str, str]] = []
    found = _validated(kind, _without_empty_sections(kind.model_fields, given), "", errors, where)
    if errors:
        first, sentence = errors[0]
        others = "".join(f"; {name}: {text}" for name, text in errors[1:])
        raise BadConfig(sentence + others, key=first or None, uri=uri)
    assert isinstance(found, kind)
    return found


def load_keys(path: str | Path, sections: Sections, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The keys of a YAML file, and of those that it includes, with some changed.

    Relative paths are resolved against the folder of the file that they are in, those of changes against this one's.

    Raises:
        BadConfig: there is no such file, or one is not a YAML mapping.
    """
    folder, own = Path(path).parent, merge(_keys_in(path, sections), changes or {})
    below = _included(own.pop("include", ()), folder, sections, str(path))
    keys = merge(below, _from_folder(own, folder))
    keys.setdefault("workspace", str(folder / "bank"))
    return keys


def parse_change(text: str) -> dict[str, Any]:
    """The nested mappings of a change as KEY=VALUE; the value is YAML, as `fit.steps=3`.

    Raises:
        BadConfig: it is not KEY=VALUE, or the value is not YAML.
    """
    key, equals, value = text.partition("=")
    parts = [part.strip() for part in key.split(".")]
    if not equals or not all(parts) or len(parts) > _MAX_PARTS:
        raise BadConfig(f"{shortened(text)} is not KEY=VALUE: write for example fit.steps=3", key="--set")
    nested = parse_yaml(value, key=f"--set {key}")
    for part in reversed(parts):
        nested = {part: nested}
    return nested


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings; where both have a key, the upper one counts."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def _keys_in(path: str | Path, sections: Sections) -> dict[str, Any]:
    given = read_yaml(path, "`aai init` writes one")
    if not isinstance(given, dict | None):
        raise BadConfig("it holds no keys: `aai init` writes a file that does", uri=str(path))
    return _without_empty_sections({**Config.model_fields, **sections}, given or {})


def _included(names: Any, folder: Path, sections: Sections, uri: str) -> dict[str, Any]:
    """The keys of the files that a configuration includes."""
    found: dict[str, Any] = {}
    for name in names if isinstance(names, list | tuple) else [] if names is None else [names]:
        if not isinstance(name, str) or not name.strip():
            sentence = f"{shortened(name)} is no file: write for example [sweep/recommended.yaml]"
            raise BadConfig(sentence, key="include", uri=uri)
        path = folder / os.path.expanduser(name)
        keys = _keys_in(path, sections)
        if keys.get("include"):
            sentence = "it is included, and cannot include others: name all in one file"
            raise BadConfig(sentence, key="include", uri=str(path))
        found = merge(found, _from_folder(keys, path.parent))
    return found


def _with_profile(keys: Mapping[str, Any]) -> dict[str, Any]:
    name = keys.get("profile", "tiny")
    if not isinstance(name, str) or name not in PROFILES:
        raise BadConfig(f"there is no {shortened(name)}: choose one of {', '.join(PROFILES)}", key="profile")
    return merge(PROFILES[name], keys)


def _validated(
    kind: type[Options], given: Any, key: str, errors: list[tuple[str, str]], where: str = _ALL_KEYS
) -> Options | None:
    """Options from a mapping; what is wrong is added to the errors, with its key."""
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        details = error.errors(include_url=False)
        for detail in details:
            path, text = [str(part) for part in detail["loc"] if part != "[key]"], detail["msg"]
            if detail["type"] == "too_short" and any(len(other["loc"]) > len(path) for other in details):
                continue  # an item that is wrong is not counted
            match detail["type"]:
                case "extra_forbidden":
                    text = no_such_key(path[-1], _keys_beside(kind, path), where)
                case "model_type" | "model_attributes_type" | "dict_type":
                    text = f"{shortened(detail['input'])} is not a section: write its keys and values below it"
                case "value_error":
                    text = text.removeprefix("Value error, ")
                case "tuple_type" | "list_type":
                    text = f"{shortened(detail['input'])} is not a list: put it between brackets"
                case "too_short":
                    text = f"it is too short: at least {detail['ctx']['min_length']} must be given"
                case "missing":
                    text = "it is missing: set it"
                case _:
                    text = f"{shortened(detail['input'])}: {text[0].lower()}{text[1:]}"
            errors.append((".".join(filter(None, [key, *path])), text))
    return None


def _keys_beside(kind: type[BaseModel], path: Sequence[str]) -> list[str]:
    """The keys that are allowed where the last key of a path stands."""
    for part in path[:-1]:
        inner = kind.model_fields[part].annotation if part in kind.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            return []
        kind = inner
    return list(kind.model_fields)


def _without_empty_sections(fields: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Leave sections out in which every line is commented out, which YAML reads as null."""
    filled = {}
    for key, value in given.items():
        kind = getattr(fields.get(key), "annotation", fields.get(key))
        if not (isinstance(kind, type) and issubclass(kind, BaseModel)):
            filled[key] = value
        elif value is not None:
            filled[key] = _without_empty_sections(kind.model_fields, value) if isinstance(value, dict) else value
    return filled


def _from_folder(given: dict[str, Any], folder: Path) -> dict[str, Any]:
    def resolved(text: Any) -> Any:
        if not isinstance(text, str) or not text.strip() or "://" in text:
            return text
        return str(folder / os.path.expanduser(text))

    found = dict(given)
    for key in _PATHS:
        if key in found:
            value = found[key]
            found[key] = [resolved(text) for text in value] if isinstance(value, list | tuple) else resolved(value)
    if isinstance(models := found.get("models"), dict):
        found["models"] = {
            role: value if role in _NO_MODELS else _model_from_folder(value, folder) for role, value in models.items()
        }
    return found


def _model_from_folder(value: Any, folder: Path) -> Any:
    """A model that is a folder or file as an absolute path, so that it is the same one wherever the keys are read.

    It is looked for in the configuration's folder, then in the current one; others are repositories of the hub.
    """
    if isinstance(value, dict):
        named = () if value.get("revision") is not None else ("name", "folder")
        return {key: _model_from_folder(each, folder) if key in named else each for key, each in value.items()}
    if not isinstance(value, str) or not value.strip() or "@" in value:
        return value
    path = os.path.expanduser(value)
    places = [os.path.abspath(base / path) for base in (folder, Path())]
    return next(filter(os.path.exists, places), places[0] if value.startswith((".", "~", "/")) else value)
