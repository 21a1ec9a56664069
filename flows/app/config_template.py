"""The first configuration of a workspace: every option, with its meaning and default."""

import ast
import inspect
import json
import textwrap
from functools import cache
from typing import Any

from pydantic import BaseModel

from aai.errors import BadConfig
from aai.profiles import PROFILES
from tasks.runtime.config import make_config

_WIDTH = 116
_FIRST = "# Where things are; relative paths are meant from the folder of this file.\n"
_GIVEN = {"audio": ["sounds/"], "images": ["images/"], "workspace": "bank"}


def suggest_profile() -> str:
    """What this machine can run: `sd15` with a GPU, `tiny` without."""
    import torch

    return "sd15" if torch.cuda.is_available() else "tiny"


def starter(profile: str) -> str:
    """A YAML file with every option of a profile; what is commented out is what holds without it.

    Raises:
        BadConfig: there is no such profile.
    """
    if profile not in PROFILES:
        raise BadConfig(f"profile: there is no {profile!r}: choose one of {', '.join(PROFILES)}")
    config = make_config(profile=profile)
    return _FIRST + "\n".join(_lines(config, _GIVEN | {"profile": profile}, 0)) + "\n"


def _lines(options: BaseModel, given: dict[str, Any], depth: int) -> list[str]:
    made, indent = [], "  " * depth
    for name in type(options).model_fields:
        value = getattr(options, name)
        sentence = _sentences(type(options)).get(name, "")
        if not sentence and isinstance(value, BaseModel):
            sentence = str(type(value).__doc__)
        made += [f"{indent}# {line}" for line in textwrap.wrap(" ".join(sentence.split()), _WIDTH - len(indent))]
        if isinstance(value, BaseModel):
            made += [f"{indent}{name}:", *_lines(value, {}, depth + 1)]
        else:
            mark = "" if name in given else "# "
            made.append(f"{indent}{mark}{name}: {_plain(given.get(name, value))}")
    return made


def _plain(value: Any) -> str:
    """A value as YAML in one line: JSON is such."""
    return json.dumps(list(value) if isinstance(value, tuple) else value)


@cache
def _sentences(kind: type) -> dict[str, str]:
    """The text below each field of a class."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(body, ast.ClassDef), kind
    found = {}
    for field, below in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(field.target, ast.Name):
            found[field.target.id] = str(ast.literal_eval(below.value))
    return found
