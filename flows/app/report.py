"""The report of a workspace as one HTML page."""

from pathlib import Path

from aai.report import page
from flows.app.output import check_output, write_output
from tasks.runtime.run import Run
from tasks.views.report import REPORT, gather

_OUTPUT = "--output"
_MARK = b"<title>AAI report"
"""Bytes that each report has."""


def report(run: Run, path: Path | None = None, num_clips: int = 100) -> str:
    """Write the report and return its location, by default `report.html` in the workspace. No model is loaded.

    Raises:
        BadConfig: the page cannot be written, or a model of the configuration does not exist.
        Transient: the store failed.
    """
    if path is not None:
        check_output(path, _OUTPUT, lambda data: _MARK in data)
    text = page(gather(run, num_clips)).encode()
    if path is None:
        run.workspace.store.write(REPORT, text)
        return run.workspace.store.uri(REPORT)
    write_output(path, text, _OUTPUT)
    return str(path)
