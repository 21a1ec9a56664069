"""The values of a sweep that are enough, as a file that the bank's configuration includes, and what has no effect."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from aai.yaml_reader import read_yaml
from tasks.evaluate.sweep import KEYS, Sweep, SweepOptions
from tasks.runtime.config import Config

RECOMMENDED = "recommended.yaml"


def recommended_text(found: Sweep) -> str:
    """The file's contents."""
    lines = [
        "# The smallest values that are not distinguishably below the best. A configuration takes them as defaults by"
    ]
    lines += [f"# `include`; its own keys count more. Found on {found.num_clips:,} clips."]
    for setting in found.enough:
        if setting in KEYS and (presupposed := KEYS[setting][1]):
            lines.append(f"# {KEYS[setting][0]} counts with {_said(presupposed)} only.")
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
        key, presupposed = KEYS.get(setting, ("", {}))
        if key and _value(own, key) is not None:
            lines.append(f"{key} is also given in {file}, which counts more: remove it there")
        if missing := {name: value for name, value in presupposed.items() if _configured(config, name) != value}:
            lines.append(f"{key} counts with {_said(missing)} only, which {file} does not have")
    return lines


def _said(keys: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value}" for key, value in keys.items())


def _value(keys: Any, path: str) -> Any:
    for part in path.split("."):
        keys = keys.get(part) if isinstance(keys, Mapping) else None
    return keys


def _configured(config: Config, path: str) -> Any:
    section, key = path.split(".")
    return getattr(config.sections[section], key)
