"""Where the time of a sweep goes: wall seconds by stage, added up over restarts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from pvsc_link.sweep.store import SweepStore

_FACT = "seconds_by_stage"


class StageClock:
    """Adds up the seconds of named stages; the sums live in ``store`` and outlast a restart.

    Stages do not nest: each second belongs to one.
    """

    def __init__(self, store: SweepStore):
        self._store = store

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        """Count the block's wall time to ``stage``, also when it raises."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = self.seconds()
            seconds[stage] = round(seconds.get(stage, 0.0) + time.perf_counter() - start, 3)
            self._store.set_fact(_FACT, seconds)

    def seconds(self) -> dict[str, float]:
        """Seconds by stage so far."""
        return self._store.fact(_FACT) or {}
