"""When the frames of a stream arrive: waiting, time on the air, and round trips of retransmissions.

A frame of index t is complete at t / fps. A transport is sent when all its frames are complete and
the transports before it have left the channel. It takes its channel uses, those of retransmissions
among them, over the symbol rate, and a round trip more for each further round of its last block.

    start = max(complete, end on the air of the transport before)
    end on the air = start + channel uses / symbol rate
    arrival = end on the air + round trip * (rounds - 1)
    latency of a frame = arrival - t / fps

While a transport waits for its round trip, the next one may be sent. Pilots take no time here: the
symbol rate counts the symbols between them. The time of coding and decoding is not counted.
"""

from collections.abc import Sequence

import numpy as np

from pvsc_link.link import Transport


class Clock:
    """Times of one stream, transport after transport.

    Parameters: ``transport`` : symbol rate, latency budget and round trip; ``fps`` : frames per
    second.
    """

    def __init__(self, transport: Transport, fps: float):
        self._rate_per_ms = transport.symbol_rate_hz / 1000.0
        self._budget = transport.latency_budget_ms
        self._round_trip = transport.harq.round_trip_ms if transport.harq else 0.0
        self._frame_ms = 1000.0 / fps
        self._num_frames = 0  # that were sent before
        self._free_ms = 0.0  # when the channel is free

    def sent(self, num_frames: int, num_channel_uses: int, rounds: int = 1) -> np.ndarray:
        """Latency of the frames of the next transport: [num_frames], ms.

        Parameters: ``num_channel_uses`` : of all its rounds, without pilots; ``rounds`` : the most
        that one of its blocks took.
        """
        complete = self._frame_ms * np.arange(self._num_frames, self._num_frames + num_frames)
        start = max(float(complete[-1]), self._free_ms)
        self._free_ms = start + num_channel_uses / self._rate_per_ms
        self._num_frames += num_frames
        return self._free_ms + self._round_trip * (rounds - 1) - complete

    def in_time(self, latency_ms: np.ndarray) -> np.ndarray:
        """Which frames keep the latency budget, bool like ``latency_ms``; all without a budget."""
        if self._budget is None:
            return np.ones(len(latency_ms), bool)
        return latency_ms <= self._budget

    def uses_left(self, num_frames: int) -> float | None:
        """Channel uses from the start of the next transport until its first frame is too late.

        Round trips are counted in them as well. None without a budget.
        """
        if self._budget is None:
            return None
        complete = self._frame_ms * (self._num_frames + num_frames - 1)
        waited = max(complete, self._free_ms) - self._frame_ms * self._num_frames
        return (self._budget - waited) * self._rate_per_ms


def latency_columns(latency_ms: Sequence[float], budget_ms: float | None) -> dict[str, float | int]:
    """Columns of a row: median, 95th percentile and largest latency, and frames over the budget.

    Nothing for a scheme that states no latency.
    """
    if not len(latency_ms):
        return {}
    median, late = np.percentile(latency_ms, [50, 95])
    misses = 0 if budget_ms is None else int(np.sum(np.asarray(latency_ms) > budget_ms))
    return {
        "latency_ms_p50": float(median),
        "latency_ms_p95": float(late),
        "latency_ms_max": float(np.max(latency_ms)),
        "deadline_misses": misses,
    }
