"""The MCS of a point: as the scenario says, or chosen by ``mcs_choice`` and remembered."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pvsc_link.link.bit_link import BitLink, get_bit_link
from pvsc_link.link.bler import measure_bler
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.metrics.registry import METRICS
from pvsc_link.scenario.grid import Point
from pvsc_link.sweep.builder import link_options
from pvsc_link.sweep.mcs_choice import (
    best_mcs,
    candidates,
    envelope_mcs,
    neighbours,
    useful_bits_per_use,
)
from pvsc_link.sweep.store import SweepStore
from pvsc_link.types import EncodedGop

#: A BLER is measured until this many block errors, or this many blocks without them.
TARGET_ERRORS, MAX_BLOCKS = 100, 2000


#: Why a row has its MCS: the scenario said so, the rule chose it, it stands beside the chosen one.
GIVEN, CHOSEN, NEIGHBOUR = "given", "chosen", "neighbour"


@dataclass(frozen=True)
class McsChoice:
    """An MCS to send at, its measured BLER and its role."""

    mcs: int
    bler: float
    role: str


class McsPolicy:
    """Chooses the MCS of every point of one codec on one clip at one GOP length.

    Parameters: ``curve`` : encoded GOPs by rate; ``frames`` : uint8
    ``[num_frames, height, width, 3]``; choices are facts of ``store``, so a restart finds them.
    """

    def __init__(
        self,
        curve: Mapping[int, Sequence[EncodedGop]],
        frames: np.ndarray,
        frame_metrics: FrameMetrics,
        store: SweepStore,
    ):
        self._curve, self._frames = curve, frames
        self._frame_metrics, self._store = frame_metrics, store

    def choices(self, point: Point) -> list[McsChoice]:
        """The point's MCS first; where it was chosen, its neighbours in spectral efficiency too.

        The neighbours' real bits are sent as well, so that the table shows what was passed over.
        """
        if isinstance(point.mcs, int):
            return [McsChoice(point.mcs, self._bler(point, point.mcs), GIVEN)]
        worth, blers = self._worth(point)
        mcs = best_mcs(worth) if point.mcs == "best" else envelope_mcs(worth, point.rate)
        beside = [McsChoice(m, self._bler(point, m), NEIGHBOUR) for m in neighbours(mcs)]
        return [McsChoice(mcs, blers[mcs], CHOSEN), *beside]

    def _worth(self, point: Point) -> tuple[dict[int, dict[int, float]], dict[int, float]]:
        """Useful bits per channel use by MCS and rate, and BLER by MCS; computed once."""
        key = f"mcs_worth {self._condition(point)}"
        stored = self._store.fact(key)
        if stored is None:
            blers = candidates(lambda mcs: self._bler(point, mcs))
            links = {mcs: (self._link(point, mcs), bler) for mcs, bler in blers.items()}
            worth = useful_bits_per_use(self._curve, self._frames, links, self._quality(point))
            stored = [[mcs, blers[mcs], list(of_rate.items())] for mcs, of_rate in worth.items()]
            self._store.set_fact(key, stored)
        return {m: dict(map(tuple, rates)) for m, _, rates in stored}, {m: b for m, b, _ in stored}

    def _quality(self, point: Point):
        metric = METRICS[point.mcs_metric]
        sign = 1.0 if metric.higher_is_better else -1.0

        def quality(frames: np.ndarray, shown: np.ndarray) -> np.ndarray:
            values = self._frame_metrics.evaluate([point.mcs_metric], frames, shown)
            return sign * values[metric.column]

        return quality

    def _link(self, point: Point, mcs: int) -> BitLink:
        return get_bit_link(mcs, point.channel, **asdict(link_options(point)))

    def _bler(self, point: Point, mcs: int) -> float:
        return measure_bler(
            mcs,
            point.channel_point,
            **asdict(link_options(point)),
            target_errors=TARGET_ERRORS,
            max_blocks=MAX_BLOCKS,
        ).bler

    def _condition(self, point: Point) -> str:
        names = (
            "scheme variant options clip gop num_gops first_frame channel snr_db csi_nmse_db "
            "coherence_length equalizer csi_aware decoder num_iter mcs_metric"
        ).split()
        rates = sorted(self._curve)
        return " ".join(f"{name}={getattr(point, name)}" for name in names) + f" rates={rates}"
