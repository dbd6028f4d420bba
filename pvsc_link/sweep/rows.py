"""From a point and what was received to one row of ``points.csv``."""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.link import Transport
from pvsc_link.metrics import FrameMetrics, channel_bandwidth_ratio
from pvsc_link.options import Mark, marked
from pvsc_link.scenario import PACKET_TRANSPORT, Point
from pvsc_link.schemes import latency_columns, scheme_types
from pvsc_link.storage import digest
from pvsc_link.sweep.mcs import McsChoice
from pvsc_link.sweep.store import CHOSEN, GOPS, MOSTLY_LOST, NEIGHBOUR
from pvsc_link.types import CodecFailure, LinkStats, Reception, Video


def link_seeds(point: Point, num_gops: int) -> list[int]:
    """A seed per GOP that fixes fading, CSI error and noise.

    It depends on the seed axis, the channel, its coherence length and the place in the video. It
    does not depend on scheme, rate, MCS, SNR or NMSE: at a point every scheme meets the same
    realisation (paired draws), and curves over SNR use common random numbers.
    """
    return [gop_seed(point, index) for index in range(num_gops)]


def gop_seed(point: Point, index: int) -> int:
    """The seed of GOP ``index`` alone (see :func:`link_seeds`).

    Of a clip that is given by its path only the name counts, so that it meets the same realisation
    in any folder.
    """
    clip, coherence_length = Path(point.clip).stem, point.channel_point.coherence_length
    place = (point.seed, point.channel, coherence_length, clip, point.gop, index)
    return int(digest(repr(place))[:8], 16) & 0x7FFFFFFF


def finished_row(
    point: Point,
    choice: McsChoice,
    receptions: Sequence[Reception],
    video: Video,
    frame_metrics: FrameMetrics,
    metrics: Sequence[str],
) -> dict[str, Any]:
    """The row of a point that was sent: CBR with its parts, mean quality, losses, status.

    Under ``GOPS`` stands a list with the numbers of each GOP, which ``gops.csv`` holds; the row of
    a neighbour of the chosen MCS has none.
    """
    frames_hat = np.concatenate([reception.frames_hat for reception in receptions])
    frames = video.frames[: len(frames_hat)]
    quality = frame_metrics.evaluate(metrics, frames, frames_hat, fps=video.fps)
    lost = sum(reception.frames_lost for reception in receptions)
    notes = (
        *(point.transport.note, _mostly_lost(point, choice)),
        *(reception.note for reception in receptions),
    )
    return {
        **_coordinates(point),
        "point_id": row_id(point, choice),
        "mcs": choice.mcs,
        **({} if choice.mean is None else {"mcs_mean": choice.mean}),
        "mcs_role": choice.role,
        "num_frames": len(frames),
        **(_byte_columns if point.is_packets else _cbr_columns)(receptions, frames.shape),
        **LinkStats.joined(reception.stats for reception in receptions).columns(),
        **{column: float(np.mean(values)) for column, values in quality.items()},
        "bler": choice.bler,
        **({} if point.is_packets else _block_columns(receptions)),
        "num_fades": _num_fades(point, receptions),
        "frames_lost": lost,
        "frames_concealed": sum(reception.frames_concealed for reception in receptions),
        "freeze_events": sum(reception.freeze_events for reception in receptions),
        **_latency(point, receptions),
        "status": _status(receptions, lost, len(frames)),
        "note": "; ".join(dict.fromkeys(filter(None, notes))),
        **_details(receptions),
        **({} if choice.role == NEIGHBOUR else {GOPS: _of_gops(point, receptions, quality)}),
    }


def _mostly_lost(point: Point, choice: McsChoice) -> str:
    """What a row says whose MCS was chosen, but fails more often than not."""
    if choice.role != CHOSEN or choice.bler is None or choice.bler <= MOSTLY_LOST:
        return ""
    return (
        f"MCS {choice.mcs}, chosen by the rule {point.mcs}, loses {100 * choice.bler:.0f} % of its "
        "blocks, so that most of what is shown is concealed"
    )


def _block_columns(receptions: Sequence[Reception]) -> dict[str, int]:
    return {
        "num_blocks": sum(reception.num_blocks for reception in receptions),
        "num_block_errors": sum(reception.num_block_errors for reception in receptions),
    }


def _byte_columns(
    receptions: Sequence[Reception], shape: tuple[int, ...]
) -> dict[str, float | None]:
    """Of packets, in place of CBR: bytes with headers per pixel, and the part of side packets."""
    num_pixels = math.prod(shape[:3])
    total = sum(map(_channel_uses, receptions))
    side = sum(reception.num_channel_uses.get("side", 0) for reception in receptions)
    return {
        "cbr": None,
        "bytes_per_pixel": total / num_pixels,
        "bytes_per_pixel_side": side / num_pixels,
    }


def _latency(point: Point, receptions: Sequence[Reception]) -> dict[str, float | int]:
    latency_ms = [one for reception in receptions for one in reception.latency_ms]
    return latency_columns(latency_ms, point.transport.latency_budget_ms)


def _of_gops(
    point: Point, receptions: Sequence[Reception], quality: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
    """Per GOP: its place, what it cost, its mean quality and its losses.

    A metric of whole clips counts with the values that the GOP's frames have within the clip.
    """
    ends = np.cumsum([len(reception.frames_hat) for reception in receptions])
    return [
        {
            "gop_index": index,
            "num_bytes" if point.is_packets else "channel_uses": _channel_uses(reception),
            **{
                column: float(np.mean(values[end - len(reception.frames_hat) : end]))
                for column, values in quality.items()
            },
            "frames_lost": reception.frames_lost,
            "frames_concealed": reception.frames_concealed,
            "latency_ms_max": max(reception.latency_ms, default=None),
        }
        for index, (reception, end) in enumerate(zip(receptions, ends, strict=True))
    ]


def _channel_uses(reception: Reception) -> int:
    return sum(reception.num_channel_uses.values())


def _num_fades(point: Point, receptions: Sequence[Reception]) -> int | None:
    """Independent fades that the point met: every GOP begins with a new one.

    None for a channel without blocks of constant fading.
    """
    length = point.channel_point.coherence_length
    if length is None:
        return None
    return sum(-(-_channel_uses(reception) // length) for reception in receptions)


def failed_row(point: Point, failure: CodecFailure) -> dict[str, Any]:
    """The row of a point whose codec failed: no quality, the reason as ``status`` and ``note``."""
    return {
        **_coordinates(point),
        "num_frames": point.gop * point.num_gops,
        "status": failure.status,
        "note": failure.detail[-500:],
        "seconds": 0.0,
    }


def row_id(point: Point, choice: McsChoice) -> str:
    """The point's id; for a neighbour of the chosen MCS its index follows."""
    beside = choice.role == NEIGHBOUR
    return f"{point.point_id}-mcs{choice.mcs}" if beside else point.point_id


def rows_of(
    points: Sequence[Point], finished: Mapping[str, Mapping]
) -> tuple[list[Mapping], list[Mapping]]:
    """Finished rows in the order of ``points``, and the rows of neighbours of a chosen MCS.

    A point that the stop rule left out has no row.
    """
    place = {point.point_id: index for index, point in enumerate(points)}
    beside = [
        (place[point_id], row["point_id"], row)
        for row in finished.values()
        if row.get("mcs_role") == NEIGHBOUR and (point_id := row["point_id"].split("-")[0]) in place
    ]
    chosen = [finished[point_id] for point_id in place if point_id in finished]
    return chosen, [row for *_, row in sorted(beside, key=itemgetter(0, 1))]


def _coordinates(point: Point) -> dict[str, Any]:
    coordinates = point.coordinates
    names = (
        *("scheme", "variant", "clip", "gop", "rate"),
        *("channel", "snr_db", *point.channel_point.condition, *Transport.model_fields),
        *("equalizer", "csi_aware", "seed", "decoder", "num_iter"),
    )
    row = {"point_id": point.point_id} | {name: coordinates[name] for name in names}
    row |= {"mcs_policy": str(point.mcs)}
    if point.is_packets:
        row |= dict.fromkeys(_NOT_OF_PACKETS)
    given = json.loads(point.options)
    columns = marked(scheme_types()[point.scheme].Options, Mark.COLUMN)
    return row | {name: given[name] for name in columns if name in given}


#: Columns that say nothing of a packet network.
_NOT_OF_PACKETS = (
    *("snr_db", "equalizer", "csi_aware", "decoder", "num_iter", "mcs_policy"),
    *(name for name in Transport.model_fields if name not in PACKET_TRANSPORT),
)


def _cbr_columns(receptions: Sequence[Reception], shape: tuple[int, ...]) -> dict[str, float]:
    """Columns ``cbr``, ``cbr_source``, ``cbr_side``, ``cbr_pilot`` (eq. 5), and finer parts.

    The finer parts divide the same channel uses once more. ``cbr_headers`` is what session facts
    take; unless they are counted, it is no part of ``cbr``.
    """
    num_frames, height, width, _ = shape
    uses = Counter({"source": 0, "side": 0, "pilot": 0})
    finer: Counter[str] = Counter({"headers": 0})
    for reception in receptions:
        uses.update(reception.num_channel_uses)
        finer.update(reception.finer_channel_uses)
        finer["headers"] += reception.header_uses
    return channel_bandwidth_ratio(finer, num_frames, height, width) | channel_bandwidth_ratio(
        uses, num_frames, height, width
    )


def _details(receptions: Sequence[Reception]) -> dict[str, float]:
    """The scheme's own columns, summed up over the GOPs."""
    details: Counter[str] = Counter()
    for reception in receptions:
        details.update(reception.details)
    return dict(details)


def _status(receptions: Sequence[Reception], lost: int, num_frames: int) -> str:
    """The first status that is not ``ok``; else ``outage`` if no frame arrived; else ``ok``."""
    for reception in receptions:
        if reception.status != "ok":
            return reception.status
    return "outage" if lost == num_frames else "ok"
