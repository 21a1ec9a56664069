"""What may come of any input: a result, or one of the errors that this project raises on purpose."""

import faulthandler
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn, TypeVar

from aai.errors import AaiError, BadConfig, BadItem, Transient

MAX_TIME_S = 5
MAX_WAIT_S = 120
HANG = Path(tempfile.gettempdir()) / "aai-fuzz-hang.txt"
"""Where the process writes what hung before it ends; pytest's own output is lost then."""

MAX_GROWTH_KB = 2**20
MAX_SENTENCE_CHARS = 4_000

Result = TypeVar("Result")


def outcome_of(call: Callable[[], Result]) -> Result | AaiError:
    """The result of a call, or its error, within the limits on time and memory; any other exception fails the test."""
    before_kb = _peak_kb()
    with _time_limit():
        try:
            result: Result | AaiError = call()
        except (BadItem, Transient, BadConfig) as error:
            _check_sentence(error)
            result = error
    assert _peak_kb() - before_kb < MAX_GROWTH_KB, "it takes more than 1 GB"
    return result


def _check_sentence(error: AaiError) -> None:
    """Whether it can be printed and stored."""
    assert error.sentence and len(str(error)) < MAX_SENTENCE_CHARS
    str(error).encode()


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@contextmanager
def _time_limit() -> Iterator[None]:
    """Stop Python code that takes too much of the processor's time; waiting or compiled code ends the process."""
    before = signal.signal(signal.SIGPROF, _stop)
    signal.setitimer(signal.ITIMER_PROF, MAX_TIME_S)
    hang = HANG.open("w")
    faulthandler.dump_traceback_later(MAX_WAIT_S, exit=True, file=hang)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        faulthandler.cancel_dump_traceback_later()
        hang.close()


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise AssertionError(f"it takes more than {MAX_TIME_S} s of the processor's time")
