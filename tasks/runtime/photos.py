"""Photos that jobs name as sources: found, known by their contents, and decoded again where they are edited."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from aai.errors import BadConfig, BadItem
from aai.identity import content_id, image_id
from aai.jobs.job import Job
from aai.media import images
from aai.media.files import IMAGE_SUFFIXES, File, find_files, read_bytes

_READERS = 8
"""Files that are read at a time: stores answer slowly, and at once."""


@dataclass(frozen=True)
class Photo:
    """A source, and perhaps where an edit of it is allowed; or why it cannot be used."""

    image_id: str
    image_uri: str
    mask_id: str | None = None
    mask_uri: str | None = None
    fault: str | None = None


def find_photos(job: Job) -> list[Photo]:
    """The photos of a job, in the order of their paths; each is read, as its contents are its id.

    Raises:
        BadConfig: at a place there are none, there are tars, or two masks have one name.
        Transient: the store failed.
    """
    files = _files(job, "source_images", job.source_images)
    masks: dict[str, File] = {}
    for file in _files(job, "source_masks", job.source_masks) if job.source_masks else ():
        name = _name(file)
        if name in masks:
            raise BadConfig(f"{job.place}: source_masks: two are called {name}, as {file.uri}: leave one out")
        masks[name] = file
    with ThreadPoolExecutor(_READERS) as readers:
        return list(readers.map(lambda file: _known(file, masks if job.source_masks else None), files))


def _files(job: Job, key: str, places: tuple[str, ...]) -> list[File]:
    found = find_files(f"{job.place}: {key}", places, IMAGE_SUFFIXES)
    for file in found:
        if file.is_tar:
            raise BadConfig(f"{job.place}: {key}: {file.uri} is a tar: unpack it")
    return found


def _known(file: File, masks: dict[str, File] | None) -> Photo:
    """A photo by its contents; one that cannot be read by its path, and why."""
    try:
        if file.fault:
            raise BadItem(f"{file.uri}: {file.fault}")
        key = image_id(read_bytes(file.uri))
        if masks is None:
            return Photo(key, file.uri)
        if (mask := masks.get(_name(file))) is None:
            raise BadItem(f"{file.uri}: no mask is called {_name(file)}: add one, or leave the photo out")
        return Photo(key, file.uri, image_id(read_bytes(mask.uri)), mask.uri)
    except BadItem as error:
        return Photo(content_id(file.uri.encode()), file.uri, fault=str(error))


def _name(file: File) -> str:
    return PurePosixPath(file.uri).stem


class Decoder:
    """Pictures by their ids and places; those of the last batch are remembered."""

    def __init__(self, options: images.ImageOptions) -> None:
        self._options = options
        self._last: dict[str, np.ndarray] = {}

    def __call__(self, wanted: Iterator[tuple[str, str]]) -> dict[str, np.ndarray]:
        """Pixels by id of pictures that are given by id and path.

        Raises:
            BadItem: one is gone, damaged, or was changed since it was found.
            Transient: the store failed.
        """
        self._last = {key: self._last[key] if key in self._last else self._decode(key, uri) for key, uri in wanted}
        return self._last

    def _decode(self, key: str, uri: str) -> np.ndarray:
        data = read_bytes(uri)
        if image_id(data) != key:
            raise BadItem(f"{uri}: the file was changed since it was found: run the same command again")
        return images.decode(data, uri, self._options).pixels
