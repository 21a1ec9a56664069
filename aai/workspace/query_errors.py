"""What DuckDB raises when it reads the tables, as our errors."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

from aai.errors import BadConfig, Transient
from aai.store_errors import of_text

_NO_SUCH_FILE = re.compile(r"No files found that match|No such file or directory")
_NOT_PARQUET = re.compile(r"magic bytes|too small to be a Parquet|TProtocolException|[Cc]orrupt|footer length")
_PARQUET_FILE = re.compile(r"[^\s\"']+\.parquet")
_PYTHON_ERROR = re.compile(r"[A-Za-z_][\w.]*(Error|Exception|Timeout)?: ")


@contextmanager
def reading() -> Iterator[None]:
    """Context manager: translate DuckDB's errors.

    Raises:
        Transient: the store failed, the disk is full, or a data file is gone.
        BadConfig: a data file is damaged, or access was refused.
    """
    doing = "reading the workspace"
    try:
        yield
    except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
        if _NO_SUCH_FILE.search(str(error)):
            sentence = "a data file is gone: if another program does not prune the bank now, copy the file back"
            raise Transient(sentence, uri=_parquet_file(error)) from error
        raise of_text(f"{type(error).__name__}: {error}", doing) from error
    except duckdb.InvalidInputException as error:
        if not _NOT_PARQUET.search(str(error)):
            raise
        sentence = "a data file of the bank is damaged: copy it back, or build into a new folder"
        raise BadConfig(sentence, key="workspace", uri=_parquet_file(error)) from error
    except duckdb.Error as error:
        if type(error) is not duckdb.Error:
            raise
        raise of_text(_raised_by_store(error), doing) from error  # by Python, where DuckDB reads a bucket


def _parquet_file(error: duckdb.Error) -> str | None:
    """The data file that a message names."""
    named = _PARQUET_FILE.search(str(error))
    return named.group() if named else None


def _raised_by_store(error: duckdb.Error) -> str:
    """The last line of a Python traceback, `class: message`, within a message of DuckDB."""
    lines = [line for line in str(error).splitlines() if _PYTHON_ERROR.match(line)]
    return lines[-1] if lines else f"{type(error).__name__}: {error}"
