"""Block error rates: the link's own, measured once, to a stated confidence."""

import math

import numpy as np
import pytest

from pvsc_link.link import bler
from pvsc_link.link.bler import BlerCache, condition_of, measure_bler
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.link.ldpc.code import get_ldpc_code
from pvsc_link.link.mcs import MCS_TABLE
from pvsc_link.types import ChannelPoint, InputError

OPTIONS = {"equalizer": "lmmse", "csi_aware": True, "decoder": "layered", "num_iter": 20}
WATERFALL = ChannelPoint("rayleigh", 5.4, None, 1)  # of MCS 11


@pytest.fixture
def cache(tmp_path):
    return BlerCache(tmp_path)


@pytest.mark.parametrize("k_n", [(m.k, m.n) for m in MCS_TABLE[::4]] + [(12, 30), (610, 1220)])
def test_the_quasi_cyclic_encoder_gives_sionnas_bits(k_n):
    code = get_ldpc_code(*k_n, 2)
    b = np.random.default_rng(1).integers(0, 2, (5, k_n[0]), dtype=np.uint8)
    assert np.array_equal(code.emit(b), code.encoder(b.astype(np.float32)))


def test_a_measurement_sees_the_errors_that_a_sent_payload_has():
    """The same stream of blocks over the same channel, measured and sent as one payload."""
    point = ChannelPoint("rayleigh", 5.4, -15.0, 7)
    link = get_coded_link(11, "rayleigh")
    blocks = list(link.full_blocks(point, 96, 9))
    payload = np.concatenate([b for b, _ in blocks])[:, : link.block_payload].ravel()
    errors = np.count_nonzero(~link.send(payload, point, 9).block_ok)
    assert 5 < errors < 91
    assert link.count_block_errors(point, 96, 9) == errors


def test_a_measured_point_is_not_measured_again(cache, monkeypatch):
    first = measure_bler(11, WATERFALL, **OPTIONS, max_blocks=300, cache=cache)
    monkeypatch.setattr(bler, "_count_errors", lambda *a, **k: pytest.fail("measured again"))
    assert measure_bler(11, WATERFALL, **OPTIONS, max_blocks=300, cache=cache) == first
    shared = {**OPTIONS, "decoder": "layered-xla"}  # the same bits, hence the same errors
    assert measure_bler(11, WATERFALL, **shared, max_blocks=300, cache=cache) == first


def test_more_confidence_adds_to_what_is_there(cache):
    few = measure_bler(11, WATERFALL, **OPTIONS, max_blocks=200, cache=cache)
    bounds = {"target_errors": 10_000, "max_blocks": 500}
    more = measure_bler(11, WATERFALL, **OPTIONS, **bounds, cache=cache)
    assert (few.blocks, more.blocks) == (200, 500)
    assert few.errors <= more.errors
    assert more.high - more.low < few.high - few.low


def test_other_seeds_are_other_runs_and_merging_adds_them(cache, tmp_path):
    other = BlerCache(tmp_path / "other")
    parts = [
        measure_bler(11, WATERFALL, **OPTIONS, max_blocks=200, seed=seed, cache=where)
        for seed, where in ((0, cache), (1, other))
    ]
    assert cache.merge(other) == len(other.runs(condition_of(11, WATERFALL, **OPTIONS)))
    both = measure_bler(11, WATERFALL, **OPTIONS, max_blocks=400, cache=cache)
    assert both.errors == sum(part.errors for part in parts)
    assert both.blocks == 400


def test_a_hopeless_point_costs_little_more_than_the_errors_asked_for(cache):
    hopeless = ChannelPoint("rayleigh", -5.0, None, 1)
    estimate = measure_bler(11, hopeless, **OPTIONS, target_errors=100, cache=cache)
    assert estimate.bler == 1.0
    assert estimate.blocks <= 128


def counted(errors_of_size):
    def count(mcs, point, num_blocks, seed, **options):
        return errors_of_size(num_blocks, seed)

    return count


@pytest.mark.parametrize("p", [0.7, 0.03, 0.004, 1e-5])
def test_measuring_stops_at_the_errors_or_the_bound_and_the_interval_covers(p, cache, monkeypatch):
    def draw(size, seed):
        return int(np.random.default_rng(seed).binomial(size, p))

    monkeypatch.setattr(bler, "_count_errors", counted(draw))
    covered = 0
    for seed in range(40):
        fresh = BlerCache(cache.root / str(seed))
        estimate = measure_bler(11, WATERFALL, **OPTIONS, seed=seed, cache=fresh)
        assert estimate.errors >= 100 or estimate.blocks == 20_000
        assert estimate.errors <= 260
        covered += estimate.low <= p <= estimate.high
    assert covered >= 34  # 95 % of 40 is 38; fewer than 34 has probability 2 %


def test_blocks_that_share_a_fade_are_not_independent_trials():
    runs = [bler.Run(1, 50, 1000)]
    widths = []
    for coherence_length in (1, 1536, 15360):
        point = ChannelPoint("rayleigh", 5.0, None, coherence_length)
        estimate = bler.estimate_of(condition_of(11, point, **OPTIONS), runs)
        assert estimate.bler == 0.05
        widths.append(estimate.high - estimate.low)
    assert widths[0] == widths[1]
    assert widths[2] == pytest.approx(math.sqrt(10) * widths[0], rel=0.1)


def test_what_makes_no_difference_is_one_condition():
    awgn = [ChannelPoint("awgn", 3, None, length) for length in (None, 1, 7)]
    assert len({str(condition_of(5, point, **OPTIONS)) for point in awgn}) == 1
    nmse = [ChannelPoint("rayleigh", 3.0, value, 1) for value in (None, -math.inf)]
    assert len({str(condition_of(5, point, **OPTIONS)) for point in nmse}) == 1


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"decoder": "turbo"}, "decoder"),
        ({"equalizer": "dfe"}, "equalizer"),
        ({"max_blocks": 0}, "bounds"),
        ({"target_errors": 0}, "bounds"),
    ],
)
def test_bad_options_are_refused_before_anything_is_measured(change, what, cache):
    with pytest.raises(InputError, match=what):
        measure_bler(5, WATERFALL, **{**OPTIONS, **change}, cache=cache)
    with pytest.raises(InputError, match="channel"):
        measure_bler(5, ChannelPoint("nakagami", 3.0), **OPTIONS, cache=cache)
