"""The digital link: bits in, bits out, counted exactly, one trace for all points."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.coded_link import BATCH_SIZE, CodedLink, get_coded_link
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.link.mcs import MCS_TABLE
from pvsc_link.link.transport_options import Transport
from pvsc_link.types import ChannelPoint, InputError

CLEAN = ChannelPoint("awgn", 40.0)
FADED = ChannelPoint("rayleigh", 6.0, -20.0, 1)
FEW_MCS = (0, 2, 11, 28)


def random_bits(num_bits, seed=1):
    return np.random.default_rng(seed).integers(0, 2, num_bits, dtype=np.uint8)


def link_of(mcs, channel="awgn"):
    return get_coded_link(mcs, channel, decoder="layered")


def assert_round_trip(link, num_bits):
    bits = random_bits(num_bits)
    reception = link.send(bits, CLEAN, seed=1)
    np.testing.assert_array_equal(reception.bits_hat, bits)
    assert reception.block_ok.all()
    assert reception.bits_hat.dtype == np.uint8
    assert reception.block_num_bits.sum() == num_bits
    assert reception.num_channel_uses == link.num_channel_uses(num_bits)


@pytest.mark.parametrize("mcs", FEW_MCS)
@pytest.mark.parametrize("num_blocks", [0, 1, BATCH_SIZE, BATCH_SIZE + 1])
@pytest.mark.parametrize("remainder", [0, 1, 333])
def test_noise_free_round_trip_returns_the_bits(mcs, num_blocks, remainder):
    link = link_of(mcs)
    assert_round_trip(link, num_blocks * link.block_payload + remainder)


@pytest.mark.slow
@pytest.mark.parametrize("mcs", range(29))
@pytest.mark.parametrize("decoder", ["layered", "sionna"])
def test_noise_free_round_trip_for_every_mcs(mcs, decoder):
    link = CodedLink(mcs, "awgn", decoder=decoder)
    assert_round_trip(link, 2 * link.block_payload + 100)


@pytest.mark.parametrize("row", MCS_TABLE, ids=lambda row: f"mcs{row.index}")
def test_full_blocks_cost_what_the_table_says(row):
    link = link_of(row.index)
    assert link.num_channel_uses(7 * (row.k - 24)) == 7 * row.n // row.num_bits_per_symbol
    assert link.num_blocks(7 * (row.k - 24)) == 7
    assert link.num_blocks(7 * (row.k - 24) + 1) == 8


@pytest.mark.parametrize("mcs", FEW_MCS)
def test_fillers_of_the_last_block_are_not_counted(mcs):
    """A symbol's worth of payload less costs one channel use less, or two if it is repeated."""
    link = get_coded_link(mcs, "awgn", transport=Transport(segmentation="shortened"))
    full, order = link.block_payload, link.mcs.num_bits_per_symbol
    on_air = link.mcs.k - 2 * link.code.encoder.z
    for missing in (order, 10 * order, on_air // order * order):
        spared = link.num_channel_uses(full) - link.num_channel_uses(full - missing)
        assert missing // order <= spared <= missing // order * (1 + link.code.is_repeated)


def test_the_symbols_that_are_counted_suffice_and_those_beyond_do_not_matter():
    """A short block decodes alike whatever the channel does after its last channel use."""
    link = link_of(13, "rayleigh")
    bits, point = random_bits(40), ChannelPoint("rayleigh", 22.0, None, 1)
    uses = link.num_channel_uses(40)
    assert uses < link.mcs.n // 4
    seen = []

    def jam_after_the_end(y, h_hat, no, err_var):
        tail = tf.range(tf.shape(y)[1]) >= uses
        seen.append(1)
        x_hat = tf.where(tail, tf.cast(1e3, y.dtype), y / h_hat)
        return x_hat, tf.where(tail, 1e-3, no / tf.abs(h_hat) ** 2)

    jammed = CodedLink(13, "rayleigh", equalizer=jam_after_the_end, decoder="layered")
    for seed in range(5):
        received = jammed.send(bits, point, seed)
        np.testing.assert_array_equal(received.bits_hat, link.send(bits, point, seed).bits_hat)
        assert received.block_ok.all()
    assert seen


def test_two_traces_serve_every_channel_point_and_length():
    link = CodedLink(4, "rayleigh", decoder="layered")
    for snr_db in (-3.0, 2.0, 9.5):
        for nmse_db in (None, -20.0, -10.0):
            for coherence_length in (1, 96, 5000):
                point = ChannelPoint("rayleigh", snr_db, nmse_db, coherence_length)
                link.send(random_bits(1000 + coherence_length), point, seed=coherence_length)
    link.count_block_errors(FADED, 5, seed=3)
    assert link.trace_count == 2  # of long and of short calls


def test_links_of_the_same_parameters_are_built_once():
    assert link_of(4) is link_of(4)
    assert link_of(4) is not link_of(5)


def test_failed_blocks_are_found_by_their_crc():
    """Every block with a wrong bit fails its CRC, every other passes (2^-24 else)."""
    link = link_of(11, "rayleigh")
    bits = random_bits(64 * link.block_payload)
    point = ChannelPoint("rayleigh", 6.0, None, 1536)
    reception = link.send(bits, point, seed=5)
    wrong = (reception.bits_hat != bits).reshape(64, -1).any(axis=1)
    np.testing.assert_array_equal(reception.block_ok, ~wrong)
    assert 5 < wrong.sum() < 59


def test_a_realisation_is_repeatable_and_another_seed_is_another():
    link = link_of(11, "rayleigh")
    bits = random_bits(10 * link.block_payload)
    point = ChannelPoint("rayleigh", 3.0, -15.0, 700)
    first, second, other = (link.send(bits, point, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.bits_hat, second.bits_hat)
    assert np.any(first.bits_hat != other.bits_hat)


def test_a_longer_stream_leaves_the_blocks_before_it_as_they_were():
    link = link_of(11, "rayleigh")
    point = ChannelPoint("rayleigh", 3.0, -15.0, 700)
    bits = random_bits(50 * link.block_payload)
    long = link.send(bits, point, seed=4)
    short = link.send(bits[: 13 * link.block_payload], point, seed=4)
    np.testing.assert_array_equal(short.block_ok, long.block_ok[:13])
    assert not short.block_ok.all()


def test_consecutive_blocks_share_a_coherence_interval():
    """With one fade over all blocks they live and die together; with one fade each they do not."""
    link = link_of(11, "rayleigh")
    bits = random_bits(8 * link.block_payload)
    symbols_per_block = link.mcs.n // link.mcs.num_bits_per_symbol

    def fates(coherence_length):
        point = ChannelPoint("rayleigh", 7.0, None, coherence_length)
        return {int(link.send(bits, point, seed).block_ok.sum()) for seed in range(10)}

    assert fates(8 * symbols_per_block) == {0, 8}
    assert not fates(symbols_per_block) <= {0, 8}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"mcs": 29}, "0 to 28"),
        ({"channel": "nakagami"}, "awgn, ofdm, packets, rayleigh"),
        ({"equalizer": "mmse"}, "lmmse, zf"),
        ({"decoder": "viterbi"}, "sionna"),
        ({"num_iter": 0}, "integers from 1"),
        ({"num_iter": 2.5}, "integers from 1"),
    ],
)
def test_unknown_names_are_refused_with_the_allowed_ones(change, word):
    with pytest.raises(InputError, match=word):
        CodedLink(**{"mcs": 4, "channel": "awgn", **change})


@pytest.mark.parametrize(
    ("point", "word"),
    [
        (ChannelPoint("awgn", 3.0), "channel of the point"),
        (ChannelPoint("rayleigh", np.nan, None, 1), "snr_db"),
        (ChannelPoint("rayleigh", np.inf, None, 1), "snr_db"),
        (ChannelPoint("rayleigh", 3.0, np.nan, 1), "csi_nmse_db"),
        (ChannelPoint("rayleigh", 3.0, None, 0), "coherence_length"),
        (ChannelPoint("rayleigh", 3.0, None, 1.5), "coherence_length"),
        (ChannelPoint("rayleigh", 3.0, None, None), "coherence_length"),
    ],
)
def test_bad_points_are_refused_by_what_is_bad(point, word):
    with pytest.raises(InputError, match=word):
        link_of(4, "rayleigh").send(random_bits(10), point, seed=1)


def test_a_csi_error_under_awgn_is_refused():
    with pytest.raises(InputError, match="AWGN"):
        link_of(4).send(random_bits(10), ChannelPoint("awgn", 3.0, -10.0), seed=1)


@pytest.mark.parametrize(
    "bits", [np.full(9, 2, np.uint8), np.zeros(9), np.zeros((3, 3), np.uint8), [0]]
)
def test_bits_that_are_no_bits_are_refused(bits):
    with pytest.raises(InputError, match="uint8 vector of zeros and ones"):
        link_of(4).send(bits, CLEAN, seed=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("decoder", ["layered", "sionna"])
def test_llrs_that_are_not_finite_are_refused(bad, decoder):
    def broken(y, h_hat, no, err_var):
        return y, tf.zeros_like(tf.math.real(y)) + tf.constant(bad)

    def too_loud(y, h_hat, no, err_var):
        return tf.cast(bad, y.dtype) * y, tf.ones_like(tf.math.real(y))

    for equalizer in (broken, too_loud) if np.isnan(bad) else (too_loud,):
        link = CodedLink(4, "awgn", equalizer=equalizer, decoder=decoder)
        with pytest.raises(InputError, match="LLRs"):
            link.send(random_bits(10), CLEAN, seed=1)


def test_a_channel_object_gives_what_its_name_and_condition_give():
    bits = random_bits(3000)
    channel = BlockFading("rayleigh", csi_nmse_db=-20.0, equalizer="lmmse", csi_aware=True)
    by_object = CodedLink(11, channel)(bits, snr_db=6.0, seed=2)
    by_name = link_of(11, "rayleigh")(bits, snr_db=6.0, seed=2, csi_nmse_db=-20.0)
    of_point = link_of(11, "rayleigh").send(bits, FADED, seed=2)
    for bits_hat, block_ok in (by_object, by_name):
        np.testing.assert_array_equal(bits_hat, of_point.bits_hat)
        np.testing.assert_array_equal(block_ok, of_point.block_ok)


def test_a_condition_that_the_channel_lacks_is_refused():
    with pytest.raises(InputError, match="csi_nmse_db"):
        link_of(4)(random_bits(10), snr_db=3.0, seed=1, csi_nmse_db=-10.0)
    with pytest.raises(InputError, match="channel object"):
        CodedLink(4, Awgn())(random_bits(10), snr_db=3.0, seed=1, coherence_length=2)
