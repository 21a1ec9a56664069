"""Files by which the drivers at work on a workspace know of each other.

drivers/<table>-<recipe>-<random id>.json    one for each driver, as long as it works on the stage that writes the table

They need no more of a store than that a file is written whole, and that a listing shows what was written before it.
"""

import os
import re
import socket
from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aai.store_errors import store_errors
from aai.workspace.store import Store, changed_s, checked_name, checked_recipe

DRIVERS = "drivers"
_HASH_BYTES = 8

_VERSIONS = ("etag", "size", "ino", "mtime", "lastmodified", "last_modified", "updated", "generation")
"""Properties of a file of which one changes when it is written again, in the words of the stores."""

_NAME = re.compile(r"(.+)-([0-9a-z]+)-[0-9a-f]{32}\.json")


class Process(BaseModel):
    """A process that lives as long as its file is renewed."""

    model_config = ConfigDict(frozen=True)

    host: str
    pid: int
    since: str
    """When it began, in UTC by its host's clock, such as 2026-11-27 16:02."""
    machine: str
    """Where the process id counts: a boot of a machine, and a namespace of processes in it."""
    created_s: float
    """When the process was created, by the machine's clock: process ids are used again."""

    @classmethod
    def here(cls) -> "Process":
        """This process, which begins now."""
        since = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
        return cls(host=socket.gethostname(), pid=os.getpid(), since=since, machine=_machine(), created_s=_created_s())

    def __str__(self) -> str:
        return f"host {self.host}, process {self.pid}, since {self.since} UTC"

    def is_here(self) -> bool:
        """Whether it is this process."""
        return (self.machine, self.pid, self.created_s) == (_machine(), os.getpid(), _created_s())

    def is_known_dead(self) -> bool:
        """Whether it was killed, which only its own machine can know at once."""
        if self.machine != _machine():
            return False
        try:
            process = psutil.Process(self.pid)
            return process.create_time() != self.created_s or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True
        except psutil.Error:
            return False


class DriverFile(BaseModel):
    """What a driver writes about itself."""

    model_config = ConfigDict(frozen=True)

    process: Process
    num_finished: int = 0
    """Items it has finished: without progress it counts as hanging."""
    longest_s: float = 0
    """The longest time that it had an item in hand, in seconds."""
    renewals: int = 0
    """A counter, so that each renewal changes the file."""
    claims: str | None = Field(None, pattern=r"^[A-Za-z0-9+/=]*$")
    """What it has in hand: 8 bytes of a hash per item, in base 64; without it, everything."""

    @field_validator("claims")
    @classmethod
    def _of_whole_hashes(cls, claims: str | None) -> str | None:
        if claims is not None and len(b64decode(claims, validate=True)) % _HASH_BYTES:
            raise ValueError("they end within a hash")
        return claims

    @property
    def hashes(self) -> bytes | None:
        """The hashes of what it has in hand; None stands for everything."""
        return None if self.claims is None else b64decode(self.claims)

    @staticmethod
    def encoded(hashes: bytes) -> str:
        """Hashes as `claims` holds them."""
        return b64encode(hashes).decode()


@dataclass(frozen=True)
class Listed:
    """A driver's file in a listing."""

    name: str
    version: tuple[str, ...]
    """Changes with each renewal."""
    renewed_s: float
    """When it was renewed, in seconds since 1970 by the store's clock; 0 if the store does not say."""

    @property
    def table(self) -> str:
        """The table or artifact that the driver's stage writes."""
        found = _NAME.fullmatch(self.name)
        return found[1] if found else self.name


def new_name(table: str, recipe: str) -> str:
    """The name of a new file for the stage that writes a table."""
    return f"{checked_name(table)}-{checked_recipe(recipe)}-{uuid4().hex}.json"


def list_drivers(store: Store, table: str = "", recipe: str = "") -> list[Listed]:
    """The files of all drivers, or of those that work on one table; one request.

    Raises:
        Transient: the store failed.
    """
    folder = store.path(DRIVERS)
    with store_errors(f"listing {store.uri(DRIVERS)}"):
        store.filesystem.invalidate_cache(folder)
        try:
            infos = store.filesystem.ls(folder, detail=True)
        except FileNotFoundError:
            return []
    listed = [Listed(str(info["name"]).rpartition("/")[2], _version(info), changed_s(info)) for info in infos]
    prefix = f"{table}-{recipe}-" if table else ""
    return [file for file in listed if _NAME.fullmatch(file.name) and file.name.startswith(prefix)]


def read_drivers(store: Store, names: Iterable[str]) -> dict[str, DriverFile]:
    """The contents of some files, by name; those that are gone, or are of another version, are left out.

    Raises:
        Transient: the store failed.
    """
    paths = {store.path(DRIVERS, name): name for name in names}
    if not paths:
        return {}
    with store_errors(f"reading {store.uri(DRIVERS)}"):
        found = store.filesystem.cat(list(paths), on_error="return")
        for error in found.values():
            if isinstance(error, Exception) and not isinstance(error, FileNotFoundError):
                raise error
    read = {paths[path]: _parsed(data) for path, data in found.items() if isinstance(data, bytes) and path in paths}
    return {name: file for name, file in read.items() if file is not None}


def at_work(store: Store) -> list[tuple[Listed, DriverFile]]:
    """The drivers that may be at work: those that are not known to be dead.

    Raises:
        Transient: the store failed.
    """
    listed = list_drivers(store)
    files = read_drivers(store, [driver.name for driver in listed])
    found = ((driver, files.get(driver.name)) for driver in listed)
    return [(driver, file) for driver, file in found if file is not None and not file.process.is_known_dead()]


def write_driver(store: Store, name: str, file: DriverFile) -> None:
    """Write or renew a file.

    Raises:
        Transient: the store failed.
    """
    store.write(f"{DRIVERS}/{name}", file.model_dump_json().encode())


def remove_driver(store: Store, name: str) -> None:
    """Remove a file, if it is there.

    Raises:
        Transient: the store failed.
    """
    with store_errors(f"removing {store.uri(DRIVERS, name)}"):
        try:
            store.filesystem.rm_file(store.path(DRIVERS, name))
        except FileNotFoundError:
            pass


def _parsed(data: bytes) -> DriverFile | None:
    try:
        return DriverFile.model_validate_json(data)
    except ValidationError:
        return None


def _version(info: dict[str, Any]) -> tuple[str, ...]:
    return tuple(f"{name}={info[name]}" for name in sorted(info) if name.lower() in _VERSIONS)


def _created_s() -> float:
    return psutil.Process().create_time()


@cache
def _machine() -> str:
    """This boot of this machine, and the namespace of its process ids; elsewhere than on Linux the host's name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()
