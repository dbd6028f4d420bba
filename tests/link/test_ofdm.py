"""OFDM links: physics of the channels, channel estimation, combining, paired realisations."""

import doctest
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import j0
from sionna.phy.mimo import lmmse_equalizer, zf_equalizer
from sionna.phy.nr import PUSCHConfig
from sionna.phy.ofdm import (
    LMMSEInterpolator,
    LSChannelEstimator,
    ResourceGrid,
    tdl_freq_cov_mat,
    tdl_time_cov_mat,
)

from pvsc_link.link import ofdm
from pvsc_link.link.channel import ChannelFunction
from pvsc_link.link.coded_link import CodedLink, get_coded_link
from pvsc_link.link.equalizers import zf
from pvsc_link.link.ofdm import OfdmChannel
from pvsc_link.link.ofdm_condition import DMRS_SYMBOLS, pilot_symbols
from pvsc_link.link.registry import find_channel
from pvsc_link.types import InputError

#: Seconds of an OFDM symbol at 30 kHz, cyclic prefix included.
SYMBOL = 1e-3 / 28
SMALL = {"num_prb": 2}


def qpsk(num_symbols, batch=1):
    draws = np.random.default_rng(0).integers(0, 4, (batch, num_symbols))
    return tf.constant(np.exp(1j * np.pi / 4 * (2 * draws + 1)), tf.complex64)


def fading(model, num_rows=3000, num_slots=1, **options):
    """[num_rows, num_slots, num_rx, 14, K]: independent realisations of a channel."""
    channel = OfdmChannel(model, **{"num_prb": 1} | options)
    h, _ = channel.draw(5, num_rows, 0, num_slots)
    return h.numpy().reshape(num_rows, num_slots, options.get("num_rx", 1), 14, -1)


def in_db(ratio):
    return 10 * np.log10(float(ratio))


def cir_file(path, a, tau):
    np.savez(path, a=a, tau=tau)
    return str(path)


# ---- the channels -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [
        *("tdl_a", "tdl_d", "cdl_c", "umi"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("cdl_d", "uma", "rma")),
    ],
)
def test_mean_power_over_realisations_is_one_and_of_every_normalised_slot(model):
    """3000 rows: the fading of a Rayleigh channel has a standard error of 1 / sqrt(3000)."""
    h = fading(model, speed_kmh=30.0)
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1, abs=5 / np.sqrt(3000))
    h = fading(model, 5, 2, num_rx=2, normalize_channel=True)
    np.testing.assert_allclose(np.mean(np.abs(h) ** 2, axis=(2, 3, 4)), 1, rtol=1e-4)


@pytest.mark.parametrize(("model", "letter"), [("tdl_a", "A"), ("tdl_c", "C"), ("tdl_e", "E")])
def test_correlation_over_frequency_is_that_of_the_power_delay_profile(model, letter):
    h = fading(model, delay_spread_ns=300.0)[:, 0, 0, 0]
    measured = np.mean(h * h[:, :1].conj(), axis=0)
    expected = tdl_freq_cov_mat(letter, 30e3, 12, 300e-9).numpy()[:, 0]
    np.testing.assert_allclose(measured, expected, atol=5 / np.sqrt(3000))
    assert abs(expected[-1]) < 0.98, "the channel is not flat over the band that is looked at"


def test_the_delay_spread_is_the_one_that_was_asked_for():
    for model in ("tdl_a", "tdl_c", "cdl_b"):
        _, profile = OfdmChannel(model, **SMALL, delay_spread_ns=250.0).draw(1, 1, 0, 1)
        powers, delays = profile.powers.numpy(), profile.delays.numpy()
        assert powers.sum() == pytest.approx(1, rel=1e-5)
        mean = np.sum(powers * delays)
        assert np.sqrt(np.sum(powers * (delays - mean) ** 2)) == pytest.approx(250e-9, rel=0.02)


def test_correlation_over_time_is_that_of_clarke_over_slots_too():
    """300 km/h at 3.5 GHz: 973 Hz; lags up to a slot and a half."""
    h = fading("tdl_a", 2000, 2, speed_kmh=300.0).reshape(2000, 28, 12)[:, :, 0]
    lags = np.array([1, 4, 9, 14, 20])
    measured = [np.mean(h[:, lag:] * h[:, : 28 - lag].conj()) for lag in lags]
    expected = j0(2 * np.pi * 300 / 3.6 * 3.5e9 / 299_792_458 * lags * SYMBOL)
    # Symbols that are 7 % shorter would differ by 0.08 at a lag of 9.
    np.testing.assert_allclose(measured, expected, atol=0.05)
    still = fading("tdl_a", 3, 2, speed_kmh=0.0).reshape(3, 28, 12)
    np.testing.assert_allclose(still, still[:, :1] * np.ones([28, 1]), atol=1e-6)


def test_doppler_is_speed_times_carrier_for_every_family():
    """Twice the speed at half the carrier is the same channel, but for the models' own carrier."""
    for model in ("tdl_c", "cdl_c"):
        slow = fading(model, 2, 2, speed_kmh=60.0, carrier_ghz=4.0)
        fast = fading(model, 2, 2, speed_kmh=120.0, carrier_ghz=2.0)
        np.testing.assert_allclose(slow, fast, atol=1e-4)
    for model in ("cdl_c", "umi"):
        # At twice the speed everything happens in half the time.
        slow = fading(model, 5, speed_kmh=60.0)[:, 0, 0, ::2]
        fast = fading(model, 5, speed_kmh=120.0)[:, 0, 0, :7]
        np.testing.assert_allclose(slow, fast, atol=1e-4)
        assert np.abs(slow[:, -1] - slow[:, 0]).max() > 0.05


def test_two_antennas_double_the_mean_power_and_the_diversity_order():
    """Outage P(|h|^2 < t): 1 - exp(-t); with two antennas 1 - (1 + t) exp(-t), about t^2 / 2."""
    h = fading("tdl_a", 6000, num_rx=2)[:, 0, :, 0, 0]
    one, two = np.abs(h[:, 0]) ** 2, np.sum(np.abs(h) ** 2, axis=1)
    assert in_db(two.mean() / one.mean()) == pytest.approx(3.01, abs=0.15)
    for t in (0.1, 0.3):
        for power, outage in ((one, 1 - np.exp(-t)), (two, 1 - (1 + t) * np.exp(-t))):
            assert np.mean(power < t) == pytest.approx(outage, abs=4 * np.sqrt(outage / 6000))


# ---- the receiver -------------------------------------------------------------------------------


def test_over_a_flat_static_channel_it_is_the_flat_channel(tmp_path):
    """One path without delay: y = h x + sqrt(N0) n with one h per stream, equalised by ``zf``."""
    gains = np.array([0.6 + 0.3j, -1.1 + 0.7j]).reshape(2, 1, 1, 1, 1, 1, 1)
    path = cir_file(tmp_path / "flat.npz", gains, np.zeros((2, 1, 1, 1)))
    channel = OfdmChannel("cir", cir_file=path, channel_estimation="perfect", **SMALL)
    x = qpsk(900, batch=6)
    out = channel(x, snr_db=7.0, seed=2)
    h, _ = channel.draw(2, 6, 0, 4)
    h = h.numpy().reshape(6, 4, -1)
    values = np.unique(np.round(h, 5))
    scaled = gains.ravel() / np.sqrt(np.mean(np.abs(gains) ** 2))
    np.testing.assert_allclose(sorted(values), sorted(scaled), atol=1e-4)
    np.testing.assert_allclose(h, h[:, :1, :1] * np.ones(h.shape), atol=1e-6)
    no = 10**-0.7
    noise = channel._noise(tf.constant([0, 2], tf.uint32), 6, 0, 4)
    noise = tf.reshape(tf.gather(noise[:, 0], channel._grid.data, axis=-1), [6, -1])[:, :900]
    flat = tf.constant(h[:, 0, :1] * np.ones([6, 900]), tf.complex64)
    y = flat * x + tf.cast(no**0.5, tf.complex64) * noise
    x_hat, no_eff = zf(y, flat, tf.constant(no), tf.constant(0.0))
    np.testing.assert_allclose(out.x_hat, x_hat, atol=1e-4)
    np.testing.assert_allclose(out.no_eff, no_eff, rtol=1e-4)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(1, abs=4 / np.sqrt(5400))


@pytest.mark.parametrize("estimation", ["ls_nearest", "ls_linear"])
def test_the_error_of_least_squares_falls_by_one_db_per_db(estimation):
    options = {"delay_spread_ns": 5.0, "speed_kmh": 0.1, "channel_estimation": estimation}
    channel = OfdmChannel("tdl_a", num_prb=10, **options)
    nmse = [
        in_db(channel(qpsk(2000, 20), snr_db=snr_db, seed=1).stats["csi_nmse"])
        for snr_db in (0.0, 10.0, 20.0)
    ]
    np.testing.assert_allclose(np.diff(nmse), -10, atol=0.1)
    # An estimate at a pilot has the error N0; linear interpolation in time averages over two.
    assert nmse[0] == pytest.approx(0 if estimation == "ls_nearest" else -1, abs=1)


@pytest.mark.parametrize("pilots", ["kronecker-2-11", "dmrs-2", "kronecker-3"])
@pytest.mark.parametrize("model", ["tdl_c", "tdl_d", "cdl_b"])
def test_lmmse_is_never_worse_than_least_squares_and_knows_its_error(model, pilots):
    for snr_db in (-5.0, 10.0, 25.0):
        nmse = {}
        for estimation in ("ls_nearest", "ls_linear", "lmmse"):
            channel = OfdmChannel(
                model, num_prb=4, pilots=pilots, channel_estimation=estimation, speed_kmh=60.0
            )
            out = channel(qpsk(channel.num_data, 30), snr_db=snr_db, seed=1)
            nmse[estimation] = in_db(out.stats["csi_nmse"])
        assert nmse["lmmse"] < min(nmse["ls_nearest"], nmse["ls_linear"])


def test_lmmse_is_at_least_as_good_as_the_one_of_sionna_and_states_its_error():
    """Sionna's works in frequency first and then in time; ours does both at once."""
    num_slots, no, speed = 60, 0.1, 250 / 3.6
    channel = OfdmChannel(
        "tdl_d", num_prb=2, speed_kmh=3.6 * speed, delay_spread_ns=100.0, csi_aware=True
    )
    grid = ResourceGrid(14, 24, 30e3, pilot_pattern="kronecker", pilot_ofdm_symbol_indices=[2, 11])
    over_time = tdl_time_cov_mat("D", speed, 3.5e9, SYMBOL, 14)
    over_frequency = tdl_freq_cov_mat("D", 30e3, 24, 100e-9)
    interpolator = LMMSEInterpolator(grid.pilot_pattern, over_time, over_frequency, order="f-t")
    h, profile = channel.draw(3, num_slots, 0, 1)
    sent = channel._grid.map(tf.ones([num_slots, 1, 1, channel.num_data], tf.complex64))
    noise = channel._noise(tf.constant([0, 3], tf.uint32), num_slots, 0, 1)
    y = h * tf.reshape(sent, [num_slots, 1, -1]) + tf.cast(no**0.5, tf.complex64) * noise
    theirs, _ = LSChannelEstimator(grid, interpolator=interpolator)(
        tf.reshape(y, [num_slots, 1, 1, 14, 24]), tf.fill([num_slots, 1], no)
    )
    ours, err_var = channel._lmmse(y, tf.fill([num_slots, 1, 1], no), profile)
    error = np.mean(np.abs(ours - h) ** 2)
    assert error < 1.02 * np.mean(np.abs(tf.reshape(theirs, h.shape) - h) ** 2)
    assert error == pytest.approx(np.mean(err_var), rel=0.25)


@pytest.mark.parametrize("pilots", ["dmrs-1", "kronecker-2-11"])
def test_lmmse_errs_least_at_the_noise_that_there_is(pilots):
    """Pilots of DMRS have twice the power of data: half the noise falls on them."""
    num_slots, no = 60, 3.0
    channel = OfdmChannel("tdl_a", num_prb=4, pilots=pilots, channel_estimation="lmmse")
    h, profile = channel.draw(3, num_slots, 0, 1)
    sent = channel._grid.map(tf.ones([num_slots, 1, 1, channel.num_data], tf.complex64))
    noise = channel._noise(tf.constant([0, 3], tf.uint32), num_slots, 0, 1)
    y = h * tf.reshape(sent, [num_slots, 1, -1]) + tf.cast(no**0.5, tf.complex64) * noise
    errors = []
    for factor in (0.5, 1.0, 2.0):
        h_hat, _ = channel._lmmse(y, tf.fill([num_slots, 1, 1], factor * no), profile)
        errors.append(np.mean(np.abs(h_hat - h) ** 2))
    assert errors[1] < 0.99 * min(errors[0], errors[2])


def test_combining_is_the_equaliser_of_sionna_for_one_stream():
    channel = OfdmChannel("tdl_c", num_rx=3, channel_estimation="perfect", **SMALL)
    x = qpsk(channel.num_data)
    out = channel(x, snr_db=3.0, seed=4)
    h, _ = channel.draw(4, 1, 0, 1)
    no = 10**-0.3
    h, noise = (
        tf.transpose(tf.gather(part[0], channel._grid.data, axis=-1))
        for part in (h, channel._noise(tf.constant([0, 4], tf.uint32), 1, 0, 1))
    )
    y = h * x[0][:, None] + tf.cast(no**0.5, tf.complex64) * noise
    covariance = tf.cast(no, tf.complex64) * tf.eye(3, dtype=tf.complex64)
    for theirs in (zf_equalizer, lmmse_equalizer):
        x_hat, no_eff = theirs(y, h[..., None], covariance)
        np.testing.assert_allclose(out.x_hat[0], x_hat[:, 0], atol=1e-3)
        np.testing.assert_allclose(out.no_eff[0], no_eff[:, 0], rtol=1e-3)


@pytest.mark.parametrize("estimation", ["ls_linear", "lmmse"])
def test_an_aware_receiver_states_the_errors_that_it_makes(estimation):
    """Mean of squared error over stated variance, over data in a slot and 200 realisations."""
    options = {"channel_estimation": estimation, "delay_spread_ns": 30.0, "num_rx": 2}
    ratio = {}
    for aware in (False, True):
        channel = OfdmChannel("tdl_a", csi_aware=aware, **options, **SMALL)
        x = qpsk(channel.num_data, 200)
        out = channel(x, snr_db=3.0, seed=8)
        ratio[aware] = np.mean(np.abs(out.x_hat - x) ** 2 / out.no_eff)
    assert ratio[True] == pytest.approx(1, abs=0.12)
    assert ratio[False] > ratio[True] + (0.1 if estimation == "ls_linear" else 0.01)


@pytest.mark.parametrize("estimation", ["ls_linear", "lmmse"])
def test_gradients_reach_the_symbols(estimation):
    channel = OfdmChannel("tdl_c", channel_estimation=estimation, num_rx=2, **SMALL)
    x = tf.Variable(qpsk(500))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(tf.abs(channel(x, snr_db=10.0, seed=1).x_hat) ** 2)
    gradient = tape.gradient(loss, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.all(gradient != 0)


# ---- streams and grids --------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["tdl_c", "cdl_c", "umi", "cir"])
def test_pieces_rows_and_lengths_of_a_stream_meet_the_same_channel(model, tmp_path):
    options = {}
    if model == "cir":
        draws = np.random.default_rng(1).standard_normal((2, 5, 1, 2, 1, 1, 3, 28))
        tau = np.random.default_rng(2).uniform(0, 1e-6, (5, 1, 1, 3))
        options["cir_file"] = cir_file(tmp_path / "moving.npz", draws[0] + 1j * draws[1], tau)
    channel = OfdmChannel(model, num_rx=2, **options, **SMALL)
    x = qpsk(2000, batch=2)
    whole = channel(x, snr_db=10.0, seed=3).x_hat
    second = channel(x[:, 700:], snr_db=10.0, seed=3, first_symbol=700).x_hat
    np.testing.assert_allclose(second, whole[:, 700:], atol=1e-4)
    short = channel(x[:1, :900], snr_db=10.0, seed=3).x_hat
    np.testing.assert_allclose(short, whole[:1, :900], atol=1e-4)
    other = channel(x, snr_db=10.0, seed=4).x_hat
    assert np.mean(np.abs(other - whole)) > 1e-2
    rows = channel.draw(3, 6, 0, 1)[0].numpy()
    assert np.std(rows, axis=0).mean() > 0.1, "rows meet realisations of their own"


def test_every_row_may_have_its_own_snr():
    channel = OfdmChannel("tdl_c", channel_estimation="lmmse", **SMALL)
    x = qpsk(500, batch=2)
    both = channel(x, snr_db=[3.0, 12.0], seed=5)
    for row, snr_db in enumerate((3.0, 12.0)):
        alone = channel(x, snr_db=snr_db, seed=5)
        np.testing.assert_allclose(both.x_hat[row], alone.x_hat[row], atol=1e-4)


@pytest.mark.parametrize(
    ("pilots", "num_pilots"),
    [("kronecker-2-11", 2), ("kronecker-0", 1), ("dmrs-1", 2), ("dmrs-3", 4)],
)
def test_pilots_are_counted_in_proportion_to_the_symbols(pilots, num_pilots):
    channel = OfdmChannel("tdl_a", pilots=pilots, channel_estimation="perfect", **SMALL)
    assert channel.num_data == 24 * (14 - num_pilots)
    for num_symbols in (1, 24, 1001):
        overhead = channel(qpsk(num_symbols), snr_db=9.0, seed=1).overhead
        assert int(overhead) == -(-num_symbols * num_pilots // (14 - num_pilots))


def test_positions_of_dmrs_are_those_of_sionna():
    for additional, expected in DMRS_SYMBOLS.items():
        config = PUSCHConfig()
        config.dmrs.additional_position = additional
        assert tuple(config.dmrs_symbol_indices) == expected == pilot_symbols(f"dmrs-{additional}")


def test_points_are_one_trace_and_bits_meet_the_channel_of_symbols():
    kind = find_channel("ofdm")
    analog = ChannelFunction(kind, "zf", True)
    link = CodedLink(4, "ofdm", equalizer="zf")
    bits = np.random.default_rng(1).integers(0, 2, 1800, dtype=np.uint8)
    for seed, (snr_db, speed, spread) in enumerate([(3.0, 3, 100), (9.5, 0, 30), (5.0, 80, 300)]):
        values = {"speed_kmh": speed, "delay_spread_ns": spread, "num_prb": 6}
        point = kind.point(snr_db, values)
        sent = link.send(bits, point, seed)
        num_symbols = link.num_channel_uses(len(bits))
        received = analog(np.ones(num_symbols, np.complex64), point, seed)
        assert sent.stats.csi_nmse == pytest.approx(received.stats.csi_nmse, rel=1e-3)
        assert sent.num_channel_uses == received.num_channel_uses > num_symbols
        assert sent.num_pilots == -(-num_symbols * 2 // 12)
    assert (analog.trace_count, link.trace_count) == (1, 1)


def test_block_errors_are_counted_over_independent_realisations():
    """At speed 0 a stream has one fade; blocks of a measurement have one each, over batches too."""
    kind = find_channel("ofdm")
    point = kind.point(8.0, {"speed_kmh": 0.0, "delay_spread_ns": 10.0, "num_prb": 1})
    link = CodedLink(0, "ofdm", equalizer="zf")
    strength = np.concatenate(
        [np.mean(np.abs(llr), axis=1) for _, llr in link.full_blocks(point, 40, seed=3)]
    )
    assert len(np.unique(np.round(strength / strength.mean(), 3))) > 30
    assert np.std(strength) > 0.2 * np.mean(strength)
    whole = link.send(np.ones(4000, np.uint8), point, 3)
    assert whole.stats.num_symbols > 6000


def test_the_example_in_the_docstring_runs_as_printed():
    found = doctest.testmod(ofdm)
    assert found.attempted
    assert not found.failed


# ---- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ({"channel_model": "tdl_f"}, "channel_model"),
        ({"pilots": "kronecker-2-14"}, "pilots"),
        ({"pilots": "kronecker-" + "-".join(map(str, range(14)))}, "carry data"),
        ({"pilots": "kronecker-2-2"}, "pilots"),
        ({"pilots": "kronecker"}, "pilots"),
        ({"pilots": "dmrs-4"}, "additional positions"),
        ({"pilots": "comb-2"}, "pilots"),
        ({"num_tx": 2}, "nothing precodes"),
        ({"num_rx": 0}, "num_rx"),
        ({"num_rx": 65}, "num_rx"),
        ({"num_prb": 276}, "num_prb"),
        ({"subcarrier_spacing_khz": 20}, "subcarrier_spacing_khz"),
        ({"speed_kmh": 500.0}, "Doppler shift up to 1556 Hz"),
        ({"speed_kmh": 300.0, "carrier_ghz": 28.0}, "Doppler"),
        ({"delay_spread_ns": 0.0}, "delay_spread_ns"),
        ({"delay_spread_ns": None}, "delay_spread_ns"),
        ({"channel_model": "cdl_c", "carrier_ghz": None}, "carrier_ghz"),
        ({"channel_model": "umi", "channel_estimation": "lmmse"}, "power-delay profile"),
        ({"channel_estimation": "genie"}, "channel_estimation"),
        ({"channel_model": "cir"}, "cir_file"),
        ({"channel_model": "cir", "cir_file": "absent.npz"}, "absent.npz"),
    ],
)
def test_bad_parameters_are_refused_by_name(values, word):
    with pytest.raises(InputError, match=word):
        find_channel("ofdm").condition(values)
    with pytest.raises(InputError, match=word):
        OfdmChannel(**values)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a, tau: {"a": a}, "tau"),
        (lambda a, tau: {"a": a.real, "tau": tau}, "dtypes"),
        (lambda a, tau: {"a": a[0], "tau": tau}, "shapes"),
        (lambda a, tau: {"a": np.repeat(a, 2, axis=2), "tau": tau}, "num_rx = 1"),
        (lambda a, tau: {"a": a[..., :5], "tau": tau}, "5 time steps"),
        (lambda a, tau: {"a": a * np.nan, "tau": tau}, "mean power nan"),
        (lambda a, tau: {"a": 0 * a, "tau": tau}, "mean power 0"),
        (lambda a, tau: {"a": a, "tau": tau - 1}, "delays from -1"),
        (lambda a, tau: {"a": a, "tau": tau + 100}, "delays up to 100 s"),
    ],
)
def test_a_file_of_impulse_responses_is_looked_into(tmp_path, change, word):
    good = np.ones((3, 1, 1, 1, 1, 2, 14), complex), np.zeros((3, 1, 1, 2))
    path = str(tmp_path / "cir.npz")
    np.savez(path, a=good[0], tau=good[1])
    values = {"channel_model": "cir", "cir_file": path}
    read = find_channel("ofdm").condition(values)
    assert read.speed_kmh is None
    np.savez(path, a=2j * good[0], tau=good[1])
    assert find_channel("ofdm").condition(values).cir_digest != read.cir_digest
    with pytest.raises(InputError, match="cir_digest"):
        find_channel("ofdm").condition(read.model_dump())
    np.savez(path, **change(*good))
    with pytest.raises(InputError, match=word):
        find_channel("ofdm").condition(values)
    for wrong in (3, tmp_path, "a\0b"):
        with pytest.raises(InputError, match="cir_file"):
            find_channel("ofdm").condition(values | {"cir_file": wrong})


class Touches:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


def test_a_damaged_or_foreign_file_is_refused_and_runs_no_code(tmp_path):
    path, ran = tmp_path / "cir.npz", tmp_path / "ran"
    np.savez_compressed(
        path, a=np.ones((3, 1, 1, 1, 1, 2, 14), complex), tau=np.zeros((3, 1, 1, 2))
    )
    good = path.read_bytes()
    flipped = bytearray(good)
    flipped[90] ^= 255
    np.savez(path, a=np.array([Touches(ran)], object), tau=np.zeros((3, 1, 1, 2)))
    pickled_array = path.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", "no array")
        archive.writestr("tau.npy", "no array")
    texts = path.read_bytes()
    pickled = pickle.dumps(Touches(ran))
    for content in (b"", b"no arrays", good[:200], flipped, pickled_array, texts, pickled):
        path.write_bytes(content)
        with pytest.raises(InputError, match="NPZ"):
            find_channel("ofdm").condition({"channel_model": "cir", "cir_file": str(path)})
    assert not ran.exists()


def test_what_a_model_lacks_is_no_axis_of_it():
    kind = find_channel("ofdm")
    given = {"channel_model": "umi", "delay_spread_ns": 300.0, "cir_file": "absent.npz"}
    assert kind.condition(given).model_dump()["delay_spread_ns"] is None
    perfect = {"speed_kmh": 500.0, "channel_estimation": "perfect"}
    assert kind.condition(perfect).speed_kmh == 500.0


def test_a_file_without_a_model_that_reads_it_is_refused():
    with pytest.raises(InputError, match=r"cir_file.*tdl_c"):
        OfdmChannel("tdl_c", cir_file="absent.npz")


@pytest.mark.parametrize(
    ("given", "usual"),
    [("kronecker-11-2", "kronecker-2-11"), ("kronecker-02", "kronecker-2"), ("dmrs-01", "dmrs-1")],
)
def test_equal_pilots_have_one_spelling(given, usual):
    assert find_channel("ofdm").condition({"pilots": given}).pilots == usual
    assert (
        OfdmChannel(pilots=given, num_prb=1).num_data
        == OfdmChannel(pilots=usual, num_prb=1).num_data
    )


@pytest.mark.parametrize("delays", [[0.0, 0.0], [0.0, 1e-9], [0.0, 2e-7]])
def test_impulse_responses_of_any_delays_have_mean_power_one(tmp_path, delays):
    """Paths that the grid cannot tell apart add with their phases."""
    gains = np.array([[1.0, 0.9j], [0.8, 0.3], [1.0, 1.0]])[:, None, None, None, None, :, None]
    path = cir_file(tmp_path / "paths.npz", gains, np.tile(delays, (3, 1))[:, None, None])
    channel = OfdmChannel("cir", cir_file=path, channel_estimation="perfect", **SMALL)
    h, _ = channel.draw(1, 600, 0, 1)
    assert np.mean(np.abs(h) ** 2) == pytest.approx(1.0, rel=0.1)


def test_block_errors_are_counted_over_a_street_canyon():
    """Its number of paths is not known while a graph for any number of blocks is traced."""
    condition = {"channel_model": "umi", "num_prb": 4, "channel_estimation": "ls_linear"}
    point = find_channel("ofdm").point(30.0, condition)
    assert get_coded_link(0, "ofdm").count_block_errors(point, 2, seed=1) == 0
