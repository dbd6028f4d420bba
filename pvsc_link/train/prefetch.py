"""Batches made ahead in one thread, so that decoding and cutting never hold up a step."""

import queue
import threading
from collections.abc import Callable
from typing import Any


class Prefetcher:
    """Calls ``make(step)`` for successive steps in a thread, ``depth`` batches ahead.

    Parameters
    ----------
    make : step -> batch; an exception in it is raised by ``next``
    first, last : steps first, ..., last - 1
    """

    def __init__(self, make: Callable[[int], Any], first: int, last: int, depth: int = 4):
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make, first, last), daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """The next batch, waiting for it if need be."""
        batch = self._queue.get()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def close(self) -> None:
        """Stop the thread and drop what it made."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _work(self, make: Callable[[int], Any], first: int, last: int) -> None:
        for step in range(first, last):
            if self._stop.is_set():
                return
            try:
                batch = make(step)
            except BaseException as error:
                self._queue.put(error)
                return
            self._queue.put(batch)
