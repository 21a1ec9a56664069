"""Reads items in threads, ahead of the model: while it works on a batch, the next ones are opened, decoded and resized.

Pillow, soundfile, soxr and file systems release the interpreter's lock, so threads are enough, and no decoded item is
copied between processes.
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from threading import Lock
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from aai.errors import BadItem
from tasks.runtime.process import num_threads

if TYPE_CHECKING:
    import torch

Row = Mapping[str, Any]
Value = TypeVar("Value")
Given = TypeVar("Given")
Batch = list[tuple[Row, Any]]

_MIN_THREADS = 4
_NUM_BATCHES_AHEAD = 2


class Loader(Generic[Value]):
    """Loads rows in threads, in their order.

    Args:
        load: opens one row.
        reject: called, in the thread that iterates, with a row and the `BadItem` that `load` raised.
        num_threads: threads that load; by default the worker's share of the CPU cores.
    """

    def __init__(
        self, load: Callable[[Row], Value], reject: Callable[[Row, BadItem], None], num_threads: int | None = None
    ) -> None:
        self._load, self._reject = load, reject
        self._num_threads = num_threads or default_threads()

    def loaded(self, rows: Iterable[Row], num_ahead: int) -> Generator[tuple[Row, Value]]:
        """Loaded rows one by one; at most `num_ahead` are begun before the first of them is taken.

        Raises:
            Transient: the store failed.
        """
        pool = ThreadPoolExecutor(self._num_threads, "loader")
        try:
            for row, future in _in_order(pool, self._load, rows, num_ahead):
                try:
                    value = future.result()
                except BadItem as error:
                    self._reject(row, error)
                else:
                    yield row, value
        finally:
            pool.shutdown(cancel_futures=True)

    def batches(self, rows: Iterable[Row], size: int) -> Generator[list[tuple[Row, Value]]]:
        """Loaded rows in batches of `size`, of which the last may be smaller; three at most are held.

        Raises:
            Transient: the store failed.
        """
        batch: list[tuple[Row, Value]] = []
        with closing(self.loaded(rows, size * _NUM_BATCHES_AHEAD + self._num_threads)) as loaded:
            for each in loaded:
                batch.append(each)
                if len(batch) == size:
                    yield batch
                    batch = []
            if batch:
                yield batch

    def stacked(self, rows: Iterable[Row], size: int) -> Iterator[tuple[list[Row], "torch.Tensor"]]:
        """As `batches`, of arrays; the next batch is stacked while the model works on this one.

        Those of a batch have one shape, so that nothing is padded; where shapes differ, two further batches are held,
        and rows of different shapes change their order. With a GPU the tensors are pinned, so that copying them does
        not stop the model.
        """
        return ahead(map(_stacked, _of_one_shape(self.batches(rows, size), size)))


def default_threads() -> int:
    """The worker's share of the processor cores, or a few more: threads that wait for a store need no core."""
    return max(_MIN_THREADS, num_threads())


def _of_one_shape(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Rows in batches of one shape, full ones where two batches that wait have enough of a shape."""
    waiting: dict[tuple[int, ...], Batch] = {}
    for batch in batches:
        for row, value in batch:
            of_shape = waiting.setdefault(value.shape, [])
            of_shape.append((row, value))
            if len(of_shape) == size:
                yield waiting.pop(value.shape)
        if sum(map(len, waiting.values())) > size * _NUM_BATCHES_AHEAD:
            yield waiting.pop(max(waiting, key=lambda shape: len(waiting[shape])))
    yield from waiting.values()


def _stacked(batch: Sequence[tuple[Row, Any]]) -> tuple[list[Row], "torch.Tensor"]:
    import torch  # plans do not need it

    values = [value for _, value in batch]
    dtype = torch.from_numpy(values[0][:0]).dtype
    stacked = torch.empty((len(values), *values[0].shape), dtype=dtype, pin_memory=torch.cuda.is_available())
    np.stack(values, out=stacked.numpy())  # no second copy to pin it
    return [row for row, _ in batch], stacked


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Given], Value], given: Iterable[Given], num_ahead: int
) -> Iterator[tuple[Given, Future[Value]]]:
    """Calls of a function in threads, in order; at most `num_ahead` are begun before the first of them is taken."""
    waiting: deque[tuple[Given, Future[Value]]] = deque()
    for each in given:
        waiting.append((each, pool.submit(function, each)))
        if len(waiting) > num_ahead:
            yield waiting.popleft()
    yield from waiting


def ahead(values: Iterable[Value]) -> Iterator[Value]:
    """The values, each of which is made in a thread while the one before is used."""
    iterator = ([value] for value in values)
    with ThreadPoolExecutor(1, "ahead") as pool:
        future = pool.submit(next, iterator, None)
        while (made := future.result()) is not None:
            future = pool.submit(next, iterator, None)
            yield from made


class RecentResults(Generic[Value]):
    """Remembers the last results of a function for several threads; of equal calls at a time one does the work."""

    def __init__(self, function: Callable[..., Value], num: int) -> None:
        self._function, self._num = function, num
        self._futures: OrderedDict[Hashable, Future[Value]] = OrderedDict()
        self._lock = Lock()

    def __call__(self, *key: Any) -> Value:
        """The result of the function.

        Raises:
            BaseException: what the function raised.
        """
        with self._lock:
            is_new = key not in self._futures
            future = self._futures.setdefault(key, Future())
            while len(self._futures) > self._num:
                self._futures.popitem(last=False)
        if is_new:
            try:
                future.set_result(self._function(*key))
            except BaseException as error:  # noqa: BLE001 - raised by `result`, in each thread that waits
                future.set_exception(error)
        return future.result()
