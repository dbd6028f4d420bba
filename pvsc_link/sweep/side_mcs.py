"""The MCS of a semantic scheme's side information: that of the baseline it is compared with."""

from collections.abc import Iterable
from dataclasses import asdict

from pvsc_link.link.bler import measure_bler
from pvsc_link.scenario.grid import Point
from pvsc_link.schemes.semantic import side_link_options
from pvsc_link.sweep.builder import Plan, link_options, scheme_label
from pvsc_link.sweep.mcs_choice import fastest_clean
from pvsc_link.sweep.mcs_policy import CHOSEN, GIVEN, MAX_BLOCKS, TARGET_ERRORS, McsChoice
from pvsc_link.sweep.store import SweepStore


class SideMcsPolicy:
    """Chooses the MCS of the side link at the points of one clip and GOP length.

    ``mcs: best`` (and ``envelope``) takes the MCS that the anchor's row of the same channel
    condition has; else that of the first separated entry that has one; else, where no baseline
    was sent, the fastest MCS without a block error in a BLER measurement.

    Parameters: ``store`` holds the baselines' rows: they are sent before.
    """

    def __init__(self, plan: Plan, store: SweepStore, clip: str, gop: int):
        self._store = store
        self._baselines: dict[tuple, list[Point]] = {}
        here = [p for p in plan.points if (p.clip, p.gop) == (clip, gop)]
        digital = [p for p in here if plan.schemes[p.entry, p.variant].digital]
        for point in sorted(digital, key=lambda p: not _is_anchor(p, plan.scenario.anchor)):
            self._baselines.setdefault(_condition(point), []).append(point)

    def choices(self, point: Point) -> list[McsChoice]:
        """The one MCS of the point."""
        if isinstance(point.mcs, int):
            return [McsChoice(point.mcs, self._bler(point, point.mcs), GIVEN)]
        mcs = self._of_baseline(self._baselines.get(_condition(point), []))
        if mcs is None:
            mcs = fastest_clean(lambda index: self._bler(point, index))
        return [McsChoice(mcs, self._bler(point, mcs), CHOSEN)]

    def _of_baseline(self, baselines: Iterable[Point]) -> int | None:
        rows = (self._store.row(point.point_id) for point in baselines)
        return next((row["mcs"] for row in rows if row is not None and "mcs" in row), None)

    def _bler(self, point: Point, mcs: int) -> float:
        return measure_bler(
            mcs,
            point.channel_point,
            **asdict(side_link_options(link_options(point))),
            target_errors=TARGET_ERRORS,
            max_blocks=MAX_BLOCKS,
        ).bler


def _condition(point: Point) -> tuple:
    return (point.channel_point, point.decoder, point.num_iter)


def _is_anchor(point: Point, anchor: str | None) -> bool:
    return anchor in (point.scheme, scheme_label(point.scheme, point.variant))
