"""What a step costs, phase by phase: is data ever the bottleneck, and how many clips per second."""

import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

from pvsc_link.train.batches import BatchMaker
from pvsc_link.train.config import TrainConfig, gop_at
from pvsc_link.train.data import open_cache
from pvsc_link.train.phase import Phase, WeightStore

_WIDTHS = (18, 4, 6, 6, 12, 9, 9, 9)
_NAMES = ("phase", "GOP", "crop", "batch", "first step", "step", "data", "clips")
_UNITS = ("", "", "", "", "cpu-s", "cpu-s", "cpu-s", "/cpu-s")


def measure(config: TrainConfig, num_steps: int = 6) -> Iterator[str]:
    """A line per phase: CPU seconds of the first step (tracing), of a step, of making its batch.

    CPU time, not wall time: a busy machine stretches the latter. The data run in a thread of
    their own, so they hold up training only where they cost more than the step. Weights are
    those that training would start with, and are not kept.
    """
    yield _line(_NAMES)
    yield _line(_UNITS)
    store, cache, first = WeightStore(), open_cache(config.data), 0
    for entry in config.phases:
        phase = Phase(config, entry, store, cache)
        fixed = None if phase.inter is None else phase.intra.config
        maker = BatchMaker(config, entry, phase.model.config, fixed, cache, first)
        steps = range(min(num_steps, max(2, entry.steps // len(entry.gop))))
        data, batches = zip(*(_timed(maker.make, step) for step in steps), strict=True)
        costs = [_timed(phase.step, batch)[0] for batch in batches]
        step, making = statistics.median(costs[1:]), statistics.median(data)
        measured = (f"{costs[0]:.1f}", f"{step:.3f}", f"{making:.3f}", f"{entry.batch / step:.1f}")
        yield _line((entry.name, gop_at(entry, 0), entry.crop, entry.batch, *measured))
        phase.keep()
        first += entry.steps


def _line(cells: tuple[object, ...]) -> str:
    first, *rest = (str(cell) for cell in cells)
    return first.ljust(_WIDTHS[0]) + "".join(
        cell.rjust(width) for cell, width in zip(rest, _WIDTHS[1:], strict=True)
    )


def _timed(function: Callable, argument: Any) -> tuple[float, Any]:
    start = time.process_time()
    result = function(argument)
    return time.process_time() - start, result
