"""Photos that jobs edit: listing, identification by content, and decoding."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np

from aai.errors import BadConfig, BadItem, Unavailable
from aai.identity import content_id, image_id
from aai.jobs.job import Job
from aai.media import images
from aai.media.files import File, find_files, read_bytes
from aai.media.kinds import IMAGE_SUFFIXES, count_kinds, left_aside

_log = logging.getLogger(__name__)

_NUM_READERS = 8
"""Threads that read files: a bucket has a long latency and serves many requests at a time."""


@dataclass(frozen=True)
class Photo:
    """A photo with its optional edit mask, or the reason why it cannot be used."""

    image_id: str
    image_uri: str
    mask_id: str | None = None
    mask_uri: str | None = None
    fault: str | None = None


def find_photos(job: Job) -> list[Photo]:
    """The photos of a job, sorted by path. Each is read, because its id is the digest of its contents.

    Raises:
        BadConfig: a location holds no photos, or tars, or two masks have the same name.
        Transient: the store failed.
    """
    files = _files(job, "source_images", job.source_images)
    masks: dict[str, File] = {}
    for file in _files(job, "source_masks", job.source_masks) if job.source_masks else ():
        name = _name(file)
        if name in masks:
            key = f"{job.position}: source_masks"
            raise BadConfig(f"two masks are called {name}: leave one out", key=key, uri=file.uri)
        masks[name] = file
    with ThreadPoolExecutor(_NUM_READERS) as readers:
        return list(readers.map(lambda file: _identify(file, masks if job.source_masks else None), files))


def _files(job: Job, key: str, locations: tuple[str, ...]) -> list[File]:
    place = f"{job.position}: {key}"
    found = find_files(place, locations, IMAGE_SUFFIXES)
    for file in found.files:
        if file.is_tar:
            raise BadConfig("photos are not read from tars: unpack it", key=place, uri=file.uri)
    if phrase := left_aside(count_kinds(found.left_aside)):
        _log.warning("%s: left aside %s", place, phrase)
    return found.files


def _identify(file: File, masks: dict[str, File] | None) -> Photo:
    """A photo with its id; if it cannot be read, its id is the digest of its path."""
    try:
        if file.fault:
            raise BadItem(file.fault, uri=file.uri)
        key = image_id(read_bytes(file.uri))
        if masks is None:
            return Photo(key, file.uri)
        if (mask := masks.get(_name(file))) is None:
            raise BadItem(f"no mask is called {_name(file)}: add one, or leave the photo out", uri=file.uri)
        return Photo(key, file.uri, image_id(read_bytes(mask.uri)), mask.uri)
    except BadItem as error:
        fault = error.sentence if error.uri == file.uri else str(error)  # the mask's path, if that is at fault
        return Photo(content_id(file.uri.encode()), file.uri, fault=fault)


def _name(file: File) -> str:
    return PurePosixPath(file.uri).stem


def decode_photo(key: str, uri: str, options: images.ImageOptions) -> np.ndarray:
    """The pixels of a picture.

    Raises:
        BadItem: the file is missing or damaged, or changed since it was listed.
        Transient: the store failed.
    """
    data = read_bytes(uri)
    if image_id(data) != key:
        raise Unavailable("the photo changed since its job was read: run `aai render` again", uri=uri)
    return images.decode(data, uri, options).pixels
