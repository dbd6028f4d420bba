"""The analog link: closed-form error rates, pairing with the digital link, differentiability."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import erfc
from sionna.phy.mapping import Demapper, Mapper

from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.flat import draw
from pvsc_link.link.symbol_link import SymbolLink, normalize_power
from pvsc_link.types import InputError

POINT = {"snr_db": 10.0, "csi_nmse_db": -15.0, "coherence_length": 2, "seed": 5}


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


@pytest.mark.parametrize(("channel", "tail"), [("awgn", gauss_tail), ("rayleigh", faded_tail)])
@pytest.mark.parametrize("num_bits_per_symbol", [2, 4])
@pytest.mark.parametrize("snr_db", [0.0, 6.0, 10.0])
def test_uncoded_error_rate_is_the_closed_form(channel, tail, num_bits_per_symbol, snr_db):
    """Independent symbols; the count of bit errors lies within 3.3 sigma (99.9 %)."""
    num_bits = 480_000
    bits = np.random.default_rng(4).integers(0, 2, (1, num_bits)).astype(np.float32)
    symbols_hat, no_eff = SymbolLink(channel)(
        Mapper("qam", num_bits_per_symbol)(bits), snr_db=snr_db, coherence_length=1, seed=9
    )
    demap = Demapper("app", "qam", num_bits_per_symbol, hard_out=True)
    errors = np.count_nonzero(demap(symbols_hat, no_eff).numpy() != bits)
    expected = num_bits * bit_error_rate(num_bits_per_symbol, snr_db, tail)
    # Bits of one symbol can fail together: at most num_bits_per_symbol times the variance.
    assert abs(errors - expected) < 3.3 * np.sqrt(num_bits_per_symbol * expected)


def test_high_snr_and_perfect_csi_return_the_symbols():
    symbols = normalize_power(tf.complex(*tf.random.stateless_normal([2, 3, 500], [1, 2])))
    error = []
    for snr_db in (20.0, 40.0, 60.0):
        symbols_hat, _ = SymbolLink("awgn")(symbols, snr_db=snr_db, seed=1)
        error.append(float(tf.reduce_mean(tf.abs(symbols_hat - symbols))))
    np.testing.assert_allclose(error[1:], np.array(error[:-1]) / 10, rtol=1e-2)


def test_one_trace_serves_all_points_and_lengths():
    link, traces = SymbolLink("rayleigh", csi_aware=True), []
    scalar = tf.TensorSpec([], tf.float32)
    index = tf.TensorSpec([], tf.int32)

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, None], tf.complex64), scalar, scalar, index,
            tf.TensorSpec([2], tf.uint32),
        ]
    )  # fmt: skip
    def receive(symbols, snr_db, csi_nmse_db, coherence_length, seed):
        traces.append(1)
        return link(
            symbols,
            snr_db=snr_db,
            csi_nmse_db=csi_nmse_db,
            coherence_length=coherence_length,
            seed=seed,
        )

    for length, snr_db, nmse_db, coherence in [
        (5, 0, -10, 1),
        (9, 3, -20, 4),
        (700, 9, -np.inf, 96),
    ]:
        symbols = tf.ones([2, length], tf.complex64)
        point = tf.constant(float(snr_db)), tf.constant(float(nmse_db)), tf.constant(coherence)
        symbols_hat, no_eff = receive(symbols, *point, seed_tensor(length))
        assert symbols_hat.shape == no_eff.shape == (2, length)
    assert len(traces) == 1


def test_the_first_row_meets_the_realisation_of_the_point():
    h, h_hat, noise = draw("rayleigh", seed_tensor(5), 40, tf.constant(2), tf.constant(10**-1.5))
    symbols = tf.ones([2, 40], tf.complex64)
    symbols_hat, _ = SymbolLink("rayleigh")(symbols, **POINT)
    expected = (h + tf.cast(10**-0.5, tf.complex64) * noise) / h_hat
    np.testing.assert_allclose(symbols_hat[0], expected, rtol=1e-4)
    assert np.abs(symbols_hat[1] - expected).min() > 1e-4


def test_a_stream_in_two_pieces_meets_the_same_channel():
    link, symbols = SymbolLink("rayleigh"), tf.ones([1, 60], tf.complex64)
    whole, _ = link(symbols, **POINT)
    second, _ = link(symbols[:, 25:], **POINT, first_symbol=25)
    np.testing.assert_allclose(second, whole[:, 25:], rtol=1e-5)


def test_gradients_flow_through_a_faded_channel_and_are_finite():
    symbols = tf.Variable(tf.ones([1, 2000], tf.complex64))
    with tf.GradientTape() as tape:
        symbols_hat, _ = SymbolLink("rayleigh")(symbols, **POINT)
        loss = tf.reduce_mean(tf.abs(symbols_hat) ** 2)
    gradient = tape.gradient(loss, symbols).numpy()
    assert np.isfinite(gradient).all()
    assert np.all(gradient != 0)


def test_awareness_of_the_csi_error_lowers_the_error_of_analog_symbols_per_stated_variance():
    """Stated variances are the errors made: mean ratio 1 within 3 / sqrt(N) if aware only."""
    num_symbols, ratio = 20_000, {}
    symbols = tf.cast(tf.sign(tf.random.stateless_normal([1, num_symbols], [3, 4])), tf.complex64)
    for aware in (False, True):
        link = SymbolLink("rayleigh", csi_aware=aware)
        symbols_hat, no_eff = link(
            symbols, snr_db=15.0, csi_nmse_db=-10.0, coherence_length=1, seed=2
        )
        ratio[aware] = float(np.mean(np.abs(symbols_hat - symbols) ** 2 / no_eff.numpy()))
    assert ratio[True] == pytest.approx(1, abs=3 / np.sqrt(num_symbols))
    assert ratio[False] > 2


def test_power_is_normalised_row_by_row_and_silence_stays_silent():
    rows = np.array([[3.0, 4.0j, 0.0], [0.1, 0.0, 0.0], [0.0, 0.0, 0.0]], np.complex64)
    normal = normalize_power(tf.constant(rows)).numpy()
    np.testing.assert_allclose(np.mean(np.abs(normal) ** 2, axis=1), [1, 1, 0], rtol=1e-6)
    np.testing.assert_allclose(normal[0] / normal[0, 0], rows[0] / 3, rtol=1e-6)


def test_layer_is_rebuilt_from_its_config():
    link = SymbolLink("rayleigh", equalizer="lmmse", csi_aware=True, name="down")
    config = keras.layers.deserialize(
        keras.layers.serialize(link), custom_objects={"SymbolLink": SymbolLink}
    ).get_config()
    assert config == link.get_config()
    assert (config["channel"], config["equalizer"], config["csi_aware"]) == (
        "rayleigh", "lmmse", True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"snr_db": np.nan}, "snr_db"),
        ({"csi_nmse_db": np.nan}, "csi_nmse_db"),
        ({"coherence_length": 0}, "coherence_length"),
        ({"coherence_length": None}, "coherence_length"),
        ({"seed": -3}, "seed"),
    ],
)
def test_bad_values_are_refused_by_name(change, word):
    with pytest.raises(InputError, match=word):
        SymbolLink("rayleigh")(tf.ones([1, 4], tf.complex64), **{**POINT, **change})


@pytest.mark.parametrize(("channel", "equalizer"), [("rician", "zf"), ("awgn", "mmse")])
def test_unknown_names_are_refused_with_the_known_ones(channel, equalizer):
    with pytest.raises(InputError, match=r"awgn, rayleigh|lmmse, zf"):
        SymbolLink(channel, equalizer)
