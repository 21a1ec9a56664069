"""Judges: independent models that read off pictures what they show, where the truth is known.

A package provides a judge by an entry point of the group `aai.judges`: a function from the judge's folder to a `Judge`.
"""

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from aai.errors import BadConfig
from aai.profiles import JudgeName

_GROUP = "aai.judges"


@runtime_checkable
class Judge(Protocol):
    """Scores of pictures, which may differ in size; NaN where the judge has no opinion."""

    def __call__(
        self,
        pictures: Sequence[UInt8[np.ndarray, "_ _ 3"]],
        prompts: Sequence[str],
        labels: Sequence[Sequence[str | None]],
    ) -> dict[str, Float[np.ndarray, " pictures"]]:
        """Score pictures by metric, given each picture's prompt and the labels of its clips."""


def load_judge(name: JudgeName) -> Judge:
    """The judge of a configuration.

    Raises:
        BadConfig: no installed package provides a judge of that kind, or its folder holds none.
    """
    entry = judge_entry(name)
    try:
        judge: Judge = entry.load()(name.folder)
    except FileNotFoundError as error:
        raise BadConfig(f"there is no judge in {name.folder}: name its folder", key="models.judge") from error
    except BadConfig as error:
        raise BadConfig(error.sentence, key="models.judge", uri=error.uri) from error
    return judge


def judge_entry(name: JudgeName) -> EntryPoint:
    """The entry point of a judge; nothing is loaded.

    Raises:
        BadConfig: no installed package provides a judge of that kind.
    """
    found = {entry.name: entry for entry in entry_points(group=_GROUP)}
    if name.kind not in found:
        known = ", ".join(sorted(found)) or "none"
        raise BadConfig(
            f"no installed package provides the judge {name.kind!r}: choose from {known}", key="models.judge.kind"
        )
    return found[name.kind]
