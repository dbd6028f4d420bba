"""When a point has met enough seeds: ``stop`` of a scenario."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from pvsc_link.metrics.statistics import mean_interval
from pvsc_link.scenario.grid import Point
from pvsc_link.scenario.schema import Scenario, Stop
from pvsc_link.types import CodecFailure


class Stopping:
    """Decides, from the rows of its earlier seeds, whether a point still has to be sent.

    The seeds that the scenario lists are always sent. Decisions rest on stored rows alone: a
    sweep that was interrupted goes on as if it had not been.
    """

    def __init__(self, scenario: Scenario):
        self._rule, self._listed = scenario.stop, set(scenario.seed)
        self._rows: dict[Point, list[Mapping[str, Any]]] = {}

    def note(self, point: Point, row: Mapping[str, Any]) -> None:
        """A finished row of ``point``."""
        if self._rule is not None:
            self._rows.setdefault(self.group(point), []).append(row)

    def settled(self, point: Point) -> bool:
        """Whether the point may be left out."""
        if self._rule is None or point.seed in self._listed:
            return False
        return is_enough(self._rule, self._rows.get(self.group(point), []))

    @staticmethod
    def group(point: Point) -> Point:
        """What all seeds of a point share."""
        return replace(point, seed=-1)


def is_enough(rule: Stop, rows: Iterable[Mapping[str, Any]]) -> bool:
    """Whether the rows of one point, a row per seed, meet one of the rule's bounds."""
    rows = list(rows)
    if any(row["status"] in CodecFailure.STATUSES for row in rows):
        return True  # another seed does not make an encoder work
    if rule.frame_errors and sum(row["frames_lost"] for row in rows) >= rule.frame_errors:
        return True
    if rule.seconds and sum(row["seconds"] for row in rows) >= rule.seconds:
        return True
    if rule.lpips_interval and len(rows) > 1:
        interval = mean_interval([row["lpips"] for row in rows])
        return interval.high - interval.low <= rule.lpips_interval
    return False
