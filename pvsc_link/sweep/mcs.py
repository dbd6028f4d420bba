"""Which MCS a point is sent at: as the scenario says, or chosen by what an MCS delivers.

An MCS is worth the *useful source bits per channel use* that it delivers. Blocks fail independently
with the measured block error rate of their length, so the expected quality of a rate is the mean
over the first lost frame of the quality of the GOP that is frozen there. Without errors that
quality would have cost a certain number of bits, which the codec's own error-free curve of rate and
quality gives; these are the useful bits.

``best`` takes, for a codec, clip, GOP length and channel condition, the one MCS with the highest
geometric mean over all rates and GOPs of the scenario. ``envelope`` takes the best MCS per rate,
which is the lower hull of the curves of all MCS. The index alone does not decide: MCS 10 and 9, 17
and 16 have nearly the same spectral efficiency.

A semantic scheme sends its side information at the MCS of the baseline that it is compared with.
Where the scenario gives the MCS, nothing is measured.

``olla`` begins with the fastest MCS whose block error rate is at most 10 % and follows the
acknowledgements from there (``link.adaptation.OuterLoop``), for codecs and side information alike.
"""

import functools
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from pvsc_link.codecs import MID_GREY, frames_lost, freeze, gops_as_sent
from pvsc_link.link import (
    MCS_TABLES,
    OLLA_TARGET,
    CodedLink,
    OuterLoop,
    bler_of_length,
    get_coded_link,
    get_mcs,
    measured_lengths,
)
from pvsc_link.metrics import METRICS, FrameMetrics
from pvsc_link.scenario import Point
from pvsc_link.schemes import LinkOptions, side_link_options, transports
from pvsc_link.sweep.plan import OLLA, Plan, link_options, scheme_label
from pvsc_link.sweep.store import CHOSEN, GIVEN, NEIGHBOUR, SweepStore
from pvsc_link.types import EncodedGop

#: An MCS with at least this block error rate counts as one that delivers nothing.
LOST = 0.99
#: Lower limit of useful bits per channel use inside a geometric mean.
_WORTHLESS = 1e-9
#: A block error rate is measured until this many errors or this many blocks were seen.
TARGET_ERRORS, MAX_BLOCKS = 100, 2000
#: Block error rate by coded bits of a block, and by MCS.
BlerOfLength = Callable[[int], float]
BlerOfMcs = Callable[[int], float]
#: A rough block error rate is measured over so many blocks, which are the first of any measurement,
#: and is off by less than this where it is about 0.1: five standard deviations and more.
ROUGH_BLOCKS, _ROUGHNESS = 128, 0.15
#: Quality per frame of (reference, shown) uint8 frames, higher is better.
Quality = Callable[[np.ndarray, np.ndarray], np.ndarray]


def by_efficiency(table: int = 1) -> list[int]:
    """MCS indices in order of spectral efficiency (in table 1, 17 comes before 16, 10 before 9)."""
    rows = sorted(MCS_TABLES[table], key=lambda mcs: mcs.spectral_efficiency)
    return [mcs.index for mcs in rows]


def neighbours(mcs: int, table: int = 1) -> list[int]:
    """The next slower and the next faster MCS, by spectral efficiency."""
    order = by_efficiency(table)
    place = order.index(mcs)
    return [order[i] for i in (place - 1, place + 1) if 0 <= i < len(order)]


def candidates(
    bler_of: BlerOfMcs, table: int = 1, rough: BlerOfMcs | None = None
) -> dict[int, float]:
    """Block error rate by MCS of those that can be best.

    Within a modulation the block error rate grows with the code rate. There a search finds the
    fastest MCS without errors, and a walk upwards finds those that still deliver something. Across
    modulations it does not grow: in fast fading QPSK at rate 0.66 (MCS 9) can fail where 16-QAM at
    rate 0.33 (MCS 10) does not. An MCS that is slower than an error-free one is left out. The
    search begins with the highest modulation, so that few of those are measured.

    Parameters: ``rough`` : an estimate that is quick to have and 0 wherever ``bler_of`` is; it
    tells where to look. By default ``bler_of`` itself.
    """
    bler, order = functools.cache(bler_of), _places(table)
    rough = functools.cache(rough) if rough else bler
    blers: dict[int, float] = {}
    slowest = -1  # place of the fastest MCS without errors so far
    for falling in _by_modulation(table):
        worth = [mcs for mcs in falling if order[mcs] > slowest]
        fastest = _first(worth, lambda mcs: bler(mcs) == 0.0, lambda mcs: rough(mcs) == 0.0)
        for mcs in reversed(worth[: fastest + 1]):
            blers[mcs] = bler(mcs)
            if blers[mcs] >= LOST:
                break
        if fastest < len(worth):
            slowest = order[worth[fastest]]
    kept = [mcs for mcs in blers if order[mcs] >= slowest]
    alive = [mcs for mcs in kept if blers[mcs] < LOST]
    last = by_efficiency(table)[0]
    return {mcs: blers[mcs] for mcs in sorted(alive)} or {last: blers[last]}


def fastest_within(
    bler_of: BlerOfMcs, most: float, table: int = 1, rough: BlerOfMcs | None = None
) -> int:
    """The MCS of highest spectral efficiency whose BLER is at most ``most``; else the slowest.

    Parameters: ``rough`` as of ``candidates``; elsewhere it is off by less than ``_ROUGHNESS``.
    """
    bler, order = functools.cache(bler_of), _places(table)
    rough = functools.cache(rough) if rough else bler
    at_most = most + _ROUGHNESS if most else 0.0
    found = by_efficiency(table)[0]
    for falling in _by_modulation(table):
        worth = [mcs for mcs in falling if order[mcs] > order[found]]
        place = _first(worth, lambda mcs: bler(mcs) <= most, lambda mcs: rough(mcs) <= at_most)
        found = worth[place] if place < len(worth) else found
    return found


def _places(table: int) -> dict[int, int]:
    return {mcs: place for place, mcs in enumerate(by_efficiency(table))}


def _by_modulation(table: int) -> list[list[int]]:
    """MCS indices of each modulation, the highest first, from the fastest to the slowest."""
    of_order: dict[int, list[int]] = {}
    for row in reversed(MCS_TABLES[table]):
        of_order.setdefault(row.num_bits_per_symbol, []).append(row.index)
    return [of_order[num_bits] for num_bits in sorted(of_order, reverse=True)]


def _first(
    falling: Sequence[int], holds: Callable[[int], bool], may_hold: Callable[[int], bool]
) -> int:
    """Place of the first MCS for which ``holds``, which is costly; their number if there is none.

    Both conditions hold from some place on. A bisection by ``may_hold``, which is true wherever
    ``holds`` is, finds where to begin.
    """
    place = bisect_left(falling, True, key=may_hold)
    while place < len(falling) and not holds(falling[place]):
        place += 1
    return place


def useful_bits_per_use(
    curve: Mapping[int, Sequence[EncodedGop]],
    reference: np.ndarray,
    links: Mapping[int, tuple[CodedLink, BlerOfLength]],
    quality: Quality,
    unit: str = "gop",
) -> dict[int, dict[int, float]]:
    """Useful source bits per channel use, ``[mcs][rate]``.

    ``curve`` : the encoded GOPs of a clip by rate; ``reference`` : uint8
    ``[num_frames, height, width, 3]``, the frames they encode; ``links`` : by MCS, the link and
    its block error rates; ``unit`` : whether a ``gop`` or a ``frame`` is one transport.
    """
    tables = {
        rate: _quality_by_first_loss(gops, reference, quality) for rate, gops in curve.items()
    }
    price = _Price(
        bits={rate: sum(gop.num_bits for gop in gops) for rate, gops in curve.items()},
        clean={rate: float(np.mean([gop[-1] for gop in tables[rate]])) for rate in curve},
        nothing=float(np.mean(quality(reference, np.full_like(reference, MID_GREY)))),
    )
    worth: dict[int, dict[int, float]] = {}
    for mcs, (link, bler_of) in links.items():
        worth[mcs] = {}
        for rate, gops in curve.items():
            useful, sizes = float(price.bits[rate]), stream_sizes(gops, unit)
            if mean_bler(sizes, link, bler_of):
                chances = [_first_loss_chances(gop, link, bler_of, unit) for gop in gops]
                useful = price.of(_expected_quality(chances, tables[rate]))
            worth[mcs][rate] = useful / sum(map(link.num_channel_uses, sizes))
    return worth


def stream_sizes(gops: Iterable[EncodedGop], unit: str) -> list[int]:
    """Bits of every transport."""
    return [8 * sum(sizes) for gop in gops for sizes in transports(gop, unit)]


def mean_bler(stream_sizes: Iterable[int], link: CodedLink, bler_of: BlerOfLength) -> float:
    """Block error rate over all blocks of streams of so many bits."""
    counts: Counter[int] = Counter()
    for segments in map(link.segmentation, stream_sizes):
        counts[segments.n] += segments.num_blocks
    errors = sum(count * bler_of(n) for n, count in counts.items() if count)
    return errors / max(counts.total(), 1)


def best_mcs(worth: Mapping[int, Mapping[int, float]], table: int = 1) -> int:
    """The MCS of the highest geometric mean over rates; ties go to the slower one."""

    def mean_log(mcs: int) -> float:
        return float(np.mean(np.log(np.maximum(list(worth[mcs].values()), _WORTHLESS))))

    return max(_slow_first(worth, table), key=mean_log)


def envelope_mcs(worth: Mapping[int, Mapping[int, float]], rate: int, table: int = 1) -> int:
    """The best MCS of one rate alone."""
    return max(_slow_first(worth, table), key=lambda mcs: worth[mcs][rate])


def _slow_first(worth: Mapping[int, object], table: int) -> list[int]:
    return [mcs for mcs in by_efficiency(table) if mcs in worth]


def _quality_by_first_loss(
    gops: Sequence[EncodedGop], reference: np.ndarray, quality: Quality
) -> list[np.ndarray]:
    """Per GOP, mean quality ``[num_frames + 2]`` by what is lost.

    Entry 0: everything, nothing was ever shown before (grey); entry 1 + t: from frame t on, with
    the last frame of the GOP before still there; last entry: nothing lost.
    """
    tables: list[np.ndarray] = []
    before: np.ndarray | None = None
    start = 0
    for gop in gops:
        num_frames = len(gop.frame_num_bytes)
        frames = reference[start : start + num_frames]
        whole = np.arange(num_frames)
        shown = [freeze(gop.frames_hat, whole < 0, None)]
        shown += [freeze(gop.frames_hat, whole < t, before) for t in range(num_frames + 1)]
        tables.append(np.array([np.mean(quality(frames, case.frames)) for case in shown]))
        before, start = gop.frames_hat[-1], start + num_frames
    return tables


def _expected_quality(chances: Sequence[np.ndarray], tables: Sequence[np.ndarray]) -> float:
    """Mean over GOPs of the expected quality, by the chances of each GOP's first loss."""
    expected, dark = [], 1.0  # dark: probability that no frame has been shown so far
    for of_gop, table in zip(chances, tables, strict=True):
        lost_start = dark * table[0] + (1.0 - dark) * table[1]
        expected.append(of_gop[0] * lost_start + float(np.dot(of_gop[1:], table[2:])))
        dark *= of_gop[0]
    return float(np.mean(expected))


def _first_loss_chances(
    gop: EncodedGop, link: CodedLink, bler_of: BlerOfLength, unit: str
) -> np.ndarray:
    """Probability that frame t is the first lost, ``[num_frames + 1]``; last entry: none is.

    Blocks fail independently of each other.
    """
    intact = np.ones(len(gop.frame_num_bytes))
    first = 0
    for num_bytes in transports(gop, unit):
        segments = link.segmentation(8 * sum(num_bytes))
        sizes, indices = segments.block_num_bits, np.arange(segments.num_blocks)
        for block in indices:
            hurt = first + int(np.argmax(frames_lost(num_bytes, indices != block, sizes)))
            intact[hurt] *= 1.0 - bler_of(segments.n)
        first += len(num_bytes)
    survive = np.cumprod(intact)
    return np.append(np.append(1.0, survive[:-1]) * (1.0 - intact), survive[-1])


@dataclass(frozen=True)
class _Price:
    """Error-free bits that a quality costs: the codec's own curve, and grey pictures for nothing.

    ``bits``, ``clean`` : bits and error-free quality by rate; ``nothing`` : quality of grey.
    """

    bits: Mapping[int, int]
    clean: Mapping[int, float]
    nothing: float

    def of(self, quality: float) -> float:
        """Bits of a quality: log-linear on the curve; below it the lesser of going on so and of a
        share of the cheapest rate, as if that part of the time it came through and else nothing.
        """
        order = sorted(self.clean, key=lambda rate: self.clean[rate])
        x = np.array([self.clean[rate] for rate in order])
        y = np.log2([self.bits[rate] for rate in order])
        if quality >= x[0]:
            return float(2 ** np.interp(quality, x, y))
        slope = max(np.polyfit(x, y, 1)[0], 0.0) if len(order) > 1 else 0.0
        share = (quality - self.nothing) / max(x[0] - self.nothing, 1e-9)
        return float(2 ** y[0] * np.clip(min(share, 2 ** (slope * (quality - x[0]))), 0.0, 1.0))


@dataclass(frozen=True)
class McsChoice:
    """An MCS to send at, its block error rate (None: not measured) and why it was taken."""

    mcs: int | None  # None: packets, which have none
    bler: float | None
    role: str
    mean: float | None = None  # index over the transports of an outer loop that began with mcs


#: What is chosen for a point that is sent in packets.
NO_MCS = McsChoice(None, None, "")


def adaptation_of(point: Point, first: int | None) -> int | OuterLoop:
    """What a scheme sends a point at: an MCS, or an outer loop that begins with it.

    Packets have no MCS, and 0 stands in its place.
    """
    if first is None:
        return 0
    if point.mcs != OLLA:
        return first
    return OuterLoop(by_efficiency(point.transport.mcs_table), first)


class McsPolicy:
    """Chooses the MCS of every point of one codec on one clip at one GOP length.

    Parameters: ``curve`` : encoded GOPs by rate; ``frames`` : uint8
    ``[num_frames, height, width, 3]``; ``store`` keeps every choice, so that a restart finds it.
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

    def mcs(self, point: Point) -> int:
        """The point's MCS alone; the first one of an outer loop."""
        if isinstance(point.mcs, int):
            return point.mcs
        return self._first(point) if point.mcs == OLLA else _chosen(point, self._worth(point))

    def choices(self, point: Point) -> list[McsChoice]:
        """The point's MCS first; where it was chosen, its neighbours in spectral efficiency too.

        The bits are also sent at the neighbours, so that the table shows what was not chosen.
        """
        if point.is_packets:
            return [NO_MCS]
        if isinstance(point.mcs, int):
            return [McsChoice(point.mcs, None, GIVEN)]
        mcs, sizes = self.mcs(point), self._sizes(point)
        beside = [] if point.mcs == OLLA else neighbours(mcs, point.transport.mcs_table)
        roles = {mcs: CHOSEN} | dict.fromkeys(beside, NEIGHBOUR)
        bler, _ = _mean_blers(point, sizes)
        return [McsChoice(m, bler(m), role) for m, role in roles.items()]

    def _sizes(self, point: Point) -> list[int]:
        sent = self._sent(point, [point.rate])[point.rate]
        return stream_sizes(sent, point.transport.transport_unit)

    def _first(self, point: Point) -> int:
        """The first MCS of an outer loop; computed once."""
        key = _first_key(point)
        mcs = self._store.fact(key)
        if mcs is None:
            bler, rough = _mean_blers(point, self._sizes(point))
            mcs = fastest_within(bler, OLLA_TARGET, point.transport.mcs_table, rough)
            self._store.set_fact(key, mcs)
        return mcs

    def _worth(self, point: Point) -> dict[int, dict[int, float]]:
        """Useful bits per channel use by MCS and rate; computed once."""
        key = _worth_key(point, self._curve)
        stored = self._store.fact(key)
        if stored is None:
            sent, unit = self._sent(point, self._curve), point.transport.transport_unit
            sizes = [size for gops in sent.values() for size in stream_sizes(gops, unit)]
            bler, rough = _mean_blers(point, sizes)
            blers = candidates(bler, point.transport.mcs_table, rough)
            links = {mcs: _link(point, mcs) for mcs in blers}
            worth = useful_bits_per_use(sent, self._frames, links, self._quality(point), unit)
            stored = [[mcs, blers[mcs], list(of_rate.items())] for mcs, of_rate in worth.items()]
            self._store.set_fact(key, stored)
        return _worth_of(stored)

    def _sent(self, point: Point, rates: Iterable[int]) -> dict[int, list[EncodedGop]]:
        """GOPs as they are sent at a point, by rate."""
        counted = point.transport.count_headers
        return {r: [gop for gop, _ in gops_as_sent(self._curve[r], counted)] for r in rates}

    def _quality(self, point: Point):
        metric = METRICS[point.mcs_metric]
        sign = 1.0 if metric.higher_is_better else -1.0

        def quality(frames: np.ndarray, shown: np.ndarray) -> np.ndarray:
            values = self._frame_metrics.evaluate([point.mcs_metric], frames, shown)
            return sign * values[metric.column]

        return quality


def known_mcs(point: Point, rates: Iterable[int], store: SweepStore) -> int | None:
    """The MCS of a digital point whose codec's curve has ``rates``, as far as the store knows it.

    None: no choice by exactly this curve is stored at the point's channel condition.
    """
    if isinstance(point.mcs, int):
        return point.mcs
    if point.mcs == OLLA:
        return store.fact(_first_key(point))
    stored = store.fact(_worth_key(point, rates))
    return None if stored is None else _chosen(point, _worth_of(stored))


def note_rates(point: Point, rates: Iterable[int], store: SweepStore) -> None:
    """Store which rates the encoder of a digital point gives: a choice rests on these."""
    store.set_fact(f"mcs_rates {_curve_words(point)}", sorted(rates))


def known_rates(point: Point, store: SweepStore) -> list[int] | None:
    """What ``note_rates`` stored for the point's codec, clip and GOP length, or None."""
    return store.fact(f"mcs_rates {_curve_words(point)}")


def curve_facts(point: Point) -> list[str]:
    """How the facts begin that rest on the curve of the point's codec, clip and GOP length."""
    rules = ("mcs_worth", "mcs_first", "mcs_rates")
    return [f"{rule} {_curve_words(point)}" for rule in rules]


def forget_choices(point: Point, store: SweepStore) -> None:
    """Forget every choice that rests on the curve of the point's codec, clip and GOP length."""
    for rule in ("mcs_worth", "mcs_first"):
        store.forget_facts(f"{rule} {_curve_words(point)} ")


def _chosen(point: Point, worth: Mapping[int, Mapping[int, float]]) -> int:
    table = point.transport.mcs_table
    return best_mcs(worth, table) if point.mcs == "best" else envelope_mcs(worth, point.rate, table)


def _worth_of(stored: Sequence) -> dict[int, dict[int, float]]:
    """Useful bits per channel use, ``[mcs][rate]``, out of a fact of the store."""
    return {mcs: dict(map(tuple, of_rates)) for mcs, _, of_rates in stored}


def _worth_key(point: Point, rates: Iterable[int]) -> str:
    """Name of the fact that holds what each MCS is worth for a curve at a channel condition."""
    return f"mcs_worth {_curve_words(point)} {_link_words(point)} rates={sorted(rates)}"


def _first_key(point: Point) -> str:
    """Name of the fact that holds the first MCS of an outer loop, for the streams of a rate."""
    return f"mcs_first {_curve_words(point)} {_link_words(point)} rate={point.rate}"


def _link_words(point: Point) -> str:
    coordinates = point.coordinates
    names = (
        *("channel", "snr_db", *point.channel_point.condition),
        *("equalizer", "csi_aware", "decoder", "num_iter", "mcs_metric"),
        *point.transport.columns(),
    )
    return " ".join(f"{name}={coordinates[name]}" for name in names)


_CURVE = ("scheme", "variant", "options", "clip", "gop", "num_gops", "first_frame")


def curve_identity(point: Point) -> list:
    """Whose curve the point belongs to: codec with its options, clip, and the frames of it."""
    return [getattr(point, name) for name in _CURVE]


def _curve_words(point: Point) -> str:
    return " ".join(map("{}={}".format, _CURVE, curve_identity(point)))


class SideMcsPolicy:
    """Chooses the MCS of the side information at ``points``, all of one clip and GOP length.

    ``best`` and ``envelope`` take the MCS of the anchor's row at the same channel condition; else
    that of the first separated entry that has a row; else, where no baseline was sent, the fastest
    MCS without a block error at any length that is measured.

    Parameters: ``store`` holds the rows of the baselines, which are sent before, and keeps a choice
    that was made without them; ``choice`` : gives the MCS of a baseline that has no row, because
    another process sends it, or None.
    """

    def __init__(
        self,
        plan: Plan,
        store: SweepStore,
        points: Iterable[Point],
        choice: Callable[[Point], int | None] = lambda point: None,
    ):
        self._store, self._choice = store, choice
        self._baselines: dict[tuple, list[Point]] = {}
        digital = [p for p in points if plan.schemes[p.entry, p.variant].digital]
        for point in sorted(digital, key=lambda p: not _is_anchor(p, plan.scenario.anchor)):
            self._baselines.setdefault(_condition(point), []).append(point)

    def mcs(self, point: Point) -> int:
        """The point's MCS alone; the first one of an outer loop."""
        if isinstance(point.mcs, int):
            return point.mcs
        if point.mcs == OLLA:
            return self._fastest(point, OLLA_TARGET)
        of_baseline = self._of_baseline(self._baselines.get(_condition(point), []))
        return self._fastest(point, 0.0) if of_baseline is None else of_baseline

    def choices(self, point: Point) -> list[McsChoice]:
        """The one MCS of the point."""
        if point.is_packets:
            return [NO_MCS]
        if isinstance(point.mcs, int):
            return [McsChoice(point.mcs, None, GIVEN)]
        mcs = self.mcs(point)
        options = side_link_options(link_options(point))
        bler = _bler(point, options, mcs, max(_lengths(point, mcs)))
        return [McsChoice(mcs, bler, CHOSEN)]

    def _fastest(self, point: Point, most: float) -> int:
        """The fastest MCS whose BLER is at most ``most`` at every length that is measured."""
        options = side_link_options(link_options(point))
        of_link = {k: v for k, v in asdict(options).items() if k != "transport"}
        words = [*_condition_words(point), *(f"{k}={v}" for k, v in of_link.items())]
        rule = f"mcs_fastest_within_{most:g}" if most else "mcs_fastest_clean"
        key = f"{rule} {' '.join(words)}"
        mcs = self._store.fact(key)
        if mcs is None:
            bler, rough = (
                functools.partial(_largest_bler, point, options, max_blocks=max_blocks)
                for max_blocks in (MAX_BLOCKS, ROUGH_BLOCKS)
            )
            mcs = fastest_within(bler, most, point.transport.mcs_table, rough)
            self._store.set_fact(key, mcs)
        return mcs

    def _of_baseline(self, baselines: Iterable[Point]) -> int | None:
        chosen = (self._of_row_or_choice(point) for point in baselines)
        return next((mcs for mcs in chosen if mcs is not None), None)

    def _of_row_or_choice(self, point: Point) -> int | None:
        row = self._store.row(point.point_id)
        return self._choice(point) if row is None else row.get("mcs")


def _link(point: Point, mcs: int, max_blocks: int = MAX_BLOCKS) -> tuple[CodedLink, BlerOfLength]:
    """The link of a point's coded bits at an MCS, and its block error rates by coded length."""
    options = link_options(point)
    link = get_coded_link(mcs, point.channel, **asdict(options))
    bler_of = functools.partial(_bler, point, options, mcs, max_blocks=max_blocks)
    return link, functools.cache(bler_of)


def _mean_blers(point: Point, sizes: Sequence[int]) -> tuple[BlerOfMcs, BlerOfMcs]:
    """Mean block error rate of streams of so many bits by MCS, and a rough one (``candidates``)."""

    def mean(max_blocks: int, mcs: int) -> float:
        return mean_bler(sizes, *_link(point, mcs, max_blocks))

    return functools.partial(mean, MAX_BLOCKS), functools.partial(mean, ROUGH_BLOCKS)


def _largest_bler(point: Point, options: LinkOptions, mcs: int, max_blocks: int) -> float:
    """The largest block error rate of an MCS at any length that is measured."""
    lengths = _lengths(point, mcs)
    return max(_bler(point, options, mcs, n, max_blocks=max_blocks) for n in lengths)


def _bler(
    point: Point, options: LinkOptions, mcs: int, n: int, *, max_blocks: int = MAX_BLOCKS
) -> float:
    """Block error rate of an MCS at the channel condition of a point; measured once ever."""
    return bler_of_length(
        mcs,
        point.channel_point,
        n,
        **asdict(options),
        target_errors=TARGET_ERRORS,
        max_blocks=max_blocks,
    )


def _lengths(point: Point, mcs: int) -> list[int]:
    """Coded lengths at which the block error rate of an MCS is measured."""
    transport = point.transport
    return measured_lengths(get_mcs(mcs, transport.mcs_table, transport.block_length))


def _condition_words(point: Point) -> list[str]:
    values = {"channel": point.channel, "snr_db": point.snr_db, **point.channel_point.condition}
    values |= point.transport.columns()
    return [f"{name}={value}" for name, value in values.items()]


def _condition(point: Point) -> tuple:
    return (point.channel_point, point.decoder, point.num_iter, point.transport)


def _is_anchor(point: Point, anchor: str | None) -> bool:
    return anchor in (point.scheme, scheme_label(point.scheme, point.variant))
