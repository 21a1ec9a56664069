"""A view of a store for DuckDB, which opens a file and asks for its size many times per query.

Data files of a table never change, so each is looked up once, and small ones are kept. Of the 9,400 requests of a small
build, render and report on S3, 8,200 were repeated look-ups and reads of data files.
"""

import io
from collections.abc import Callable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from fsspec import AbstractFileSystem

_NEVER = datetime.fromtimestamp(0, UTC)
_SMALL_BYTES, _NUM_SMALL = 2**20, 64
"""Files up to this size are kept, this many of them."""


class ImmutableFiles(AbstractFileSystem):
    """The files of another file system, to be read; what it says of a file is remembered."""

    cachable = False

    def __init__(self, files: AbstractFileSystem) -> None:
        super().__init__()
        self.protocol = files.protocol
        self._files = files
        self._known: dict[str, dict[str, Any]] = {}
        self._read_small: Callable[[str], bytes] = lru_cache(_NUM_SMALL)(files.cat_file)

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        """Size and type of a file, as the store said first."""
        if path not in self._known:
            self._known[path] = self._files.info(path, **options)
        return self._known[path]

    def modified(self, path: str) -> datetime:
        """The same time for every file."""
        return _NEVER

    def unstrip_protocol(self, name: str) -> str:
        """The path with its protocol."""
        return str(self._files.unstrip_protocol(name))

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if self.info(path)["size"] <= _SMALL_BYTES:
            return io.BytesIO(self._read_small(path))
        return self._files.open(path, mode)
