"""Segmentation of TS 38.212: coded sizes, bits that come back, places in the channel."""

import math

import numpy as np
import pytest
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GEncoder

from pvsc_link.link.air import Air, interleaved_places
from pvsc_link.link.channel import get_channel_function
from pvsc_link.link.coded_link import BATCH_BITS, CodedLink, get_coded_link
from pvsc_link.link.mcs import MCS_TABLES, Mcs, get_mcs
from pvsc_link.link.transport import SEGMENTATIONS, coded_length, equal_blocks
from pvsc_link.link.transport_options import Transport
from pvsc_link.types import ChannelPoint, InputError

ROWS = [row for rows in MCS_TABLES.values() for row in rows]
SIZES = [100, 101, 777, 1222, 5000, 8424, 8425, 65_537, 1_000_000]
CLEAN = ChannelPoint("awgn", 45.0)


def random_bits(num_bits, seed=1):
    return np.random.default_rng(seed).integers(0, 2, num_bits, dtype=np.uint8)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"table{row.table}-{row.index}")
def test_a_stream_costs_its_bits_and_crcs_at_the_rate_of_the_mcs(row):
    """Within 1 %, or one symbol and one CRC bit per block where blocks are tiny."""
    for num_bits in SIZES:
        blocks = equal_blocks(num_bits, row)
        uses = blocks.num_blocks * blocks.n / row.num_bits_per_symbol
        ideal = (num_bits + 24 * blocks.num_blocks) / row.spectral_efficiency
        rounding = blocks.num_blocks * (1 + 1 / row.spectral_efficiency)
        assert ideal <= uses <= ideal + min(rounding, max(0.01 * ideal, 1 + 1))


@pytest.mark.parametrize("row", ROWS[::5], ids=lambda row: f"table{row.table}-{row.index}")
def test_blocks_are_equal_as_few_as_can_be_and_at_most_full(row):
    for num_bits in (1, 23, *SIZES):
        blocks = equal_blocks(num_bits, row)
        assert blocks.n <= row.n
        assert blocks.n % row.num_bits_per_symbol == 0
        assert blocks.k / blocks.n <= row.target_coderate
        assert blocks.num_fillers <= blocks.num_blocks - 1
        assert blocks.block_num_bits.sum() == num_bits
        if blocks.num_blocks > 1:
            fewer = -(-num_bits // (blocks.num_blocks - 1)) + 24
            assert coded_length(fewer, row) > row.n


def test_the_number_of_blocks_is_that_of_38_212_at_its_own_largest_block():
    """K_cb of base graph 1 is 8,448: C = ceil(B / (K_cb - 24)), k' = B / C + 24 (5.2.2)."""
    rate = 0.5
    largest = Mcs(0, 4, rate, n=2 * 8448)
    for num_bits in (8424, 8425, 50_000, 1_000_000):
        blocks = equal_blocks(num_bits, largest)
        assert blocks.num_blocks == math.ceil(num_bits / (8448 - 24))
        assert blocks.k == math.ceil(num_bits / blocks.num_blocks) + 24


def test_base_graph_and_lifting_of_a_block_are_those_of_its_size_and_rate():
    """38.212, 7.2.2: graph 2 up to 292 bits, up to 3,824 bits at a rate of at most 0.67."""
    for mcs, num_bits, graph in ((27, 200, 2), (5, 2000, 2), (24, 4000, 1), (27, 5400, 1)):
        link = get_coded_link(mcs, "awgn")
        blocks = link.segmentation(num_bits)
        code = link.code_of(blocks)
        encoder = LDPC5GEncoder(blocks.k, blocks.n, bg=f"bg{graph}")
        bits = random_bits(blocks.k)[None]
        expected = np.asarray(encoder(tf.constant(bits, tf.float32)))
        sent = code.encode(bits)
        np.testing.assert_array_equal(np.sort(sent), np.sort(expected))
        rows = sent.reshape(-1, link.mcs.num_bits_per_symbol).T.ravel()  # interleaver undone
        np.testing.assert_array_equal(rows, expected[0])


@pytest.mark.parametrize("mcs", [0, 11, 20, 28])
@pytest.mark.parametrize("num_bits", [0, 1, 23, 3824, 3825, 8424, 100_001])
def test_bits_come_back_over_a_good_channel(mcs, num_bits):
    link, bits = get_coded_link(mcs, "awgn"), random_bits(num_bits)
    received = link.send(bits, CLEAN, seed=1)
    np.testing.assert_array_equal(received.bits_hat, bits)
    assert received.block_ok.all()
    assert len(received.block_ok) == link.num_blocks(num_bits) == len(received.block_num_bits)
    assert received.block_num_bits.sum() == num_bits
    assert received.num_channel_uses == link.num_channel_uses(num_bits)


@pytest.mark.parametrize(
    ("table", "mcs"), [(2, 20), (2, 23), (2, 27), (3, 0), (3, 3), (3, 14), (3, 28)]
)
def test_bits_come_back_in_256_qam_and_at_the_lowest_rates(table, mcs):
    link = get_coded_link(mcs, "awgn", transport=Transport(mcs_table=table))
    bits = random_bits(9001)
    received = link.send(bits, CLEAN, seed=1)
    np.testing.assert_array_equal(received.bits_hat, bits)
    assert received.block_ok.all()


@pytest.mark.parametrize("block_length", [1536, 6144, 8448])
def test_a_block_length_bounds_the_blocks(block_length):
    link = get_coded_link(11, "awgn", transport=Transport(block_length=block_length))
    bits = random_bits(20_000)
    assert link.segmentation(len(bits)).n <= block_length
    assert link.num_blocks(len(bits)) == math.ceil(20_000 / (int(block_length * 378 / 1024) - 24))
    np.testing.assert_array_equal(link.send(bits, CLEAN, 1).bits_hat, bits)


@pytest.mark.parametrize(
    ("mcs", "block_length"), [(0, 200), (3, 16_000), (4, 13_000), (28, 9_200), (28, 26)]
)
def test_a_block_length_that_no_base_graph_carries_is_refused(mcs, block_length):
    with pytest.raises(InputError, match="block_length at MCS") as error:
        get_mcs(mcs, 1, block_length)
    low, high = (
        int(word) for word in error.value.remedy.replace(",", "").split() if word.isdigit()
    )
    assert low <= high
    for allowed in (low + 6, high):
        assert get_mcs(mcs, 1, allowed).n <= allowed


def test_the_blocks_of_before_have_the_key_shortened():
    before = get_coded_link(5, "awgn", transport=Transport(segmentation="shortened"))
    now = get_coded_link(5, "awgn")
    assert before.num_channel_uses(1222) == 2558
    assert now.num_channel_uses(1222) == 1684  # ceil(1246 / 0.7402)
    full = 3 * now.block_payload
    assert before.num_channel_uses(full) == now.num_channel_uses(full)
    bits = random_bits(full)
    point = ChannelPoint("awgn", -0.9)
    sent = [link.send(bits, point, 5) for link in (before, now)]
    np.testing.assert_array_equal(sent[0].block_ok, sent[1].block_ok)
    np.testing.assert_array_equal(sent[0].bits_hat, sent[1].bits_hat)
    assert sorted(SEGMENTATIONS) == ["equal", "shortened"]


def test_one_compilation_serves_every_block_size():
    link = CodedLink(7, "rayleigh")
    point = ChannelPoint("rayleigh", 8.0, -20.0, 50)
    for num_bits in (1, 40, 700, 2100, 2900, 31_000, 90_001):
        assert link.send(random_bits(num_bits), point, 1).bits_hat.shape == (num_bits,)
    link.count_block_errors(point, 5, seed=1, n=384)
    assert link.trace_count <= 2  # long and short calls


def test_the_place_of_a_symbol_decides_whatever_the_pieces_are():
    """Equal full blocks meet the same channel in one long call and in calls of a block each."""
    link = get_coded_link(11, "rayleigh")
    point = ChannelPoint("rayleigh", 3.2, -15.0, 700)
    payload, uses = link.block_payload, link.mcs.n // link.mcs.num_bits_per_symbol
    num_blocks = BATCH_BITS // link.mcs.n + 3
    bits = random_bits(num_blocks * payload)
    whole = link.send(bits, point, 9)
    parts = [
        link.send(part, point, 9, first_symbol=i * uses)
        for i, part in enumerate(np.split(bits, num_blocks))
    ]
    np.testing.assert_array_equal(whole.block_ok, [bool(part.block_ok) for part in parts])
    np.testing.assert_array_equal(whole.bits_hat, np.concatenate([p.bits_hat for p in parts]))
    assert 0 < whole.block_ok.sum() < num_blocks


def test_graph_and_arrays_give_the_same_bits_for_equal_blocks():
    link = CodedLink(Mcs(11, 4, 378 / 1024, n=960), "rayleigh")
    bits = random_bits(1111)

    @tf.function
    def in_graph(rows):
        return link(rows, snr_db=3.5, seed=7, csi_nmse_db=-20.0, coherence_length=16)

    bits_hat, ok = in_graph(tf.constant(bits[None], tf.float32))
    arrays, ok_arrays = link(bits, snr_db=3.5, seed=7, csi_nmse_db=-20.0, coherence_length=16)
    np.testing.assert_array_equal(bits_hat[0].numpy().astype(np.uint8), arrays)
    np.testing.assert_array_equal(ok[0], ok_arrays)
    assert len(ok_arrays) == link.num_blocks(1111) == 4


@pytest.mark.parametrize("num", [1, 2, 7, 100, 4096, 12_345])
def test_interleaving_is_a_permutation(num):
    places = interleaved_places(num)
    np.testing.assert_array_equal(np.sort(places), np.arange(num))


def test_neighbours_on_the_air_come_from_far_apart():
    """A fade of 100 uses in 10,000 hits symbols that are at least 20 apart."""
    order = np.argsort(interleaved_places(10_000))
    for first in range(0, 9_900, 331):
        hit = np.sort(order[first : first + 100])
        assert np.diff(hit).min() >= 20


def test_interleaved_symbols_meet_the_process_at_their_places():
    point = ChannelPoint("rayleigh", 6.0, -10.0, 20)
    channel = get_channel_function("rayleigh", "zf", csi_aware=False)
    x = np.exp(1j * np.arange(500)).astype(np.complex64)
    air = Air(point, 3, "gop", num_symbols=500)
    parts = [air.send_symbols(channel, part) for part in np.split(x, [123, 200])]
    got = np.concatenate([part.symbols_hat for part in parts])
    on_air = np.empty_like(x)
    on_air[interleaved_places(500)] = x
    expected = channel(on_air, point, 3).symbols_hat[interleaved_places(500)]
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    assert parts[0].num_channel_uses == 123


def test_interleaving_saves_a_coded_block_from_a_fade():
    """Coherence of a whole block: in order it is often lost, spread over a long GOP hardly ever."""
    point = ChannelPoint("rayleigh", 10.0, None, 1600)
    link, bits = get_coded_link(11, "rayleigh"), random_bits(1000)
    uses = link.num_channel_uses(1000)
    ok = {}
    for interleaving in ("none", "gop"):
        airs = [Air(point, seed, interleaving, num_symbols=40 * uses) for seed in range(30)]
        ok[interleaving] = sum(int(air.send_bits(link, bits).block_ok.sum()) for air in airs)
    assert ok["none"] < 27
    assert ok["gop"] == 30


def test_more_symbols_than_an_interleaved_gop_has_are_refused():
    channel = get_channel_function("awgn", "zf", csi_aware=False)
    air = Air(ChannelPoint("awgn", 6.0), 1, "gop", num_symbols=10)
    with pytest.raises(InputError, match="num_symbols"):
        air.send_symbols(channel, np.ones(11, np.complex64))
    with pytest.raises(InputError, match="num_symbols"):
        Air(ChannelPoint("awgn", 6.0), 1, "gop")


@pytest.mark.parametrize("places", [[0, 0, 1], [0, 1], [-1, 0, 1], [0.0, 1.0, 2.0]])
def test_bad_places_are_refused(places):
    channel = get_channel_function("awgn", "zf", csi_aware=False)
    with pytest.raises(InputError, match="places"):
        channel(np.ones(3, np.complex64), ChannelPoint("awgn", 6.0), 1, places=np.array(places))
