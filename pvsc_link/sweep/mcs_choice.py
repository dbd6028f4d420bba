"""Which MCS a separated scheme uses at a channel condition: the rule behind ``mcs: best``.

The paper sweeps the MCS index and reports "the best-performing configuration". Here that means:
an MCS is worth the *useful source bits per channel use* it delivers. With measured BLER p, blocks
fail independently; the expected quality of a rate is the mean over the first lost frame of the
frozen GOP's quality. That quality would have cost some number of bits without errors (read off
the codec's own error-free rate-quality curve); these are the useful bits. ``best`` takes, for a
codec, clip, GOP length and channel condition, the one MCS with the highest geometric mean over
all its rates and all GOPs of the scenario; ``envelope`` takes the highest per rate (the lower hull
of the curves of all MCS). Goodput decides, not the index: MCS 10/9 and 17/16 nearly coincide.
"""

import functools
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pvsc_link.codecs.concealment import frames_lost, freeze
from pvsc_link.link.bit_link import BitLink
from pvsc_link.link.mcs import MCS_TABLE
from pvsc_link.link.segmentation import Segmentation
from pvsc_link.types import EncodedGop

#: BLER from which on an MCS delivers nothing worth weighing.
LOST = 0.99
#: Quality per frame of (reference, shown) uint8 frames, higher is better.
Quality = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_efficiency() -> list[int]:
    """MCS indices in order of spectral efficiency (17 comes before 16, 10 before 9)."""
    return [mcs.index for mcs in sorted(MCS_TABLE, key=lambda mcs: mcs.spectral_efficiency)]


def neighbours(mcs: int) -> list[int]:
    """The next slower and the next faster MCS, by spectral efficiency."""
    order = by_efficiency()
    place = order.index(mcs)
    return [order[i] for i in (place - 1, place + 1) if 0 <= i < len(order)]


def candidates(bler_of: Callable[[int], float]) -> dict[int, float]:
    """BLER by MCS of those that can be best.

    Within a modulation BLER grows with the code rate, so there a bisection finds the fastest MCS
    without errors and a walk upwards those that still deliver something. Across modulations it
    does not: in fast fading QPSK at r = 0.66 (MCS 9) fails where 16QAM at r = 0.33 (MCS 10) does
    not. What is slower than an error-free MCS of any modulation is dominated and left out.
    """
    blers = _worth_measuring(bler_of)
    order = by_efficiency()
    clean = [order.index(mcs) for mcs, bler in blers.items() if bler == 0.0]
    kept = [mcs for mcs in blers if not clean or order.index(mcs) >= max(clean)]
    alive = [mcs for mcs in kept if blers[mcs] < LOST]
    return {mcs: blers[mcs] for mcs in alive} or {order[0]: blers[order[0]]}


def fastest_clean(bler_of: Callable[[int], float]) -> int:
    """The MCS of highest spectral efficiency whose BLER is 0; if there is none, the slowest."""
    blers = _worth_measuring(bler_of)
    order = by_efficiency()
    return max((mcs for mcs in blers if blers[mcs] == 0.0), key=order.index, default=order[0])


def _worth_measuring(bler_of: Callable[[int], float]) -> dict[int, float]:
    """Per modulation, BLER of the fastest error-free MCS and of those above it up to a lost one."""
    bler = functools.cache(bler_of)
    blers: dict[int, float] = {}
    for num_bits in sorted({mcs.num_bits_per_symbol for mcs in MCS_TABLE}):
        falling = [mcs.index for mcs in MCS_TABLE if mcs.num_bits_per_symbol == num_bits][::-1]
        fastest = bisect_left(falling, True, key=lambda mcs: bler(mcs) == 0.0)
        for mcs in reversed(falling[: fastest + 1]):
            blers[mcs] = bler(mcs)
            if blers[mcs] >= LOST:
                break
    return blers


def useful_bits_per_use(
    curve: Mapping[int, Sequence[EncodedGop]],
    reference: np.ndarray,
    links: Mapping[int, tuple[BitLink, float]],
    quality: Quality,
) -> dict[int, dict[int, float]]:
    """Useful source bits per channel use, ``[mcs][rate]``.

    ``curve`` : the encoded GOPs of a clip by rate; ``reference`` : uint8
    ``[num_frames, height, width, 3]``, the frames they encode; ``links`` : by MCS, the link and
    its measured BLER.
    """
    by_loss = {
        rate: _quality_by_first_loss(gops, reference, quality) for rate, gops in curve.items()
    }
    bits = {rate: sum(gop.num_bits for gop in gops) for rate, gops in curve.items()}
    clean = {rate: float(np.mean([table[-1] for table in by_loss[rate]])) for rate in curve}
    worth: dict[int, dict[int, float]] = {}
    for mcs, (link, bler) in links.items():
        worth[mcs] = {}
        for rate, gops in curve.items():
            pairs = zip(gops, by_loss[rate], strict=True)
            expected = float(np.mean([_expected(gop, table, link, bler) for gop, table in pairs]))
            useful = _bits_for_quality(expected, clean, bits) if bler else bits[rate]
            worth[mcs][rate] = useful / sum(link.num_channel_uses(gop.num_bits) for gop in gops)
    return worth


def best_mcs(worth: Mapping[int, Mapping[int, float]]) -> int:
    """The MCS of the highest geometric mean over rates; ties go to the lower index."""
    return max(sorted(worth), key=lambda mcs: np.mean(np.log(list(worth[mcs].values()))))


def envelope_mcs(worth: Mapping[int, Mapping[int, float]], rate: int) -> int:
    """The best MCS of one rate alone."""
    return max(sorted(worth), key=lambda mcs: worth[mcs][rate])


def _quality_by_first_loss(
    gops: Sequence[EncodedGop], reference: np.ndarray, quality: Quality
) -> list[np.ndarray]:
    """Per GOP, mean quality if frame t is the first lost, ``[num_frames + 1]``; last: none."""
    tables, shown, start = [], None, 0
    for gop in gops:
        num_frames = len(gop.frame_num_bytes)
        frames = reference[start : start + num_frames]
        values = []
        for first_lost in range(num_frames + 1):
            ok = np.arange(num_frames) < first_lost
            concealed = freeze(gop.frames_hat, ok, shown)
            values.append(float(np.mean(quality(frames, concealed.frames))))
        tables.append(np.array(values))
        shown, start = gop.frames_hat[-1], start + num_frames
    return tables


def _expected(gop: EncodedGop, by_first_loss: np.ndarray, link: BitLink, bler: float) -> float:
    """Expected quality of a GOP whose blocks fail independently with probability ``bler``."""
    sizes = Segmentation(gop.num_bits, link.block_payload).block_num_bits
    num_frames = len(gop.frame_num_bytes)
    first_lost = [
        int(np.argmax(frames_lost(gop.frame_num_bytes, np.arange(len(sizes)) != block, sizes)))
        for block in range(len(sizes))
    ]
    survive, expected = 1.0, 0.0
    for frame in range(num_frames):
        blocks = first_lost.count(frame)  # blocks whose loss first hurts this frame
        intact = (1.0 - bler) ** blocks
        expected += survive * (1.0 - intact) * by_first_loss[frame]
        survive *= intact
    return expected + survive * float(by_first_loss[num_frames])


def _bits_for_quality(quality: float, clean: Mapping[int, float], bits: Mapping[int, int]) -> float:
    """Error-free bits of a quality: log-linear between the curve's points and beyond its ends."""
    order = sorted(clean, key=lambda rate: clean[rate])
    x = np.array([clean[rate] for rate in order])
    y = np.log2([bits[rate] for rate in order])
    if len(order) == 1:
        return float(2 ** y[0]) if quality >= x[0] else 1e-6
    if x[0] <= quality <= x[-1]:
        return float(2 ** np.interp(quality, x, y))
    slope = np.polyfit(x, y, 1)[0]
    end = 0 if quality < x[0] else -1
    return float(2 ** (y[end] + max(slope, 1e-3) * (quality - x[end])))
