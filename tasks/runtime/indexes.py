"""The index artifact for workers that need it."""

import shutil
import tempfile
import weakref
from pathlib import Path

from aai.errors import BadConfig
from aai.retrieve.image_index import ImageIndex
from tasks.runtime.stage import Context
from tasks.runtime.work import Worker


def open_index(context: Context, owner: Worker) -> tuple[ImageIndex, int]:
    """The newest index and its version; an index from a bucket is removed with its owner.

    Raises:
        BadConfig: there is none.
    """
    newest = context.workspace.newest_artifact("index", context.recipes["index"])
    if newest is None:
        raise BadConfig("there is no index of them yet: run `aai build`", key="images")
    folder = tempfile.mkdtemp(prefix="aai-index-")
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    return ImageIndex(newest.fetch(Path(folder)), newest.uri), newest.version
