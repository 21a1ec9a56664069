"""Whether other nodes see the folders of a configuration."""

import os
from pathlib import Path

import psutil

from aai.errors import BadConfig
from tasks.runtime.config import Config

_KEYS = ("workspace", "audio", "images", "metadata")
_NETWORK = ("nfs", "lustre", "gpfs", "beegfs", "ceph", "cifs", "smb", "gluster", "weka", "panfs", "orangefs", "fuse.")
"""File systems that are mounted on many nodes, by the beginnings of their names."""


def check_places(config: Config) -> None:
    """Check that every location of a configuration is a bucket, or on a file system that other nodes see.

    Raises:
        BadConfig: one is on a local disk, and `submit.shared_disk` is not set; `key` is that of the location.
    """
    if config.submit.shared_disk or config.submit.volumes:
        return
    for key in _KEYS:
        value = getattr(config, key)
        for location in (value,) if isinstance(value, str) else value:
            if "://" not in location and not _is_network(file_system_of(location)):
                raise BadConfig(
                    f"{os.path.abspath(location)} is on a disk of this machine ({file_system_of(location)}), which "
                    "other nodes do not see: name a bucket URL, or set submit.shared_disk if they do",
                    key=key,
                )


def file_system_of(location: str) -> str:
    """The kind of file system that a path is on, or will be on once it exists."""
    path = Path(os.path.abspath(location)).resolve()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    return next((mounts[folder] for folder in (path, *path.parents) if folder in mounts), "unknown")


def _is_network(kind: str) -> bool:
    return kind.startswith(_NETWORK)
