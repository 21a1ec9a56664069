"""A condition in SQL, in a process of its own: `python condition.py CONDITION COLUMNS SECONDS OUTPUT`.

DuckDB cannot be stopped within a function, and its lists ignore its memory limit; the system's limits hold for both.
Cues come as an Arrow stream on standard input, and those that meet the condition go to the output file. If the
condition cannot be used, the exit code is 3, and standard error has DuckDB's reason. This file imports nothing of the
project, so that it starts quickly.
"""

import resource
import signal
import sys
from typing import Any

import duckdb
import pyarrow as pa

MEMORY_BYTES = 2 * 2**30
_WAITING = 10
"""Maximum time in all, in multiples of the processor time."""
REFUSED, TOO_LARGE = 3, 4
"""Exit codes."""


def main(condition: str, columns: str, limit_s: str, output: str) -> int:
    """Write the cues that meet a condition; returns the exit code."""
    seconds = int(limit_s)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.alarm(_WAITING * seconds)  # SQL can sleep; the cues may come slowly
    config: dict[str, Any] = {
        "enable_external_access": "false",
        "threads": 1,
        "memory_limit": "1GB",
        "temp_directory": "",
    }
    try:
        with pa.ipc.open_stream(sys.stdin.buffer) as cues, duckdb.connect(config=config) as database:
            chosen = database.from_arrow(cues).filter(condition).project(columns).to_arrow_reader()
            with pa.OSFile(output, "wb") as sink, pa.ipc.new_stream(sink, chosen.schema) as stream:
                for batch in chosen:
                    stream.write_batch(batch)
    except (duckdb.OutOfMemoryException, MemoryError):
        return TOO_LARGE
    except duckdb.Error as error:
        sys.stderr.write(str(error))
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
