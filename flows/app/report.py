"""The report of a workspace as one HTML page."""

from pathlib import Path

from aai.errors import BadConfig
from aai.report import page
from aai.workspace.store import store_errors
from tasks.runtime.run import Run
from tasks.views.report import REPORT, gather


def report(run: Run, path: Path | None = None, num_clips: int = 100) -> str:
    """Write the report and return its location, by default `report.html` in the workspace. No model is loaded.

    Raises:
        BadConfig: the page cannot be written, or a model of the configuration does not exist.
        Transient: the store failed.
    """
    text = page(gather(run, num_clips)).encode()
    if path is None:
        store = run.workspace.store
        with store_errors(f"writing {store.uri(REPORT)}"):
            store.filesystem.makedirs(store.path(), exist_ok=True)
            store.filesystem.pipe_file(store.path(REPORT), text)
        return store.uri(REPORT)
    try:
        path.write_bytes(text)
    except OSError as error:
        raise BadConfig(
            f"it cannot be written ({error.strerror}): name a file in a writable folder", key="--output", uri=str(path)
        ) from error
    return str(path)
