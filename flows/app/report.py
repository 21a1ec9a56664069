"""A workspace -> one HTML page."""

from pathlib import Path

from aai.errors import BadConfig
from aai.report import page
from aai.workspace.store import store_errors
from tasks.runtime.run import Run
from tasks.views.report import REPORT, gather


def report(run: Run, path: Path | None = None, num_clips: int = 100) -> str:
    """Write the page about a run's configuration and say where it is; loads no model and starts no Ray.

    Raises:
        BadConfig: the page cannot be written there, or a model is not named rightly.
        Transient: the store failed.
    """
    text = page(gather(run, num_clips)).encode()
    if path is None:
        store = run.workspace.store
        with store_errors(f"writing {store.uri(REPORT)}"):
            store.filesystem.pipe_file(store.path(REPORT), text)
        return store.uri(REPORT)
    try:
        path.write_bytes(text)
    except OSError as error:
        raise BadConfig(f"{path}: it cannot be written ({error.strerror}): name a file in a folder that can") from error
    return str(path)
