"""One scheme on the link: a GOP in, what the receiver shows out, and the sums so far."""

from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

from pvsc_link.metrics import METRICS, FrameMetrics
from pvsc_link.schemes import latency_columns
from pvsc_link.sweep import GOPS, finished_row, gop_seed, link_options
from pvsc_link.transmit.request import Chosen
from pvsc_link.types import LinkStats, Reception, Video

#: Columns of a row that add up over GOPs; every other number is a mean over frames.
COUNTS = (
    *("num_frames", "num_blocks", "num_block_errors", "num_fades"),
    *("frames_lost", "frames_concealed", "freeze_events", "deadline_misses"),
    *("side_lost", "out_of_step", "num_retransmissions"),
)


class Sender:
    """Sends GOP after GOP and keeps sums, and of every frame its latency alone.

    The realisation of GOP g is that of a sweep's point of the same clip, channel and seed: all
    schemes meet the same one.

    Parameters: ``metrics`` : names of ``METRICS``.
    """

    def __init__(self, chosen: Chosen, metrics: Sequence[str]):
        self.chosen, self.label = chosen, chosen.label
        self._metrics = metrics
        self._gop: Any = None
        self._sums: dict[str, Any] = {}
        self._stats = LinkStats()
        self._latency_ms: list[float] = []
        point, mcs = chosen.point, chosen.mcs.mcs
        assert mcs is not None  # packets are refused
        self._receptions = chosen.scheme.stream(
            self._encoded(),
            point.channel_point,
            link_options(point),
            mcs,
            (gop_seed(point, index) for index in count()),
        )

    def encode(self, video: Video, first: int) -> None:
        """Code the GOP that begins at frame ``first`` of ``video`` and ends it."""
        gop = len(video.frames) - first
        self._gop = self.chosen.scheme.encode_gop(video, first, gop, self.chosen.point.rate)

    def receive(self) -> Reception:
        """Send the GOP that was coded last."""
        return next(self._receptions)

    def measure(
        self, gop: Video, reception: Reception, frame_metrics: FrameMetrics
    ) -> dict[str, Any]:
        """The GOP's row, as in ``points.csv``; it is added to :meth:`totals`.

        The last GOP of a video may be too short for a metric and lacks its column then.
        """
        point, mcs = self.chosen.point, self.chosen.mcs
        metrics = [m for m in self._metrics if len(gop.frames) >= METRICS[m].fewest_frames]
        row = finished_row(point, mcs, [reception], gop, frame_metrics, metrics)
        del row[GOPS]  # of one GOP the row says it all
        self._add(row)
        self._stats = LinkStats.joined([self._stats, reception.stats])
        self._latency_ms += reception.latency_ms
        budget_ms = point.transport.latency_budget_ms
        self._sums |= self._stats.columns() | latency_columns(self._latency_ms, budget_ms)
        return row

    def totals(self) -> dict[str, Any]:
        """The row of everything sent so far."""
        return dict(self._sums)

    @property
    def command(self) -> str:
        """Literal codec options of the last GOP."""
        return f"{self._gop.command}  [{self._gop.version}]"

    def _encoded(self) -> Iterator[Any]:
        while True:
            yield self._gop

    def _add(self, row: dict[str, Any]) -> None:
        before = self._sums
        if not before:
            self._sums = dict(row)
            return
        frames = before["num_frames"] + row["num_frames"]
        measured = {metric.column for metric in METRICS.values()}
        for name in row:
            if name in COUNTS:
                # Without blocks of constant fading there is no number of fades.
                before[name] = None if row[name] is None else before[name] + row[name]
            elif name in measured or name == "cbr" or name.startswith("cbr_"):
                old = before[name] * (frames - row["num_frames"])
                before[name] = (old + row[name] * row["num_frames"]) / frames
        lost = before["frames_lost"] == frames
        before["status"] = _status([before["status"], row["status"]], lost=lost)


def _status(statuses: list[str], *, lost: bool) -> str:
    """Status of all GOPs together; ``outage`` only if not one frame of the video came."""
    own = [status for status in statuses if status not in ("ok", "outage")]
    return own[0] if own else "outage" if lost else "ok"
