"""Outer loop link adaptation: the MCS follows the acknowledgements of what was sent before.

A position on a ladder of MCS goes down by ``step`` at each block that fails at its first
transmission and up by ``step * target / (1 - target)`` at each block that arrives. It stands still
on average where a share of ``target`` fails, whatever the channel is. This file loads no
TensorFlow.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from pvsc_link.types import InputError

#: Share of blocks that may fail at their first transmission (TS 38.214, 5.2.2.1 reports for 10 %).
OLLA_TARGET = 0.1
#: MCS that a block which fails costs.
OLLA_STEP = 0.25


class Adaptation(Protocol):
    """What says at which MCS the next transport is sent, and hears what became of it."""

    @property
    def mcs(self) -> int:
        """The MCS to send the next transport at."""

    def report(self, ok: Iterable[bool]) -> None:
        """Which blocks of the transport that was sent at ``mcs`` arrived at once."""


class OuterLoop:
    """Outer loop on a ladder of MCS.

    Parameters
    ----------
    ladder : indices of MCS, the slowest first
    start : the one of them to begin with
    target : share of blocks that may fail at their first transmission, between 0 and 1
    step : what a block that fails takes off the position, in MCS

    Raises ``InputError`` for a start that is not on the ladder, and for a target or step out of
    range.

    Example
    -------
    >>> loop = OuterLoop(ladder=[0, 1, 2, 3], start=2, step=0.5)
    >>> loop.report([True, False])
    >>> loop.mcs, loop.mean_mcs
    (1, 2.0)
    """

    def __init__(
        self,
        ladder: Sequence[int],
        start: int,
        target: float = OLLA_TARGET,
        step: float = OLLA_STEP,
    ):
        if start not in ladder:
            raise InputError(
                "first MCS of the outer loop",
                found=start,
                allowed=list(ladder),
                remedy="Begin with an MCS of the ladder.",
            )
        if not 0.0 < target < 1.0 or step <= 0.0:
            raise InputError(
                "target and step of the outer loop",
                found=(target, step),
                allowed="a target between 0 and 1, a step above 0",
                remedy=f"{OLLA_TARGET} and {OLLA_STEP} are the defaults.",
            )
        self._ladder, self._down = list(ladder), step
        self._up = step * target / (1.0 - target)
        # In the middle of its step of the ladder, so that one block more or less changes nothing.
        self._position = self._ladder.index(start) + 0.5
        self._used: list[int] = []

    @property
    def mcs(self) -> int:
        """The MCS to send the next transport at."""
        return self._ladder[min(math.floor(self._position), len(self._ladder) - 1)]

    @property
    def mean_mcs(self) -> float:
        """Mean index over the transports that were reported; NaN before the first one."""
        return float(np.mean(self._used)) if self._used else math.nan

    def report(self, ok: Iterable[bool]) -> None:
        """Blocks of one transport that was sent at ``mcs``: which arrived at once."""
        self._used.append(self.mcs)
        for arrived in ok:
            moved = self._position + (self._up if arrived else -self._down)
            self._position = min(max(moved, 0.0), float(len(self._ladder)))


class FixedMcs:
    """One MCS for all transports."""

    def __init__(self, mcs: int):
        self.mcs = mcs

    def report(self, ok: Iterable[bool]) -> None:
        """Changes nothing."""


def as_adaptation(mcs: int | Adaptation) -> Adaptation:
    """An index becomes a ``FixedMcs``."""
    return FixedMcs(mcs) if isinstance(mcs, int) else mcs
