"""The channel contract: closed-form error rates, paired realisations, gradients, no retraces."""

import dataclasses
import doctest
import math

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erfc
from sionna.phy.mapping import Demapper, Mapper

from pvsc_link.link import coded_link, flat_fading
from pvsc_link.link.channel import ChannelOutput, get_channel_function, make_channel
from pvsc_link.link.coded_link import CodedLink
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.link.registry import CHANNELS, SYMBOL_EQUALIZERS, ChannelType
from pvsc_link.options import NoOptions
from pvsc_link.types import ChannelPoint, InputError

FADED = {"csi_nmse_db": -15.0, "coherence_length": 2}
CALL = {"snr_db": 10.0, "seed": 5}


def gauss_tail(snr, weight):
    """Q(sqrt(weight snr)): error probability of one decision threshold in AWGN."""
    return 0.5 * erfc(np.sqrt(weight * snr / 2))


def faded_tail(snr, weight):
    """Its mean over Rayleigh fading, where snr is exponential."""
    return 0.5 * (1 - np.sqrt(weight * snr / (2 + weight * snr)))


def bit_error_rate(num_bits_per_symbol, snr_db, tail):
    """Exact BER of Gray-labelled QPSK and 16QAM with hard decisions."""
    snr = 10 ** (snr_db / 10)
    if num_bits_per_symbol == 2:
        return tail(snr, 1.0)
    return 0.75 * tail(snr, 0.2) + 0.5 * tail(snr, 1.8) - 0.25 * tail(snr, 5.0)


@pytest.mark.parametrize(
    ("channel", "tail"), [(Awgn(), gauss_tail), (BlockFading("rayleigh"), faded_tail)]
)
@pytest.mark.parametrize("num_bits_per_symbol", [2, 4])
@pytest.mark.parametrize("snr_db", [0.0, 6.0, 10.0])
def test_uncoded_error_rate_is_the_closed_form(channel, tail, num_bits_per_symbol, snr_db):
    """Independent symbols; the count of bit errors lies within 3.3 sigma (99.9 %)."""
    num_bits = 480_000
    bits = np.random.default_rng(4).integers(0, 2, (1, num_bits)).astype(np.float32)
    out = channel(Mapper("qam", num_bits_per_symbol)(bits), snr_db=snr_db, seed=9)
    demap = Demapper("app", "qam", num_bits_per_symbol, hard_out=True)
    errors = np.count_nonzero(demap(out.x_hat, out.no_eff).numpy() != bits)
    expected = num_bits * bit_error_rate(num_bits_per_symbol, snr_db, tail)
    # Bits of one symbol can fail together: at most num_bits_per_symbol times the variance.
    assert abs(errors - expected) < 3.3 * np.sqrt(num_bits_per_symbol * expected)


def test_output_is_fading_times_symbol_plus_noise_over_the_estimate():
    channel, x = BlockFading(**FADED), np.exp(1j * np.arange(64)).astype(np.complex64)[None]
    h, h_hat, noise = (t.numpy() for t in channel.draw(5, tf.range(64)))
    out = channel(tf.constant(x), **CALL)
    np.testing.assert_allclose(out.x_hat[0], (h * x[0] + 10**-0.5 * noise) / h_hat, rtol=1e-4)
    np.testing.assert_allclose(out.no_eff[0], 0.1 / np.abs(h_hat) ** 2, rtol=1e-4)
    assert out.overhead == 0


def test_measured_statistics_are_what_the_condition_says():
    x = tf.complex(*tf.random.stateless_normal([2, 1, 200_000], [1, 2])) * tf.cast(
        0.5**0.5, tf.complex64
    )
    out = BlockFading(csi_nmse_db=-10.0)(x, snr_db=10.0, seed=3)
    assert float(out.stats["csi_nmse"]) == pytest.approx(0.1, rel=0.02)
    assert float(Awgn()(x, snr_db=10.0, seed=3).stats["snr"]) == pytest.approx(10.0, rel=0.02)


def test_high_snr_and_perfect_csi_return_the_symbols():
    symbols = tf.complex(*tf.random.stateless_normal([2, 3, 500], [1, 2]))
    error = []
    for snr_db in (20.0, 40.0, 60.0):
        out = Awgn()(symbols, snr_db=snr_db, seed=1)
        error.append(float(tf.reduce_mean(tf.abs(out.x_hat - symbols))))
    np.testing.assert_allclose(error[1:], np.array(error[:-1]) / 10, rtol=1e-2)


def test_every_row_may_have_its_own_snr():
    channel, x = BlockFading(**FADED), tf.ones([2, 40], tf.complex64)
    both = channel(x, snr_db=[3.0, 12.0], seed=5)
    for row, snr_db in enumerate((3.0, 12.0)):
        alone = channel(x, snr_db=snr_db, seed=5)
        np.testing.assert_allclose(both.x_hat[row], alone.x_hat[row], rtol=1e-5)
        np.testing.assert_allclose(both.no_eff[row], alone.no_eff[row], rtol=1e-5)


def test_rows_of_a_batch_meet_independent_realisations():
    out = BlockFading(**FADED)(tf.ones([2, 40], tf.complex64), **CALL)
    assert np.abs(out.x_hat[1] - out.x_hat[0]).min() > 1e-4


def test_a_stream_in_two_pieces_meets_the_same_channel():
    channel, symbols = BlockFading(**FADED), tf.ones([1, 60], tf.complex64)
    whole = channel(symbols, **CALL).x_hat
    second = channel(symbols[:, 25:], **CALL, first_symbol=25).x_hat
    np.testing.assert_allclose(second, whole[:, 25:], rtol=1e-5)


def test_gradients_flow_through_a_faded_channel_and_are_finite():
    symbols = tf.Variable(tf.ones([1, 2000], tf.complex64))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(BlockFading(**FADED)(symbols, **CALL).x_hat) ** 2)
    gradient = tape.gradient(loss, symbols).numpy()
    assert np.isfinite(gradient).all()
    assert np.all(gradient != 0)


def test_awareness_of_the_csi_error_makes_the_stated_variances_true():
    """Stated variances are the errors made: mean ratio 1 within 3 / sqrt(N) if aware only."""
    num_symbols, ratio = 20_000, {}
    symbols = tf.cast(tf.sign(tf.random.stateless_normal([1, num_symbols], [3, 4])), tf.complex64)
    for aware in (False, True):
        out = BlockFading(csi_nmse_db=-10.0, csi_aware=aware)(symbols, snr_db=15.0, seed=2)
        ratio[aware] = float(np.mean(np.abs(out.x_hat - symbols) ** 2 / out.no_eff.numpy()))
    assert ratio[True] == pytest.approx(1, abs=3 / np.sqrt(num_symbols))
    assert ratio[False] > 2


@pytest.mark.parametrize("csi_aware", [False, True])
@pytest.mark.parametrize("equalizer", SYMBOL_EQUALIZERS)
def test_the_traced_channel_is_the_channel_of_the_point(equalizer, csi_aware):
    x = np.exp(1j * np.arange(60)).astype(np.complex64)
    point = ChannelPoint("rayleigh", 6.0, -10.0, 4)
    channel = make_channel(point, equalizer=equalizer, csi_aware=csi_aware)
    expected = channel(tf.constant(x[None]), snr_db=6.0, seed=9).x_hat[0]
    x_hat, _, uses, _ = get_channel_function("rayleigh", equalizer, csi_aware)(x, point, 9)
    np.testing.assert_allclose(x_hat, expected, rtol=1e-4, atol=1e-5)
    assert uses == 60


def test_all_points_and_lengths_are_one_trace():
    channel = get_channel_function("rayleigh", "zf", True)
    for seed, (snr_db, nmse_db, coherence) in enumerate(
        [(0.0, None, 1), (3.0, -20.0, 4), (9.0, -10.0, 96), (9.5, None, 7)]
    ):
        point = ChannelPoint("rayleigh", snr_db, nmse_db, coherence)
        x_hat, *_ = channel(np.ones(100 + seed, np.complex64), point, seed)
        assert x_hat.shape == (100 + seed,)
    assert channel.trace_count == 1


@pytest.mark.parametrize(
    ("condition", "call", "word"),
    [
        ({}, {"snr_db": np.nan}, "snr_db"),
        ({"csi_nmse_db": np.nan}, {}, "csi_nmse_db"),
        ({"coherence_length": 0}, {}, "coherence_length"),
        ({"coherence_length": None}, {}, "coherence_length"),
        ({}, {"seed": -3}, "seed"),
    ],
)
def test_bad_values_are_refused_by_name(condition, call, word):
    with pytest.raises(InputError, match=word):
        BlockFading(**{**FADED, **condition})(tf.ones([1, 4], tf.complex64), **{**CALL, **call})


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(InputError, match="rayleigh"):
        BlockFading("nakagami")
    with pytest.raises(InputError, match="lmmse, zf"):
        Awgn(equalizer="mmse")
    with pytest.raises(InputError, match="awgn, ofdm, packets, rayleigh"):
        get_channel_function("nakagami", "zf", False)


class EverySecondIsAPilot:
    """A channel of somebody else: noise-free, but half of what is sent is pilots."""

    def __init__(self, *, equalizer, csi_aware):
        pass

    def __call__(self, x, *, snr_db, seed, first_symbol=0):
        no_eff = 1e-3 * tf.ones_like(tf.math.real(x))
        return ChannelOutput(x, no_eff, tf.shape(x)[1], {})


def test_a_channel_from_outside_carries_symbols_and_bits_and_its_pilots_count(monkeypatch):
    mine = ChannelType("mine", "Mine", NoOptions, EverySecondIsAPilot)
    monkeypatch.setitem(CHANNELS, "mine", mine)
    point, symbols = ChannelPoint("mine", 3.0), np.ones(10, np.complex64)
    x_hat, _, uses, _ = get_channel_function("mine", "zf", False)(symbols, point, 1)
    np.testing.assert_array_equal(x_hat, symbols)
    assert uses == 20
    link, bits = CodedLink(11, "mine"), np.tile(np.array([0, 1, 1], np.uint8), 2000)
    received = link.send(bits, point, seed=1)
    np.testing.assert_array_equal(received.bits_hat, bits)
    assert received.num_channel_uses == 2 * link.num_channel_uses(len(bits))
    assert received.num_pilots == link.num_channel_uses(len(bits))


def test_symbols_that_lie_apart_count_their_share_of_the_pilots_between_them(monkeypatch):
    """10 symbols on the channel uses 4 to 28 of a GOP, to which 25 pilots belong."""
    mine = ChannelType("mine", "Mine", NoOptions, EverySecondIsAPilot)
    monkeypatch.setitem(CHANNELS, "mine", mine)
    symbols, places = np.arange(10).astype(np.complex64), np.r_[4, 28, 7:15]
    function = get_channel_function("mine", "zf", False)
    sent = function(symbols, ChannelPoint("mine", 3.0), 1, 0, places)
    np.testing.assert_array_equal(sent.symbols_hat, symbols)
    assert sent.num_channel_uses == 10 + 10


class NoNumberAt(EverySecondIsAPilot):
    """A channel that returns NaN for one symbol."""

    def __call__(self, x, *, snr_db, seed, first_symbol=0):
        is_bad = tf.range(tf.shape(x)[1]) == 7
        return ChannelOutput(
            tf.where(is_bad, np.complex64(np.nan), x), tf.ones_like(x, tf.float32), 0, {}
        )


def test_symbols_that_come_back_as_no_numbers_are_refused(monkeypatch):
    monkeypatch.setitem(CHANNELS, "mine", ChannelType("mine", "Mine", NoOptions, NoNumberAt))
    with pytest.raises(InputError, match="x_hat of the channel mine: found '1 of 10 NaN"):
        get_channel_function("mine", "zf", False)(
            np.ones(10, np.complex64), ChannelPoint("mine", 3.0), 1
        )


class CountsSymbols(EverySecondIsAPilot):
    """Says by its statistics how many symbols it was given; XLA cannot compile it."""

    def __init__(self, *, equalizer, csi_aware, antennas, gain):
        self.antennas = antennas
        assert isinstance(antennas, int)
        assert tf.is_tensor(gain)

    def __call__(self, x, *, snr_db, seed, first_symbol=0):
        error = 10.0 ** (-snr_db / 20) * tf.ones_like(x, tf.float32)
        given = tf.cast(tf.shape(x)[1], tf.float32)
        no_eff = tf.square(error)
        x_hat = x + tf.cast(error, x.dtype)
        return ChannelOutput(x_hat, no_eff, 0, {"csi_nmse": given})


class WithAntennas(NoOptions):
    antennas: int = 1
    gain: float = 1.0


def test_what_xla_cannot_compile_runs_on_the_symbols_that_are_sent_and_traces_static_values_only(
    monkeypatch,
):
    kind = ChannelType("mine", "Mine", WithAntennas, CountsSymbols)
    kind = dataclasses.replace(kind, jit_compile=False, static=frozenset({"antennas"}))
    monkeypatch.setitem(CHANNELS, "mine", kind)
    link, analog = CodedLink(11, "mine"), get_channel_function("mine", "zf", False)
    for size in (100, 3000, 40_000):
        for antennas, gain in ((1, 1.0), (2, 1.0), (2, 3.0)):
            point = kind.point(20.0, {"antennas": antennas, "gain": gain})
            sent = link.send(np.ones(size, np.uint8), point, seed=1)
            assert sent.stats.num_symbols == link.num_channel_uses(size)
            assert sent.stats.snr == pytest.approx(100, rel=0.02)
            if size < 40_000:
                assert sent.stats.csi_nmse == sent.stats.num_symbols
            symbols = np.ones(size, np.complex64)
            measured = analog(symbols, point, 1).stats[:3]
            assert measured == pytest.approx((size, size, 100.0), rel=1e-4)
    assert (link.trace_count, analog.trace_count) == (2, 2)


@pytest.mark.parametrize("module", [flat_fading, coded_link])
def test_the_examples_in_the_docstrings_run_as_printed(module):
    found = doctest.testmod(module)
    assert found.attempted > 3
    assert not found.failed


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"no_eff": -0.1}, "no_eff of the channel.*negative"),
        ({"no_eff": math.nan}, "no_eff of the channel"),
        ({"overhead": -5}, "overhead.*-5"),
    ],
)
def test_a_channel_that_returns_impossible_values_is_refused(monkeypatch, parts, said):
    def make(**options):
        def send(x, *, snr_db, seed, first_symbol=0):
            given = {"no_eff": 0.1, "overhead": 0} | parts
            no_eff = given["no_eff"] + tf.zeros(tf.shape(x))
            return ChannelOutput(x, no_eff, given["overhead"], {})

        return send

    monkeypatch.setitem(CHANNELS, "made_up", ChannelType("made_up", "Made up", NoOptions, make))
    point = ChannelPoint("made_up", 10.0)
    with pytest.raises(InputError, match=said):
        get_channel_function("made_up", "zf", False)(np.ones(8, np.complex64), point, 1)
    with pytest.raises(InputError, match="overhead" if "overhead" in parts else "NaN"):
        CodedLink(4, "made_up").send(np.zeros(100, np.uint8), point, 1)
