"""The signals that end a run: Ctrl-C, `kill`, and a terminal that is closed."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event
from types import FrameType

Handler = Callable[[int, FrameType | None], object]

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def handled_by(handler: Handler) -> Iterator[None]:
    """Handle the signals that end a run, and restore the handlers that were there before.

    `nohup` ignores SIGHUP, which stays so. Only the main thread may handle signals; in another one nothing changes.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [number for number in _ENDING if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def stopping_on_signals(stop: Event) -> Iterator[None]:
    """Set `stop` at the first signal; afterwards restore the handlers and deliver the signal again.

    Only the main thread may handle signals. In another thread, the caller sets `stop`.
    """
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        received.append(number)
        stop.set()

    with handled_by(handle):
        yield
    if received:
        signal.raise_signal(received[0])
