"""Artifacts: folders such as an index or a mapper, made once per recipe, seen whole or not at all.

In a local workspace a folder is filled beside its place and renamed. A bucket has no rename: the files go into a folder
of their own, and a marker, put last, says which.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from aai.workspace.store import Store, checked_name, checked_recipe, store_errors

ARTIFACTS = "artifacts"
_MARKER = "PUBLISHED"


@dataclass(frozen=True)
class Artifact:
    """One version of an artifact, whether it is there yet or not; a version grows where contents do, as an index."""

    store: Store
    name: str
    recipe: str
    version: int = 1

    def __post_init__(self) -> None:
        checked_name(self.name)
        checked_recipe(self.recipe)

    @property
    def uri(self) -> str:
        """Where its files are.

        Raises:
            FileNotFoundError: it is not published.
        """
        return self.store.uri(self.place)

    @property
    def place(self) -> str:
        """Where its files are, as a path relative to the workspace.

        Raises:
            FileNotFoundError: it is not published.
        """
        if not self.exists():
            raise FileNotFoundError(f"{self.store.uri(self._slot)}: {self.name} of {self.recipe} is not published")
        if self.store.is_local:
            return self._slot
        attempt = self.store.filesystem.cat_file(self.store.path(self._slot, _MARKER)).decode()
        return f"{self._slot}/{checked_name(attempt)}"

    def exists(self) -> bool:
        """Whether it is published."""
        last = () if self.store.is_local else (_MARKER,)
        with store_errors(f"looking for {self.store.uri(self._slot)}"):
            return bool(self.store.filesystem.exists(self.store.path(self._slot, *last)))

    @contextmanager
    def publish(self) -> Iterator[Path]:
        """Give an empty local folder to write into, and publish it unless the block fails.

        Where two publish at a time, one wins, and nobody sees a mixture.

        Raises:
            Transient: the store failed; nothing is published.
        """
        if self.store.is_local:
            with self._renamed() as folder:
                yield folder
        else:
            with tempfile.TemporaryDirectory() as name:
                yield Path(name)
                self._upload(Path(name))

    def fetch(self, folder: Path) -> Path:
        """A local folder with its files: its own if the workspace is local, otherwise a copy in the folder given.

        Raises:
            FileNotFoundError: it is not published.
            Transient: the store failed.
        """
        place = self.place
        if self.store.is_local:
            return Path(self.store.path(place))
        for path in self.store.files(place):
            target = folder / Path(path).relative_to(place)
            target.parent.mkdir(parents=True, exist_ok=True)
            with store_errors(f"reading {self.store.uri(path)}"):
                self.store.filesystem.get_file(self.store.path(path), str(target))
        return folder

    @property
    def _slot(self) -> str:
        return f"{ARTIFACTS}/{self.name}/{self.recipe}/v{self.version}"

    @contextmanager
    def _renamed(self) -> Iterator[Path]:
        final = Path(self.store.path(self._slot))
        folder = final.with_name(f".{final.name}-{uuid4().hex}")
        with store_errors(f"writing {folder}"):
            folder.mkdir(parents=True)
        try:
            yield folder
            with store_errors(f"publishing {final}"):
                try:
                    os.rename(folder, final)
                except OSError:
                    if not final.is_dir():  # else another one was first, and stays
                        raise
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _upload(self, folder: Path) -> None:
        attempt = uuid4().hex
        with store_errors(f"publishing {self.store.uri(self._slot)}"):
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                target = self.store.path(self._slot, attempt, file.relative_to(folder).as_posix())
                self.store.filesystem.put_file(str(file), target)
            self.store.filesystem.pipe_file(self.store.path(self._slot, _MARKER), attempt.encode())


def list_artifacts(store: Store, files: list[str]) -> list[Artifact]:
    """The published artifacts that some files, as paths relative to the workspace, belong to; versions in order."""
    slots = {tuple(path.split("/")[1:4]) for path in files if path.count("/") > 3}
    found = [
        Artifact(store, name, recipe, int(version.removeprefix("v")))
        for name, recipe, version in slots
        if version.startswith("v")
    ]
    found.sort(key=lambda artifact: (artifact.name, artifact.recipe, artifact.version))
    return [artifact for artifact in found if artifact.exists()]


def leftovers(store: Store, files: list[str]) -> list[str]:
    """Those of the files that belong to no published artifact: somebody is writing them, or died while doing so."""
    places = tuple(f"{artifact.place}/" for artifact in list_artifacts(store, files))
    return [path for path in files if not path.startswith(places) and not path.endswith(f"/{_MARKER}")]
