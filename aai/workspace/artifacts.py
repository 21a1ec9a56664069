"""Artifacts: folders such as an index or a mapper, made once per recipe and published atomically.

In a local workspace a temporary folder is filled and then renamed. A bucket has no rename: files are uploaded under a
unique prefix, and a marker file, written last, holds that prefix.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aai.store_errors import store_errors
from aai.workspace.store import Store, checked_name, checked_recipe

ARTIFACTS = "artifacts"
_MARKER = "PUBLISHED"


@dataclass(frozen=True)
class Artifact:
    """One version of an artifact, published or not. New contents, such as images in an index, make a new version."""

    store: Store
    name: str
    recipe: str
    version: int = 1

    def __post_init__(self) -> None:
        checked_name(self.name)
        checked_recipe(self.recipe)

    @property
    def uri(self) -> str:
        """Absolute path or URL of the folder with its files.

        Raises:
            FileNotFoundError: it is not published.
        """
        return self.store.uri(self.path)

    @property
    def path(self) -> str:
        """The folder with its files, relative to the workspace.

        Raises:
            FileNotFoundError: it is not published.
        """
        if not self.exists():
            raise FileNotFoundError(f"{self.store.uri(self.slot)}: {self.name} of {self.recipe} is not published")
        if self.store.is_local:
            return self.slot
        with store_errors(f"reading {self.store.uri(self.slot)}"):
            attempt = self.store.filesystem.cat_file(self.store.path(self.slot, _MARKER)).decode()
        return f"{self.slot}/{checked_name(attempt)}"

    def exists(self) -> bool:
        """Whether it is published."""
        last = () if self.store.is_local else (_MARKER,)
        with store_errors(f"looking for {self.store.uri(self.slot)}"):
            return bool(self.store.filesystem.exists(self.store.path(self.slot, *last)))

    @contextmanager
    def publish(self) -> Iterator[Path]:
        """Yield an empty local folder to write into; publish it when the block ends without an error.

        If two processes publish at the same time, one of the versions is kept whole.

        Raises:
            Transient: the store failed; nothing is published.
        """
        if self.store.is_local:
            with self._renamed() as folder:
                yield folder
        else:
            with tempfile.TemporaryDirectory() as name:
                with store_errors(f"writing {name}"):
                    yield Path(name)
                self._upload(Path(name))

    def fetch(self, folder: Path) -> Path:
        """A local folder with its files: the artifact's own in a local workspace, otherwise a copy in `folder`.

        Raises:
            FileNotFoundError: it is not published.
            Transient: the store failed.
        """
        source = self.path
        if self.store.is_local:
            return Path(self.store.path(source))
        for path in self.store.files(source):
            target = folder / Path(path).relative_to(source)
            target.parent.mkdir(parents=True, exist_ok=True)
            with store_errors(f"reading {self.store.uri(path)}"):
                self.store.filesystem.get_file(self.store.path(path), str(target))
        return folder

    def read(self, name: str) -> bytes:
        """One of its files.

        Raises:
            FileNotFoundError: it is not published, or has no such file.
            Transient: the store failed.
        """
        path = f"{self.path}/{name}"
        with store_errors(f"reading {self.store.uri(path)}"):
            return bytes(self.store.filesystem.cat_file(self.store.path(path)))

    def unpublish(self) -> str:
        """Make it unpublished in one step, and return the path of the folder with what is left to remove."""
        folder = self.store.path(self.slot)
        if not self.store.is_local:
            self.store.filesystem.rm_file(f"{folder}/{_MARKER}")
            return folder
        removed = self._hidden(Path(folder))
        os.rename(folder, removed)
        return str(removed)

    def _hidden(self, final: Path) -> Path:
        """A folder beside the final one that does not count as published."""
        return final.with_name(f".{final.name}-{uuid4().hex}")

    @property
    def slot(self) -> str:
        """The folder of this version, relative to the workspace, whether published or not."""
        return f"{ARTIFACTS}/{self.name}/{self.recipe}/v{self.version}"

    @contextmanager
    def _renamed(self) -> Iterator[Path]:
        final = Path(self.store.path(self.slot))
        folder = self._hidden(final)
        with store_errors(f"writing {folder}"):
            folder.mkdir(parents=True)
        try:
            with store_errors(f"writing {folder}"):
                yield folder
            with store_errors(f"publishing {final}"):
                try:
                    os.rename(folder, final)
                except OSError:
                    if not final.is_dir():  # otherwise another process published first, and its version is kept
                        raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _upload(self, folder: Path) -> None:
        attempt = uuid4().hex
        with store_errors(f"publishing {self.store.uri(self.slot)}"):
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                target = self.store.path(self.slot, attempt, file.relative_to(folder).as_posix())
                self.store.filesystem.put_file(str(file), target)
            self.store.filesystem.pipe_file(self.store.path(self.slot, _MARKER), attempt.encode())


def list_artifacts(store: Store, files: list[str]) -> list[Artifact]:
    """The published artifacts that some files belong to, sorted by name, recipe and version.

    Files are paths relative to the workspace.
    """
    slots = {tuple(path.split("/")[1:4]) for path in files if path.count("/") > 3}
    found = [
        Artifact(store, name, recipe, int(version.removeprefix("v")))
        for name, recipe, version in slots
        if version.startswith("v")
    ]
    found.sort(key=lambda artifact: (artifact.name, artifact.recipe, artifact.version))
    return [artifact for artifact in found if artifact.exists()]


def leftovers(store: Store, files: list[str]) -> list[str]:
    """The files that belong to no published artifact: a process is writing them, or was killed while it did."""
    published = tuple(f"{artifact.path}/" for artifact in list_artifacts(store, files))
    return [path for path in files if not path.startswith(published) and not path.endswith(f"/{_MARKER}")]
