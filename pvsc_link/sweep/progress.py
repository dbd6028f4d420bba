"""Shows how far a sweep is: a bar on a terminal, elsewhere a line per minute."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pvsc_link.sweep.estimate import duration

#: Called at each step with rows done, rows in all, and what is being done.
Progress = Callable[[int, int, str], None]
#: Seconds between two lines where there is no terminal.
LINE_SECONDS = 60.0


class _Lines:
    """A line per minute where there is no terminal: rows, stage, and the time that is left.

    A call notes how far the sweep is; ``show`` prints the latest note, so that a long stage, such
    as the measurement of a block error rate, is told while it lasts. The time left follows from the
    rows that were finished since the first note, so there is none before the first of them.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic):
        self._console, self._clock = console, clock
        self._start = clock()
        self._first: int | None = None
        self._latest: tuple[int, int, str] | None = None

    def __call__(self, done: int, total: int, stage: str) -> None:
        self._first = done if self._first is None else self._first
        self._latest = done, total, stage

    def show(self) -> None:
        """Print the latest note, if there is one."""
        if self._latest is None or self._first is None:
            return
        done, total, stage = self._latest
        seconds = self._clock() - self._start
        rate = (done - self._first) / seconds
        left = f", about {duration((total - done) / rate)} left" if rate else ""
        text = f"{done} of {total} rows after {duration(seconds)}{left}: {stage}"
        self._console.print(text, markup=False, soft_wrap=True)


@contextmanager
def _every(seconds: float, show: Callable[[], None]) -> Iterator[None]:
    """Call ``show`` from a thread at this interval while the block runs."""
    ended = threading.Event()

    def work() -> None:
        while not ended.wait(seconds):
            show()

    thread = threading.Thread(target=work, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def shown_progress(console: Console, total: int) -> Iterator[Progress]:
    """A function that is told how far the sweep is, and shows it on ``console``."""
    if not console.is_terminal:
        lines = _Lines(console)
        with _every(LINE_SECONDS, lines.show):
            yield lines
        return
    bar = Bar(
        TextColumn("{task.description:<48.48}", markup=False),  # names may hold brackets
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    with bar:
        task = bar.add_task("", total=total)
        yield lambda done, _, stage: bar.update(task, completed=done, description=stage)
