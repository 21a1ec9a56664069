"""Whether other nodes see the folders of a configuration."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import fsspec
import psutil

from aai.errors import BadConfig
from flows.submit.submission import OUTPUT, Place, Submission

_MODEL = "models."
_WRITTEN = ("workspace", OUTPUT)
_NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "gluster", "weka", "panfs", "orangefs", "fuse.")
"""File systems that are mounted on many nodes, by the beginnings of their names."""


def place_faults(submission: Submission) -> Iterator[BadConfig]:
    """Locations of a submission that are neither buckets nor on a file system that other nodes see.

    Each is an error with the location's key; there are none if `submit.shared_disk` is set.
    """
    options = submission.options
    if options.shared_disk:
        return
    for place in submission.places:
        location = place.location.removeprefix("file://")
        if "://" in location:
            yield from _unknown(place)
            continue
        if _may_be_in_image(place, location):
            continue
        if not _is_network(kind := file_system_of(location)):
            other = "a folder on a disk that they share" if _is_on_disk(place) else "a bucket URL"
            where = " in the file that its key `config` names" if submission.is_training else ""
            yield BadConfig(
                f"{os.path.abspath(location)} is on a disk of this machine ({kind}), which other nodes do not "
                f"see: name {other}, or set submit.shared_disk{where} if they do",
                key=place.key,
                uri=place.file,
            )


def pod_faults(submission: Submission) -> Iterator[BadConfig]:
    """Locations of a submission that are neither buckets nor in a volume: pods have none of this machine's disks.

    Each is an error with the location's key.
    """
    for place in submission.places:
        location = place.location.removeprefix("file://")
        if "://" in location:
            yield from _unknown(place)
        elif not (_is_below(location, submission.options.volumes.values()) or _may_be_in_image(place, location)):
            bucket = "" if _is_on_disk(place) else "name a bucket URL, or "
            yield BadConfig(
                f"{os.path.abspath(location)} is in no volume that pods mount, so they do not see it, or lose it: "
                f"{bucket}mount the volume that has it, at the same path (submit.volumes)",
                key=place.key,
                uri=place.file,
            )


def _is_on_disk(place: Place) -> bool:
    return place.key == OUTPUT or place.key.startswith(_MODEL)


def _may_be_in_image(place: Place, location: str) -> bool:
    return place.key.startswith(_MODEL) and not os.path.exists(location)


def missing_faults(submission: Submission) -> Iterator[BadConfig]:
    """Locations on disk that are read and do not exist, for targets whose nodes see the disk of this machine."""
    for place in submission.places:
        location = place.location.removeprefix("file://")
        if place.key in _WRITTEN or "://" in location or _exists(location):
            continue
        other = "a folder or file" if place.key.startswith(_MODEL) else "a folder, file, glob or URL"
        yield BadConfig(
            f"{os.path.abspath(location)} does not exist: name {other} that does",
            key=place.key,
            uri=place.file,
        )


def _exists(location: str) -> bool:
    return os.path.exists(location) or next(glob.iglob(location, recursive=True), None) is not None


def _unknown(place: Place) -> Iterator[BadConfig]:
    scheme, separator, _ = place.location.partition("://")
    if separator and scheme not in fsspec.available_protocols():
        yield BadConfig(
            f"{scheme}:// is no kind of place that is known: name a bucket URL", key=place.key, uri=place.file
        )


def _is_below(location: str, mounts: Iterable[str]) -> bool:
    return any(Path(os.path.abspath(location)).is_relative_to(mount) for mount in mounts)


def file_system_of(location: str) -> str:
    """The kind of file system that a path is on, or will be on once it exists."""
    path = Path(os.path.abspath(location)).resolve()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    return next((mounts[folder] for folder in (path, *path.parents) if folder in mounts), "unknown")


def _is_network(kind: str) -> bool:
    return kind.startswith(_NETWORK)
