"""Models that are loaded once in a process: for a bank of 16 files, loading them takes as long as all else."""

from collections.abc import Callable, Hashable
from functools import cache, wraps
from pkgutil import resolve_name
from typing import Any

import pytest

import aai.models.clap_blocks  # noqa: F401 - it changes the models that it loads, so it must not share them
from aai.tiny.world import WEIGHTS

_FROZEN = ("aai.models.clap:AudioEncoder", "aai.models.clip:ImageTextEncoder", "aai.models.diffusion:load_diffusion")


def keep_shipped(patch: pytest.MonkeyPatch) -> None:
    """Let stages share the shipped models, which nothing changes; others, such as a test's own, are loaded anew."""
    for name in _FROZEN:
        patch.setattr(name.replace(":", "."), _kept(resolve_name(name)))


def _kept(load: Callable[..., Any]) -> Callable[..., Any]:
    @cache
    def loaded(*args: Hashable, **keys: Hashable) -> Any:
        return load(*args, **keys)

    @wraps(load, updated=())
    def load_or_share(name: Any, *args: Hashable, **keys: Hashable) -> Any:
        return (loaded if str(name).startswith(str(WEIGHTS)) else load)(name, *args, **keys)

    return load_or_share
