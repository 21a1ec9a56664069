"""The storage of a workspace: a local folder or a bucket URL, for Delta, Arrow and fsspec."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import fsspec
from fsspec.core import url_to_fs
from pyarrow import fs as arrow_fs

from aai.errors import BadConfig
from aai.store_errors import store_errors

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_RECIPE = re.compile(r"[0-9a-z]+")
_REFUSED = re.compile(r"%[0-9A-Fa-f]{2}|[\[\]|^\\\x00-\x1f\x7f]")
"""What Delta 1.6 cannot handle in a path: it reads escapes decoded, and panics at some characters."""


@dataclass(frozen=True)
class Store:
    """A root path or URL, with options for Delta and fsspec. Options may hold secrets and are never printed."""

    root: str
    delta_options: Mapping[str, str] | None = field(default=None, repr=False)
    fs_options: Mapping[str, Any] | None = field(default=None, repr=False)

    @property
    def is_local(self) -> bool:
        """Whether the root is a local folder, where a rename is atomic."""
        return "://" not in self.root

    @cached_property
    def _opened(self) -> tuple[fsspec.AbstractFileSystem, str]:
        """The fsspec file system, and the root without the protocol."""
        if self.is_local:
            return fsspec.filesystem("file"), self.root
        return url_to_fs(self.root, **(self.fs_options or {}))

    @property
    def protocol(self) -> str:
        """The URL's scheme, such as s3; `file` for a local folder."""
        return "file" if self.is_local else self.root.split("://", 1)[0]

    @property
    def filesystem(self) -> fsspec.AbstractFileSystem:
        """The fsspec file system."""
        return self._opened[0]

    @cached_property
    def arrow_filesystem(self) -> arrow_fs.FileSystem:
        """The Arrow file system."""
        if self.is_local:
            return arrow_fs.LocalFileSystem()
        return arrow_fs.PyFileSystem(arrow_fs.FSSpecHandler(self.filesystem))

    def uri(self, *parts: str) -> str:
        """Absolute path or URL of a path below the root."""
        return "/".join([self.root, *parts])

    def path(self, *parts: str) -> str:
        """The same without the protocol, as the file systems take it."""
        return "/".join([self._opened[1].rstrip("/"), *parts])

    def files(self, *parts: str) -> list[str]:
        """All files below a folder, sorted, as paths relative to the root; none if the folder does not exist."""
        with store_errors(f"listing {self.uri(*parts)}"):
            self.filesystem.invalidate_cache()  # workers in other processes write, too
            found = self.filesystem.find(self.path(*parts))
        return sorted(str(path).removeprefix(self.path()).lstrip("/") for path in found)

    def write(self, path: str, data: bytes) -> None:
        """Write a file whole: a reader finds the old one or the new one, also after a kill.

        Raises:
            Transient: the store failed.
        """
        with store_errors(f"writing {self.uri(path)}"):
            if self.is_local:
                self.filesystem.makedirs(self.path(path).rpartition("/")[0], exist_ok=True)
                write_whole(Path(self.path(path)), data)
            else:
                self.filesystem.pipe_file(self.path(path), data)

    @cached_property
    def refuses_replacement(self) -> bool:
        """Whether the store can be told to write a file only if it is not there, which Delta's commits rest on.

        A bucket is asked, once per process: `PUT` with `If-None-Match` is part of S3, but not of each store that is
        like it.

        Raises:
            Transient: the store failed.
        """
        if self.protocol != "s3":
            return True
        path = self.path("artifacts", f".probe-{uuid4().hex}")  # where pruning finds what a kill leaves
        with store_errors(f"writing {self.uri()}"):
            self.filesystem.pipe_file(path, b"")
            try:
                return _is_refused(self.filesystem, path)
            finally:
                self.filesystem.rm_file(path)


def _is_refused(files: fsspec.AbstractFileSystem, path: str) -> bool:
    """Whether a file that is there is not written again where that is asked for."""
    try:
        files.pipe_file(path, b"", mode="create")
    except OSError as error:
        if isinstance(error, FileExistsError) or "PreconditionFailed" in str(error.__cause__):
            return True
        raise
    return False


def changed_s(info: Mapping[str, object]) -> float:
    """Time of a file's last change in seconds since 1970 by the store's clock; 0 if the store does not provide it."""
    changed = next((info[name] for name in ("mtime", "LastModified", "last_modified", "updated") if name in info), 0.0)
    if isinstance(changed, datetime):
        return changed.timestamp()
    return float(changed) if isinstance(changed, int | float) else 0.0


def write_whole(path: Path, data: bytes) -> None:
    """Write a file on disk whole, by a rename."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)
        raise


def open_store(
    uri: str | os.PathLike[str],
    delta_options: Mapping[str, str] | None = None,
    fs_options: Mapping[str, Any] | None = None,
) -> Store:
    """The store at a path or URL. Nothing is created, and no network is used.

    Raises:
        BadConfig: the path or URL cannot be used.
    """
    text = str(uri).removeprefix("file://")
    root = _checked_url(text) if "://" in text else _checked_path(text)
    store = Store(root, delta_options, fs_options)
    try:
        store.filesystem  # noqa: B018  fails early if a package is missing
    except (ImportError, ValueError) as error:
        raise BadConfig(f"fsspec cannot open it: {error}", key="workspace", uri=root) from error
    return store


def checked_recipe(recipe: str) -> str:
    """A recipe that is safe as part of a path.

    Raises:
        ValueError: it is not.
    """
    if not _RECIPE.fullmatch(recipe):
        raise ValueError(f"{recipe!r} is not a recipe: it has other characters than 0-9 and a-z")
    return recipe


def checked_name(name: str) -> str:
    """A name that is safe as part of a path.

    Raises:
        ValueError: it is not.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot name a file: start with a letter or digit, then also . _ -")
    return name


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password or parts.query:
        bare = f"{parts.scheme}://{parts.hostname or ''}{parts.path}"
        raise BadConfig("the URL holds credentials or a query: set these in the environment", key="workspace", uri=bare)
    return url.rstrip("/")


def _checked_path(text: str) -> str:
    path = Path(os.path.expanduser(text)).absolute()
    if refused := _REFUSED.search(str(path)):
        raise BadConfig(
            f"Delta cannot handle {refused.group()!r} in a path: choose another folder",
            key="workspace",
            uri=str(path),
        )
    if path.exists() and not (path.is_dir() and os.access(path, os.R_OK | os.X_OK)):
        raise BadConfig("it is not a folder that can be read: name another one", key="workspace", uri=str(path))
    return str(path)
