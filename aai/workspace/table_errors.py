"""Errors of Delta and Arrow, translated into this project's."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa
from deltalake.exceptions import CommitFailedError, DeltaError, DeltaProtocolError, SchemaMismatchError

from aai.errors import BadConfig, Transient
from aai.store_errors import of_text, store_errors

_IS_DAMAGED = re.compile(r"Json error|No table metadata|InvalidJson|Invalid JSON|Parquet error|Malformed")
_DAMAGED = "the table's {} is damaged: copy its folder back from a backup, or build into a new folder"
_GONE = "a file is gone: if another program does not prune the bank now, copy it back"


@contextmanager
def table_errors(doing: str, uri: str, *passing: type[DeltaError]) -> Iterator[None]:
    """Translate errors of Delta, Arrow and the store about a table, but for those of some classes.

    Raises:
        Transient: the store failed, the disk is full, a data file is gone, or another run wrote at the same time.
        BadConfig: the table is damaged, or access was refused.
    """
    doing = f"{doing} {uri}"
    try:
        with store_errors(doing):
            yield
    except (DeltaProtocolError, SchemaMismatchError):
        raise
    except passing:
        raise
    except CommitFailedError as error:
        raise Transient(f"{doing} failed: another run wrote at the same time: run it again") from error
    except DeltaError as error:
        if not _IS_DAMAGED.search(str(error)):
            raise of_text(f"{type(error).__name__}: {error}", doing) from error
        raise BadConfig(_DAMAGED.format("log"), key="workspace", uri=uri) from error
    except pa.ArrowInvalid as error:
        raise BadConfig(_DAMAGED.format("data"), key="workspace", uri=uri) from error
    except FileNotFoundError as error:
        raise Transient(f"{doing} failed: {_GONE}") from error
