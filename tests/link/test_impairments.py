"""Impairments: their statistics, paired draws, what the receiver learns, off means unchanged."""

import doctest

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link import impairments
from pvsc_link.link.bler import condition_of
from pvsc_link.link.channel import get_channel_function, make_channel
from pvsc_link.link.coded_link import CodedLink, get_coded_link
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.link.impairments import ERASED_NO_EFF, Impaired, clip, erasures, phase_error
from pvsc_link.link.registry import find_channel
from pvsc_link.types import ChannelPoint, InputError

ROW = tf.range(1)
CALL = {"snr_db": 200.0, "seed": 5}
ALL_STAGES = {
    "clip_papr_db": 4.0,
    "carrier_offset": 1e-3,
    "phase_noise": 1e-3,
    "phase_interval": 12,
    "erasure_rate": 0.2,
    "erasure_burst": 3.0,
}


def normal_symbols(*shape, seed=1):
    parts = np.random.default_rng(seed).standard_normal((2, *shape))
    return tf.constant((parts[0] + 1j * parts[1]) * 0.5**0.5, tf.complex64)


def papr_db(x):
    power = np.abs(x) ** 2
    return 10 * np.log10(power.max() / power.mean())


def lost(num_symbols, rate, burst, seed=7, row=ROW, first=0):
    places = first + tf.range(num_symbols)
    return erasures(seed, places, row, rate=rate, burst=burst).numpy()


@pytest.mark.parametrize("limit_db", [0.0, 1.0, 3.0, 6.0, 9.0])
def test_clipping_keeps_the_limit_and_the_power(limit_db):
    x = normal_symbols(2, 20_000)
    sent, gain = clip(x, limit_db)
    for before, after in zip(x.numpy(), sent.numpy(), strict=True):
        assert papr_db(after) == pytest.approx(limit_db, abs=1e-3)
        power = np.mean(np.abs(after) ** 2)
        assert power == pytest.approx(np.mean(np.abs(before) ** 2), rel=1e-4)
        np.testing.assert_allclose(np.angle(after), np.angle(before), atol=1e-4)
    assert np.all(gain.numpy() > 1)


def test_symbols_within_the_limit_stay_to_the_last_bit():
    x = normal_symbols(2, 500)
    sent, gain = clip(x, 20.0)
    np.testing.assert_array_equal(sent, x)
    np.testing.assert_array_equal(gain, 1)


def test_places_after_the_end_of_a_stream_do_not_count_in_the_limit():
    x = normal_symbols(1, 400)
    sent, _ = clip(tf.pad(x, [[0, 0], [0, 300]]), 3.0)
    np.testing.assert_allclose(sent[:, :400], clip(x, 3.0)[0], rtol=1e-5)
    np.testing.assert_array_equal(sent[:, 400:], 0)


def test_a_receiver_of_clipped_symbols_has_the_clipped_symbol_and_less_noise():
    x, limit_db = normal_symbols(1, 20_000), 3.0
    sent, gain = clip(x, limit_db)
    out = Impaired(Awgn(), clip_papr_db=limit_db)(x, snr_db=10.0, seed=3)
    clipped = sent / tf.cast(gain, sent.dtype)
    np.testing.assert_allclose(out.no_eff, 0.1 / gain.numpy().item() ** 2, rtol=1e-4)
    error = np.mean(np.abs(out.x_hat - clipped) ** 2)
    assert error == pytest.approx(0.1 / gain.numpy().item() ** 2, rel=0.03)
    kept = np.abs(clipped) < np.abs(clipped).max() * 0.999
    np.testing.assert_allclose(clipped.numpy()[kept], x.numpy()[kept], rtol=1e-4)


def test_the_gradient_of_clipping_is_that_of_finite_differences():
    x = normal_symbols(1, 50)
    direction, weight = normal_symbols(1, 50, seed=2), normal_symbols(1, 50, seed=3)

    def loss(step):
        sent, _ = clip(x + tf.cast(step, tf.complex64) * direction, 2.0)
        return tf.reduce_sum(tf.math.real(sent * weight))

    step = tf.Variable(0.0)
    with tf.GradientTape() as tape:
        value = loss(step)
    slope = float(loss(2e-3) - loss(-2e-3)) / 4e-3
    assert np.isfinite(float(value))
    assert float(tape.gradient(value, step)) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize(("rate", "burst"), [(0.1, 5.0), (0.3, 40.0), (0.5, 1.0), (0.02, 2.0)])
def test_rate_and_mean_length_of_bursts(rate, burst):
    """Over runs of the chain; a mean over N runs of geometric length is within 4 sigma."""
    bad = lost(400_000, rate, burst)[0]
    edges = np.flatnonzero(np.diff(bad.astype(int)))
    runs = np.diff(edges)
    is_bad = bad[edges[:-1] + 1]
    lengths, gaps = runs[is_bad], runs[~is_bad]
    tolerance = 4 / np.sqrt(len(lengths))
    assert lengths.mean() == pytest.approx(burst, rel=tolerance)
    assert gaps.mean() == pytest.approx(burst * (1 - rate) / rate, rel=tolerance)
    assert bad.mean() == pytest.approx(rate, rel=2 * tolerance)
    # Geometric: the share of runs of a single symbol is 1 / mean.
    assert np.mean(lengths == 1) == pytest.approx(1 / burst, abs=tolerance)


def test_without_a_burst_length_erasures_are_independent():
    bad = lost(200_000, 0.25, None)[0].astype(float) - 0.25
    margin = 4 / np.sqrt(200_000)
    assert bad.mean() == pytest.approx(0, abs=margin)
    for lag in (1, 2, 5):
        assert np.mean(bad[lag:] * bad[:-lag]) == pytest.approx(0, abs=margin)


def test_nothing_is_erased_at_rate_0():
    assert not lost(10_000, 0.0, 4.0).any()


def test_a_far_place_is_erased_as_often():
    assert lost(20_000, 0.2, 3.0, first=2_000_000_000).mean() == pytest.approx(0.2, abs=0.02)


def drawn(first, last, rows=2, seed=9):
    places, row = tf.range(first, last), tf.range(rows)
    turned = phase_error(
        seed, places, row, carrier_offset=0.01, phase_noise=0.01, phase_interval=37
    )
    gone = erasures(seed, places, row, rate=0.3, burst=6.0)
    return turned.numpy(), gone.numpy()


def test_any_piece_of_a_stream_meets_what_the_whole_meets():
    whole, piece = drawn(0, 500), drawn(123, 456)
    np.testing.assert_allclose(piece[0], whole[0][:, 123:456], atol=1e-5)
    np.testing.assert_array_equal(piece[1], whole[1][:, 123:456])


@pytest.mark.parametrize("jit_compile", [False, True])
def test_graphs_draw_the_same(jit_compile):
    traced = tf.function(
        lambda rate, burst: erasures(9, tf.range(300), tf.range(2), rate=rate, burst=burst),
        jit_compile=jit_compile,
    )
    gone = traced(tf.constant(0.3), tf.constant(6.0))
    np.testing.assert_array_equal(gone, drawn(0, 300)[1])


def test_rows_and_seeds_are_independent():
    phase, gone = drawn(0, 3000, rows=3)
    assert np.abs(np.corrcoef(gone)[np.triu_indices(3, 1)]).max() < 0.2
    assert np.abs(phase[1] - phase[0]).max() > 0.05
    assert np.mean(drawn(0, 3000, seed=10)[1] != gone[:2]) > 0.2


def test_phase_noise_gains_its_variance_per_symbol():
    """Var(phase(p + n) - phase(p)) = n variance, for steps near and far; 4 sigma of a variance."""
    rows = 4000
    places = tf.constant([0, 1, 2, 7, 1000, 1001, 1_000_000])
    walk = phase_error(3, places, tf.range(rows), phase_noise=0.02).numpy().astype(float)
    steps = np.diff(walk, axis=1)
    lengths = np.diff(places.numpy())
    np.testing.assert_allclose(steps.var(axis=0), 0.02 * lengths, rtol=4 * np.sqrt(2 / rows))
    correlation = np.corrcoef(steps.T)[np.triu_indices(len(lengths), 1)]
    assert np.abs(correlation).max() < 4 / np.sqrt(rows)
    np.testing.assert_array_equal(walk[:, 0], 0)


def test_a_carrier_offset_turns_at_its_rate_and_starts_anew_at_a_reference():
    phase = phase_error(3, tf.range(200), ROW, carrier_offset=1e-3, phase_interval=50)[0]
    np.testing.assert_allclose(phase, 2e-3 * np.pi * (np.arange(200) % 50), atol=1e-5)
    far = phase_error(3, tf.constant([1_000_000_003]), ROW, carrier_offset=0.25)
    assert float(far[0, 0]) == pytest.approx(1.5 * np.pi, abs=1e-4)


def test_noise_free_reception_is_the_turned_symbol():
    x = normal_symbols(1, 60)
    out = Impaired(Awgn(), carrier_offset=0.01)(x, snr_db=60.0, seed=1)
    turned = x.numpy()[0] * np.exp(2j * np.pi * 0.01 * np.arange(60))
    np.testing.assert_allclose(out.x_hat[0], turned, atol=0.01)
    assert float(out.stats["snr"]) < 1


def test_the_receiver_knows_what_was_erased():
    x = normal_symbols(2, 400)
    out = Impaired(BlockFading(), erasure_rate=0.3, erasure_burst=4.0)(x, snr_db=20.0, seed=1)
    gone = out.no_eff.numpy() == ERASED_NO_EFF
    assert 0.1 < gone.mean() < 0.5
    np.testing.assert_array_equal(out.x_hat.numpy()[gone], 0)
    plain = BlockFading()(x, snr_db=20.0, seed=1)
    np.testing.assert_allclose(out.x_hat.numpy()[~gone], plain.x_hat.numpy()[~gone], rtol=1e-5)


def test_a_code_corrects_erasures_that_it_knows_of():
    bits = np.random.default_rng(0).integers(0, 2, 3000, dtype=np.uint8)
    impaired = Impaired(Awgn(), erasure_rate=0.2, erasure_burst=4.0)
    bits_hat, ok = CodedLink(4, impaired)(bits, snr_db=10.0, seed=1)
    assert ok.all()
    np.testing.assert_array_equal(bits_hat, bits)
    _, ok = CodedLink(4, "awgn")(bits, snr_db=10.0, seed=1, erasure_rate=0.2, erasure_burst=4.0)
    assert ok.all()
    _, ok = CodedLink(4, "awgn")(bits, snr_db=10.0, seed=1, erasure_rate=0.9)
    assert not ok.any()


def test_papr_of_what_is_sent_is_measured():
    """64QAM has its corner at 49 * 2 over a mean of 42; QPSK has one amplitude."""
    bits = np.random.default_rng(0).integers(0, 2, 20_000, dtype=np.uint8)
    point = find_channel("awgn").point(20.0, {})
    for mcs, ratio in ((4, 1.0), (20, 98 / 42)):
        measured = get_coded_link(mcs, "awgn").send(bits, point, 1).stats.papr
        assert measured == pytest.approx(ratio, rel=0.03)
    x = normal_symbols(5000).numpy()
    measured = get_channel_function("awgn", "zf", False)(x, point, 1).stats.columns()
    assert measured["papr_db"] == pytest.approx(papr_db(x), abs=1e-3)
    clipped = find_channel("awgn").point(20.0, {"clip_papr_db": 3.0})
    measured = get_channel_function("awgn", "zf", False)(x, clipped, 1).stats.columns()
    assert measured["papr_db"] == pytest.approx(3.0, abs=1e-3)


def test_every_stage_off_is_the_channel_itself():
    x = normal_symbols(2, 100)
    plain = BlockFading(csi_nmse_db=-10.0)
    out, expected = (c(x, snr_db=5.0, seed=2) for c in (Impaired(plain), plain))
    np.testing.assert_array_equal(out.x_hat, expected.x_hat)
    np.testing.assert_array_equal(out.no_eff, expected.no_eff)
    assert out.overhead == expected.overhead
    for name, value in expected.stats.items():
        assert float(out.stats[name]) == pytest.approx(float(value), rel=1e-5)
    harmless = Impaired(
        plain, clip_papr_db=40.0, carrier_offset=0.0, phase_noise=0.0, erasure_rate=0.0
    )(x, snr_db=5.0, seed=2)
    np.testing.assert_allclose(harmless.x_hat, expected.x_hat, rtol=1e-5)


def test_a_point_carries_the_impairments_that_are_on():
    kind = find_channel("rayleigh")
    off = kind.point(6.0, {"csi_nmse_db": -10.0} | dict.fromkeys(ALL_STAGES))
    assert off == ChannelPoint("rayleigh", 6.0, -10.0, 1)
    without = {"phase_interval": 12, "erasure_burst": 3.0}
    assert kind.point(6.0, {"csi_nmse_db": -10.0} | without) == off
    on = kind.point(6.0, ALL_STAGES)
    assert {n: v for n, v in on.condition.items() if n in ALL_STAGES} == ALL_STAGES
    options = {"equalizer": "lmmse", "csi_aware": True, "decoder": "layered", "num_iter": 20}
    assert not ALL_STAGES.keys() & condition_of(5, off, **options).keys()
    assert ALL_STAGES.items() <= condition_of(5, on, **options).items()


def test_the_traced_channel_is_the_channel_of_the_point_and_values_retrace_nothing():
    x = normal_symbols(60).numpy()
    function = get_channel_function("rayleigh", "zf", False)
    before = function.trace_count
    for rate in (0.1, 0.3):
        point = find_channel("rayleigh").point(6.0, ALL_STAGES | {"erasure_rate": rate})
        channel = make_channel(point, equalizer="zf", csi_aware=False)
        expected = channel(tf.constant(x[None]), snr_db=6.0, seed=9).x_hat[0]
        np.testing.assert_allclose(
            function(x, point, 9).symbols_hat, expected, rtol=1e-3, atol=1e-4
        )
    assert function.trace_count == before + 1


def test_gradients_flow_through_all_stages_and_are_finite():
    x = tf.Variable(normal_symbols(1, 500))
    with tf.GradientTape() as tape:
        out = Impaired(BlockFading(), **ALL_STAGES)(x, snr_db=10.0, seed=2)
        loss = tf.reduce_sum(tf.square(tf.abs(out.x_hat)))
    gradient = tape.gradient(loss, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.mean(gradient != 0) > 0.5


@pytest.mark.parametrize(
    ("stages", "word"),
    [
        ({"clip_papr_db": -1.0}, "clip_papr_db"),
        ({"carrier_offset": 0.7}, "carrier_offset"),
        ({"phase_noise": np.nan}, "phase_noise"),
        ({"phase_noise": 0.1, "phase_interval": 0}, "phase_interval"),
        ({"erasure_rate": 1.0}, "erasure_rate"),
        ({"erasure_rate": 0.1, "erasure_burst": 0.5}, "erasure_burst"),
        ({"erasure_rate": 0.6, "erasure_burst": 1.0}, "at most 0.5"),
        ({"erasure_rate": "often"}, "erasure_rate"),
        ({"erasure_rate": True}, "erasure_rate"),
    ],
)
def test_bad_values_are_refused_by_name(stages, word):
    with pytest.raises(InputError, match=word):
        Impaired(Awgn(), **stages)
    with pytest.raises(InputError, match=word):
        find_channel("awgn").point(3.0, stages)


def test_the_example_in_the_docstring_runs_as_printed():
    found = doctest.testmod(impairments)
    assert found.attempted > 3
    assert not found.failed
