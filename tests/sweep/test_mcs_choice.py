"""The MCS rule: most useful source bits per channel use, over a whole curve."""

import numpy as np
import pytest

from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.link.mcs import MCS_TABLE, MCS_TABLES
from pvsc_link.link.transport import Segmentation
from pvsc_link.sweep.mcs import (
    best_mcs,
    by_efficiency,
    candidates,
    envelope_mcs,
    fastest_within,
    mean_bler,
    neighbours,
    stream_sizes,
    useful_bits_per_use,
)
from pvsc_link.types import EncodedGop

NUM_FRAMES = 3


class FakeLink:
    """Counts blocks and channel uses as a link of one MCS does, without sending anything."""

    def __init__(self, spectral_efficiency, block_payload=1000):
        self.efficiency, self.block_payload = spectral_efficiency, block_payload

    def num_channel_uses(self, num_bits):
        return num_bits / self.efficiency

    def segmentation(self, num_bits):
        num_blocks = -(-num_bits // self.block_payload)
        return Segmentation(num_bits, num_blocks, self.block_payload + 24, 6144, True)


def picture(level):
    return np.full((2, 2, 3), level, np.uint8)


def gop(num_bytes, level):
    """A GOP whose frames all have grey value ``level``; quality is closeness to 200."""
    return EncodedGop(
        payload=bytes(num_bytes * NUM_FRAMES),
        frame_num_bytes=(num_bytes,) * NUM_FRAMES,
        frames_hat=np.full((NUM_FRAMES, 2, 2, 3), level, np.uint8),
        command="",
        version="",
    )


CURVE = {40: [gop(100, 180)], 30: [gop(200, 188)], 20: [gop(400, 196)]}
REFERENCE = np.full((NUM_FRAMES, 2, 2, 3), 200, np.uint8)


def closeness(frames, shown):
    return -np.abs(frames.astype(float) - shown).mean(axis=(1, 2, 3))


def at(bler):
    """The same block error rate at every coded length."""
    return lambda n: bler


def worth(links):
    links = {mcs: (link, at(bler)) for mcs, (link, bler) in links.items()}
    return useful_bits_per_use(CURVE, REFERENCE, links, closeness)


def test_without_errors_an_mcs_is_worth_its_spectral_efficiency():
    values = worth({5: (FakeLink(0.74), 0.0), 11: (FakeLink(1.4766), 0.0)})
    assert values[5] == pytest.approx(dict.fromkeys(CURVE, 0.74))
    assert best_mcs(values) == 11


def test_an_mcs_that_loses_nearly_every_block_is_not_chosen():
    values = worth({5: (FakeLink(0.74), 0.0), 20: (FakeLink(3.32), 0.9)})
    assert best_mcs(values) == 5


def test_an_outage_is_worth_nothing_however_fast_it_is():
    """Grey frames at 5.5 bit per channel use do not beat pictures at 0.23."""
    values = worth({0: (FakeLink(0.2344), 0.05), 28: (FakeLink(5.5547), 0.98)})
    assert best_mcs(values) == 0
    assert all(values[28][rate] < values[0][rate] for rate in CURVE)


def test_a_frame_of_an_earlier_gop_is_only_there_if_it_came_through():
    """With every block lost, a long clip is as grey as a short one."""
    long = {rate: gops * 4 for rate, gops in CURVE.items()}
    values = useful_bits_per_use(
        long, np.concatenate([REFERENCE] * 4), {9: (FakeLink(1.0), at(1.0))}, closeness
    )
    assert max(values[9].values()) == pytest.approx(0.0)


def test_expected_quality_follows_every_gop_through_its_first_loss():
    """Three GOPs of two frames, each frame one block that fails with p = 0.3.

    Lost from its first frame on, a GOP shows the last frame of the one before, or grey where
    nothing came through yet; lost from its second frame on, its first. Below the cheapest rate a
    quality is worth its share of the way up from grey.
    """
    p, grey = 0.3, 128
    levels, wanted = [(160, 170), (180, 186), (190, 198)], [(200, 200), (204, 210), (215, 220)]
    gops = [
        EncodedGop(bytes(250), (125, 125), np.stack([picture(a), picture(b)]), "", "")
        for a, b in levels
    ]
    reference = np.stack([picture(level) for pair in wanted for level in pair])
    link = FakeLink(1.0)
    worth = useful_bits_per_use({30: gops}, reference, {9: (link, at(p))}, closeness)[9][30]

    def quality(shown, truth):
        return -np.mean(np.abs(np.subtract(shown, truth)))

    expected, dark, before = 0.0, 1.0, (grey, grey)
    for shown, truth in zip(levels, wanted, strict=True):
        at_start = dark * quality((grey, grey), truth) + (1 - dark) * quality(before, truth)
        first_alone = quality((shown[0], shown[0]), truth)
        whole = quality(shown, truth)
        expected += (p * at_start + (1 - p) * p * first_alone + (1 - p) ** 2 * whole) / 3
        dark, before = dark * p, (shown[1], shown[1])
    nothing = np.mean([quality((grey, grey), truth) for truth in wanted])
    clean = np.mean([quality(*both) for both in zip(levels, wanted, strict=True)])
    assert worth == pytest.approx((expected - nothing) / (clean - nothing), rel=1e-6)


@pytest.mark.parametrize(
    ("rate", "quality", "useful"),
    [
        (20, -8.0, np.sqrt(4800 * 9600)),  # half way between the rates 30 and 20
        (40, -28.0, 2400 / 2),  # below the curve, which halves the bits every 8 levels
        (40, -70.0, 2400 * 2 ** (-50 / 8)),
    ],
)
def test_bits_of_a_quality_are_log_linear_on_the_curve_and_below_it(rate, quality, useful):
    """Each frame is a block; the GOP is grey (-72) with p, else as good as its rate."""
    clean = {20: -4.0, 40: -20.0}[rate]
    p, link = (clean - quality) / (clean + 72.0), FakeLink(1.0, block_payload=10_000)
    found = useful_bits_per_use(CURVE, REFERENCE, {9: (link, at(p))}, closeness, "frame")[9][rate]
    assert found == pytest.approx(useful / (8 * len(CURVE[rate][0].payload)))


def test_the_best_mcs_has_the_highest_geometric_mean_over_the_rates():
    """One rate that is nearly lost weighs more than another one that gains."""
    values = {5: {30: 1.0, 20: 1.0}, 20: {30: 2.5, 20: 0.2}}
    assert best_mcs(values) == 5
    assert envelope_mcs(values, 30) == 20


@pytest.mark.parametrize("order", [(17, 16), (16, 17)])
def test_of_two_that_are_worth_the_same_the_slower_one_is_taken(order):
    """MCS 17 has a lower spectral efficiency than MCS 16."""
    values = {mcs: {30: 1.0} for mcs in order}
    assert best_mcs(values) == envelope_mcs(values, 30) == 17


def test_a_rare_loss_is_worth_a_much_higher_efficiency():
    values = worth({5: (FakeLink(0.74), 0.0), 20: (FakeLink(3.32), 1e-4)})
    assert best_mcs(values) == 20


def test_useful_bits_fall_as_the_block_error_rate_grows():
    values = [worth({9: (FakeLink(1.0), bler)})[9][30] for bler in (0.0, 0.01, 0.1, 0.5)]
    assert values == sorted(values, reverse=True)
    assert values[0] > 1.05 * values[-1]


def test_the_envelope_may_give_rates_different_mcs():
    """One long stream is hurt by block errors where a stream of one block is not."""
    links = {5: (FakeLink(1.0), 0.0), 9: (FakeLink(1.25, block_payload=2500), 0.03)}
    values = worth(links)
    chosen = {rate: envelope_mcs(values, rate) for rate in CURVE}
    assert all(values[chosen[rate]][rate] >= values[5][rate] for rate in CURVE)
    assert all(values[chosen[rate]][rate] >= values[9][rate] for rate in CURVE)


def waterfall(clean_below, lost_above):
    """BLER as a function of spectral efficiency: 0, then growing, then 1."""

    def bler_of(mcs):
        efficiency = MCS_TABLE[mcs].spectral_efficiency
        return float(np.clip((efficiency - clean_below) / (lost_above - clean_below), 0, 1))

    return bler_of


def fast_fading(threshold):
    """As ``waterfall``, but a high code rate costs half of what the modulation carries."""

    def bler_of(mcs):
        row = MCS_TABLE[mcs]
        worse = row.spectral_efficiency * (1 + row.target_coderate) / 1.5
        return float(np.clip((worse - threshold) / (0.2 * threshold), 0, 1))

    return bler_of


@pytest.mark.parametrize("threshold", [0.1, 0.3, 1.0, 1.3, 2.5, 5.0, 9.0])
@pytest.mark.parametrize("law", [lambda t: waterfall(t, 1.6 * t), fast_fading])
def test_candidates_are_what_no_error_free_mcs_dominates(law, threshold):
    asked = []
    bler_of = law(threshold)
    blers = candidates(lambda mcs: asked.append(mcs) or bler_of(mcs))
    everything = {mcs: bler_of(mcs) for mcs in range(len(MCS_TABLE))}
    clean = [mcs for mcs, bler in everything.items() if bler == 0.0]
    fastest = max((MCS_TABLE[mcs].spectral_efficiency for mcs in clean), default=0.0)
    wanted = {
        mcs
        for mcs, bler in everything.items()
        if bler < 0.99 and MCS_TABLE[mcs].spectral_efficiency >= fastest
    }
    assert set(blers) == (wanted or {0})
    assert all(blers[mcs] == everything[mcs] for mcs in blers)
    assert len(asked) == len(set(asked)), "no BLER is asked for twice"


@pytest.mark.parametrize("threshold", [0.1, 0.3, 1.0, 1.3, 2.5, 5.0, 9.0])
@pytest.mark.parametrize("law", [lambda t: waterfall(t, 1.6 * t), fast_fading])
def test_rough_error_rates_save_measurements_and_change_nothing(law, threshold):
    bler_of, asked = law(threshold), []

    def rough(mcs):
        """A few blocks meet no error where errors are rare."""
        return bler_of(mcs) if bler_of(mcs) > 0.1 else 0.0

    found = candidates(lambda mcs: asked.append(mcs) or bler_of(mcs), rough=rough)
    assert found == candidates(bler_of)
    clean = [mcs for mcs in asked if bler_of(mcs) == 0.0]
    assert len(clean) <= len({MCS_TABLE[mcs].num_bits_per_symbol for mcs in clean})
    for most in (0.0, 0.1):
        assert fastest_within(bler_of, most, rough=rough) == fastest_within(bler_of, most)


def test_a_failing_modulation_does_not_hide_a_faster_one_that_works():
    """MCS 9 lost, MCS 10 clean: the order by efficiency alone would stop at MCS 8."""
    blers = candidates(lambda mcs: 1.0 if mcs == 9 or mcs > 11 else 0.0)
    assert blers == {11: 0.0}


@pytest.mark.parametrize("threshold", [0.1, 1.0, 2.5, 5.0, 9.0])
@pytest.mark.parametrize("law", [lambda t: waterfall(t, 1.6 * t), fast_fading])
@pytest.mark.parametrize("most", [0.0, 0.1])
def test_an_outer_loop_begins_with_the_fastest_mcs_that_keeps_its_target(threshold, law, most):
    bler_of = law(threshold)
    within = [mcs for mcs in by_efficiency() if bler_of(mcs) <= most]
    assert fastest_within(bler_of, most) == (within[-1] if within else 0)


def test_neighbours_go_by_spectral_efficiency_not_by_index():
    assert neighbours(16) == [17, 18]
    assert neighbours(15) == [14, 17]
    assert neighbours(0) == [1]
    assert neighbours(28) == [27]


@pytest.mark.parametrize("table", [2, 3])
def test_other_tables_are_searched_by_their_own_rows(table):
    order = by_efficiency(table)
    assert sorted(order) == list(range(len(MCS_TABLES[table])))
    efficiency = [MCS_TABLES[table][mcs].spectral_efficiency for mcs in order]
    assert efficiency == sorted(efficiency)
    fastest = order[-1]
    assert candidates(lambda mcs: 0.0, table) == {fastest: 0.0}
    assert neighbours(fastest, table) == [order[-2]]


def test_the_block_error_rate_of_streams_counts_the_blocks_of_each_length():
    link = get_coded_link(11, "awgn")
    small, large = 400, 3 * link.block_payload
    lengths = {link.segmentation(size).n for size in (small, large)}
    blers = dict(zip(sorted(lengths), (0.5, 0.1), strict=True))
    assert mean_bler([small, large], link, blers.get) == pytest.approx((0.5 + 3 * 0.1) / 4)
    assert mean_bler([], link, blers.get) == 0.0


def test_a_frame_that_is_a_transport_of_its_own_fails_by_itself():
    """Three frames, each a block that fails with p: the first loss is geometric."""
    p, link = 0.2, FakeLink(1.0)
    gops = [gop(100, 180)]
    assert stream_sizes(gops, "frame") == [800] * 3
    assert stream_sizes(gops, "gop") == [2400]
    curve = {40: gops}
    whole = useful_bits_per_use(curve, REFERENCE, {9: (link, at(0.0))}, closeness, "frame")[9][40]
    worth = useful_bits_per_use(curve, REFERENCE, {9: (link, at(p))}, closeness, "frame")[9][40]
    assert whole == 1.0
    assert worth == pytest.approx(1.0 - p)  # grey unless the first frame came; later ones repeat it


def test_when_nothing_gets_through_the_most_robust_mcs_is_the_candidate():
    assert candidates(lambda mcs: 1.0) == {0: 1.0}


def test_one_rate_alone_still_chooses():
    values = useful_bits_per_use(
        {30: CURVE[30]},
        REFERENCE,
        {5: (FakeLink(0.74), at(0.0)), 20: (FakeLink(3.32), at(1.0))},
        closeness,
    )
    assert best_mcs(values) == 5


def test_the_bler_of_an_mcs_is_named_by_a_plain_index():
    assert [mcs.index for mcs in MCS_TABLE] == list(range(29))
