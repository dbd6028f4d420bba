"""The first GOP decides: swept over rates, it gives every scheme an MCS and a rate near one CBR."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import pvsc_link
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.scenario.grid import Point
from pvsc_link.schemes.scheme import Scheme
from pvsc_link.sweep.builder import Plan
from pvsc_link.sweep.mcs_policy import McsChoice
from pvsc_link.sweep.runner import Progress, SweepRunner
from pvsc_link.sweep.store import SweepStore
from pvsc_link.transmit.request import Request
from pvsc_link.types import CodecFailure, InputError

#: Ratio to the target CBR that needs no word.
_NEAR = 1.1


@dataclass(frozen=True)
class Chosen:
    """How one scheme is sent: at which rate and MCS, and how that misses what was wanted."""

    label: str  # as the user named it
    scheme: Scheme
    point: Point
    mcs: McsChoice
    note: str = ""


@dataclass(frozen=True)
class _Trial:
    """The first GOP as sent at one rate."""

    point: Point
    row: dict[str, Any]

    @property
    def cbr(self) -> float:
        return self.row["cbr"]

    def miss(self, target: float) -> float:
        """Distance from a CBR, as a ratio's logarithm."""
        return abs(float(np.log(self.cbr / target)))


def choose(request: Request, plan: Plan, progress: Progress) -> list[Chosen]:
    """Rate and MCS of every scheme, from a sweep of the clip's first GOP.

    MCS: as the sweep chooses it (``sweep.mcs_choice``), from this one GOP. Rate: the one given,
    or the one whose CBR is nearest to the target: the rates of the plan are sent, then those
    about the place between them where interpolation says that the target lies.
    Raises ``InputError`` where a scheme cannot code the video.
    """
    trials = _sent(plan, plan.points, progress)
    by_entry = [[t for t in trials if t.point.entry == i] for i in range(len(request.schemes))]
    came = [_that_came(word, of) for word, of in zip(request.schemes, by_entry, strict=True)]
    first = sorted(came[0], key=lambda trial: trial.cbr)
    target = request.target_cbr or first[len(first) // 2].cbr
    between = [p for of in came for p in _between(of, _scheme(plan, of[0].point), target)]
    finer = _sent(plan, between, progress) if between else []
    chosen = []
    for index, (word, of) in enumerate(zip(request.schemes, came, strict=True)):
        more = [t for t in finer if t.point.entry == index and "cbr" in t.row]
        best = min([*of, *more], key=lambda trial: trial.miss(target))
        mcs = McsChoice(best.row["mcs"], best.row["bler"], of[0].row["mcs_role"])
        note = _note(word, [trial.cbr for trial in of], target) if len(of) > 1 else ""
        chosen.append(Chosen(word, _scheme(plan, best.point), best.point, mcs, note))
    return chosen


def _sent(plan: Plan, points: Sequence[Point], progress: Progress) -> list[_Trial]:
    """Rows of the first GOP; PSNR alone, which costs nothing."""
    scenario = plan.scenario.model_copy(update={"metrics": ["psnr"]})
    trial = Plan(scenario, list(points), plan.schemes)
    with TemporaryDirectory() as folder:
        store = SweepStore(Path(folder), version=pvsc_link.__version__)
        try:
            SweepRunner(trial, store, FrameMetrics(), progress).run()
            rows = store.finished()
        finally:
            store.close()
    return [_Trial(point, rows[point.point_id]) for point in points]


def _that_came(word: str, trials: Sequence[_Trial]) -> list[_Trial]:
    """Trials whose codec worked; raises ``InputError`` if none did."""
    came = [trial for trial in trials if trial.row["status"] not in CodecFailure.STATUSES]
    if came:
        return came
    row = trials[0].row
    raise InputError(
        f"scheme {word} cannot code this video ({row['status']})",
        found=row["note"],
        allowed="a codec that runs",
        remedy=f"Mend what it says, or leave {word} out.",
    )


def _between(trials: Sequence[_Trial], scheme: Scheme, target: float) -> list[Point]:
    """Points of the rates next to the one whose interpolated CBR is the target's, not yet sent.

    They keep the MCS that was chosen; nothing lies outside the rates that were sent.
    """
    known = {trial.point.rate: trial for trial in trials}
    rates = sorted(known)
    inside = [rate for rate in scheme.allowed_rates if rates[0] <= rate <= rates[-1]]
    log_cbr = np.interp(inside, rates, [np.log(known[rate].cbr) for rate in rates])
    place = int(np.argmin(np.abs(log_cbr - np.log(target))))
    nearest = min(trials, key=lambda trial: trial.miss(target))
    near = inside[max(place - 1, 0) : place + 2]
    new = [rate for rate in near if rate not in known]
    return [replace(nearest.point, rate=rate, mcs=nearest.row["mcs"]) for rate in new]


def _scheme(plan: Plan, point: Point) -> Scheme:
    return plan.schemes[point.entry, point.variant]


def _note(word: str, cbrs: Sequence[float], target: float) -> str:
    """What a reader must know of a scheme whose rates all lie to one side of the target."""
    least, most = min(cbrs), max(cbrs)
    if target < least / _NEAR:
        return f"{word} does not reach CBR {target:.3g}: its least is {least:.3g}"
    if target > most * _NEAR:
        return f"{word} does not reach CBR {target:.3g}: its most is {most:.3g}"
    return ""
