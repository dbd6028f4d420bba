"""Block error rates of any block length, read between those of a few measured lengths."""

import math

import numpy as np
import pytest

from pvsc_link.link import bler
from pvsc_link.link.bler import BlerCache, bler_of_length, condition_of, measure_bler
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.link.mcs import MCS_TABLES, get_mcs
from pvsc_link.link.transport_options import Transport
from pvsc_link.types import ChannelPoint

AWGN = ChannelPoint("awgn", 4.4)  # MCS 11: full blocks rarely fail, short ones often
OPTIONS = {"equalizer": "lmmse", "csi_aware": True, "decoder": "layered", "num_iter": 20}


@pytest.fixture
def measured(monkeypatch):
    """Made-up block error rates by coded length, and the lengths that were asked for."""
    values, asked = {}, []

    def measure(mcs, point, *, transport, n, **options):
        asked.append(n)
        return bler.BlerEstimate(0, 1, values[n], 0.0, 1.0)

    monkeypatch.setattr(bler, "measure_bler", measure)
    return values, asked


def test_lengths_are_halves_in_whole_symbols_that_carry_a_payload():
    assert bler.measured_lengths(get_mcs(11)) == [192, 384, 768, 1536, 3072, 6144]
    assert bler.measured_lengths(get_mcs(20, 2, 8448)) == [264, 528, 1056, 2112, 4224, 8448]
    for rows in MCS_TABLES.values():
        for row in rows:
            for n in bler.measured_lengths(row):
                assert n % row.num_bits_per_symbol == 0
                assert int(n * row.target_coderate) > 24


def test_between_two_lengths_the_logarithms_are_linear(measured):
    values, asked = measured
    values |= {1536: 0.2, 3072: 0.02}
    middle = round(math.sqrt(1536 * 3072))
    assert bler_of_length(11, AWGN, middle) == pytest.approx(math.sqrt(0.2 * 0.02), rel=1e-3)
    assert asked == [1536, 3072]
    between = [bler_of_length(11, AWGN, n) for n in range(1536, 3073, 64)]
    assert between == sorted(between, reverse=True)
    assert (between[0], between[-1]) == (0.2, 0.02)


def test_where_one_length_has_no_error_the_rate_falls_to_zero_linearly(measured):
    values, _ = measured
    values |= {1536: 0.2, 3072: 0.0, 6144: 0.0}
    assert bler_of_length(11, AWGN, 2172) == pytest.approx(0.1, rel=1e-2)
    assert bler_of_length(11, AWGN, 3072) == bler_of_length(11, AWGN, 5000) == 0.0


def test_beyond_the_shortest_and_the_longest_nothing_changes(measured):
    values, _ = measured
    values |= {192: 0.5, 6144: 0.1}
    assert bler_of_length(11, AWGN, 40) == 0.5
    assert bler_of_length(11, AWGN, 6144) == 0.1


def test_shorter_blocks_fail_more_often_and_lengths_between_are_read_well(tmp_path):
    """In AWGN the waterfall of a short code is flat; 1,088 bits are no measured length."""
    cache, few = BlerCache(tmp_path), {"target_errors": 200, "max_blocks": 4000}
    lengths = (384, 768, 1536, 3072)
    rates = [measure_bler(11, AWGN, **few, cache=cache, n=n).bler for n in lengths]
    assert rates == sorted(rates, reverse=True)
    assert rates[0] > 3 * rates[-1] > 0
    direct = measure_bler(11, AWGN, **few, cache=cache, n=1088).bler
    assert bler_of_length(11, AWGN, 1088, **few, cache=cache) == pytest.approx(direct, rel=0.35)


def test_blocks_of_a_stream_fail_as_the_measured_ones_of_their_length_do(tmp_path):
    link = get_coded_link(11, "awgn")
    payload = link.segmentation(6 * 2300)
    assert (payload.num_blocks, payload.is_shortened) == (7, False)
    expected = bler_of_length(11, AWGN, payload.n, cache=BlerCache(tmp_path))
    bits = np.random.default_rng(1).integers(0, 2, 6 * 2300, dtype=np.uint8)
    fates = np.concatenate([link.send(bits, AWGN, seed).block_ok for seed in range(200)])
    spread = math.sqrt(expected / len(fates))
    assert abs(np.mean(~fates) - expected) < 0.35 * expected + 3 * spread


def test_the_key_of_full_blocks_of_table_1_is_the_one_that_caches_have():
    assert condition_of(11, AWGN, **OPTIONS) == {
        **{"version": 1, "mcs": 11, "n": 6144, "channel": "awgn", "snr_db": 4.4},
        **{"csi_nmse_db": None, "coherence_length": None, **OPTIONS},
    }
    of_table_2 = condition_of(11, AWGN, **OPTIONS, transport=Transport(mcs_table=2))
    assert of_table_2["mcs_table"] == 2
    assert condition_of(11, AWGN, **OPTIONS, n=768)["n"] == 768
