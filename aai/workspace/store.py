"""Where a workspace is: a local folder or a bucket's URL, and how Delta, Arrow and fsspec reach it."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from fsspec.core import url_to_fs
from pyarrow import fs as arrow_fs

from aai.errors import BadConfig, Transient

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RECIPE = re.compile(r"[0-9a-z]+")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")  # delta-rs 1.6 writes such a path as it is and reads it decoded


@dataclass(frozen=True)
class Store:
    """A root, and the options with which two libraries reach it; options may hold secrets and are never shown."""

    root: str
    delta_options: Mapping[str, str] | None = field(default=None, repr=False)
    fs_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether a rename is atomic here."""
        return "://" not in self.root

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The file system as fsspec has it, and the root as that has it: without the protocol."""
        if self.is_local:
            return fsspec.filesystem("file"), self.root
        return url_to_fs(self.root, **(self.fs_options or {}))

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The file system as fsspec has it."""
        return self._opened[0]

    @cached_property
    def arrow_filesystem(self) -> arrow_fs.FileSystem:
        """The file system as Arrow has it."""
        if self.is_local:
            return arrow_fs.LocalFileSystem()
        return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(self.filesystem))

    def uri(self, *parts: str) -> str:
        """The full address of something below the root."""
        return "/".join([self.root, *parts])

    def path(self, *parts: str) -> str:
        """The same as the file systems have it: without the protocol."""
        return "/".join([self._opened[1].rstrip("/"), *parts])

    def files(self, *parts: str) -> list[str]:
        """All files below a folder, as paths relative to the root; none if the folder does not exist."""
        with store_errors(f"listing {self.uri(*parts)}"):
            found = self.filesystem.find(self.path(*parts))
        return sorted(str(path).removeprefix(self.path()).lstrip("/") for path in found)


def open_store(
    uri: str | os.PathLike[str],
    delta_options: Mapping[str, str] | None = None,
    fs_options: Mapping[str, Any] | None = None,
) -> Store:
    """The store at a path or URL; nothing is created or asked for over a network.

    Raises:
        BadConfig: no workspace can be there.
    """
    text = str(uri).removeprefix("file://")
    root = _checked_url(text) if "://" in text else _checked_path(text)
    store = Store(root, delta_options, fs_options)
    try:
        store.filesystem  # noqa: B018  made now, so that a missing package is known now
    except (ImportError, ValueError) as error:
        raise BadConfig(f"workspace: fsspec cannot open {root}: {error}") from error
    return store


def checked_recipe(recipe: str) -> str:
    """A recipe that may become part of a path.

    Raises:
        ValueError: it is no digest.
    """
    if not _RECIPE.fullmatch(recipe):
        raise ValueError(f"{recipe!r} is no recipe: those are made of 0-9 and a-z")
    return recipe


def checked_name(name: str) -> str:
    """A name that may become part of a path.

    Raises:
        ValueError: it could lead elsewhere.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file: use letters, digits and . _ -, not in front")
    return name


@contextmanager
def store_errors(doing: str) -> Iterator[None]:
    """Turn a failure of the disk, network or bucket into `Transient`, but not a file that should be there and is not.

    The foreign text stays in the cause, as it may show more than a log should.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError as error:
        raise Transient(f"{doing} failed ({type(error).__name__}): look at disk space, network and access") from error


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        bare = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise BadConfig(f"workspace: {bare} comes with credentials or a query: give these in the environment instead")
    return url.rstrip("/")


def _checked_path(text: str) -> str:
    path = Path(text).expanduser().absolute()
    if _ESCAPE.search(str(path)):
        raise BadConfig(f"workspace: {path} holds a % escape, which Delta cannot read back: rename the folder")
    if path.exists() and not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
        raise BadConfig(f"workspace: {path} is not a folder that can be read")
    return str(path)
