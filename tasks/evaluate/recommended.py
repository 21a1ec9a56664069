"""The values of a sweep that are enough, as a file that the bank's configuration includes, and what has no effect."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from aai.yaml_reader import read_yaml
from tasks.evaluate.sweep import KEYS, Setting, Sweep, SweepOptions
from tasks.runtime.config import Config

RECOMMENDED = "recommended.yaml"


def recommended_text(found: Sweep) -> str:
    """The file's contents."""
    lines = [
        "# The smallest values that are not distinguishably below the best. A configuration takes them as defaults by"
    ]
    lines += [f"# `include`; its own keys count more. Found on {found.num_clips:,} clips."]
    if found.given:
        lines.append(f"# Found with {_said(found.given)}.")
    for setting in found.enough:
        if others := _presupposed(found, setting):
            lines.append(f"# {KEYS[setting][0]} counts with {_said(others)} only.")
    if not found.recommended:
        return "\n".join([*lines, ""])
    return "\n".join([*lines, yaml.safe_dump(found.recommended, sort_keys=True)])


def usage(options: SweepOptions, found: Sweep, config: Config) -> list[str]:
    """How the bank's configuration takes the values, and which of them have no effect in it as it is.

    Raises:
        BadConfig: the configuration's file cannot be read.
    """
    if not found.recommended:
        return []
    file = Path(options.config)
    own = read_yaml(file, "`aai init` writes one") or {}
    place = os.path.relpath(Path(options.output) / RECOMMENDED, file.parent)
    lines = [f"to build with these values write `include: {place}` into {file}"]
    for setting in found.enough:
        key, _ = KEYS.get(setting, ("", {}))
        if key and _value(own, key) is not None:
            lines.append(f"{key} is also given in {file}, which counts more: remove it there")
        if missing := _lacking(config, _presupposed(found, setting)):
            lines.append(f"{key} counts with {_said(missing)} only, which {file} does not have")
    if missing := _lacking(config, found.given):
        lines.append(f"the values were found with {_said(missing)}, which {file} does not have")
    return lines


def _presupposed(found: Sweep, setting: Setting) -> dict[str, Any]:
    """What a setting presupposes, unless the sweep had other values."""
    _, presupposed = KEYS.get(setting, ("", {}))
    return {key: value for key, value in presupposed.items() if key not in found.given}


def _lacking(config: Config, asked: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in asked.items() if _configured(config, key) != value}


def _said(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in keys.items())


def _value(keys: Any, path: str) -> Any:
    for part in path.split("."):
        keys = keys.get(part) if isinstance(keys, Mapping) else None
    return keys


def _configured(config: Config, path: str) -> Any:
    """A key's value in a configuration; None where its section is none of the stages'."""
    section, _, key = path.partition(".")
    return getattr(config.sections.get(section), key, None)
