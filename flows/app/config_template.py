"""The configuration file that `aai init` writes: every option with its description and default."""

import json
import textwrap
from typing import Any

from pydantic import BaseModel

from aai.errors import BadConfig
from aai.profiles import PROFILES
from tasks.stages import make_config

_WIDTH = 116
_FIRST = "# Relative paths are resolved against the folder of this file.\n"
_GIVEN = {"audio": ["sounds/"], "images": ["images/"], "workspace": "bank"}


def suggest_profile() -> str:
    """The profile for this machine: `sd15` with a GPU, `tiny` without."""
    import torch

    return "sd15" if torch.cuda.is_available() else "tiny"


def template(profile: str) -> str:
    """A YAML file with every option of a profile; the commented lines show the defaults.

    Raises:
        BadConfig: there is no such profile.
    """
    if profile not in PROFILES:
        raise BadConfig(f"there is no {profile!r}: choose one of {', '.join(PROFILES)}", key="profile")
    config = make_config(profile=profile)
    return _FIRST + "\n".join(_lines(config, _GIVEN | {"profile": profile}, 0)) + "\n"


def _lines(options: BaseModel, given: dict[str, Any], depth: int) -> list[str]:
    lines, indent = [], "  " * depth
    for name, field in type(options).model_fields.items():
        if name == "sections":
            for section, own in getattr(options, name).items():
                lines += _section(section, own, str(type(own).__doc__), depth)
            continue
        value = getattr(options, name)
        if isinstance(value, BaseModel) and isinstance(field.annotation, type):  # else null is a value of its own
            lines += _section(name, value, field.description or str(type(value).__doc__), depth)
            continue
        mark = "" if name in given else "# "
        lines += [*_comment(field.description or "", indent), f"{indent}{mark}{name}: {_plain(given.get(name, value))}"]
    return lines


def _section(name: str, options: BaseModel, description: str, depth: int) -> list[str]:
    indent = "  " * depth
    return [*_comment(description, indent), f"{indent}{name}:", *_lines(options, {}, depth + 1)]


def _comment(text: str, indent: str) -> list[str]:
    return [f"{indent}# {line}" for line in textwrap.wrap(" ".join(text.split()), _WIDTH - len(indent))]


def _plain(value: Any) -> str:
    """A value as JSON, which is also YAML in one line."""
    return json.dumps(value.model_dump() if isinstance(value, BaseModel) else value, default=list)
