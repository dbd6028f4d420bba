"""Shows how far a sweep is: a bar on a terminal, elsewhere a line per minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from pvsc_link.sweep.estimate import duration

#: Called before each step with rows done, rows in all, and what is happening.
Progress = Callable[[int, int, str], None]
#: Seconds between two lines where there is no terminal.
LINE_SECONDS = 60.0


class _Lines:
    """Prints at most a line per ``LINE_SECONDS``: rows, stage, and the time that is left.

    The time left follows from the rows that were finished since the start, so there is none before
    the first of them.
    """

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic):
        self._console, self._clock = console, clock
        self._start = self._last = clock()
        self._first: int | None = None

    def __call__(self, done: int, total: int, stage: str) -> None:
        now = self._clock()
        self._first = done if self._first is None else self._first
        if now - self._last < LINE_SECONDS:
            return
        self._last = now
        rate = (done - self._first) / (now - self._start)
        left = f", about {duration((total - done) / rate)} left" if rate else ""
        text = f"{done} of {total} rows after {duration(now - self._start)}{left}: {stage}"
        self._console.print(text, markup=False, soft_wrap=True)


@contextmanager
def shown_progress(console: Console, total: int) -> Iterator[Progress]:
    """A function that is told how far the sweep is, and shows it on ``console``."""
    if not console.is_terminal:
        yield _Lines(console)
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
