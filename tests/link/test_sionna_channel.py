"""Blocks of Sionna and of the user as channels: equal to ours, repeatable, refused when wrong."""

import doctest

import numpy as np
import pytest
import tensorflow as tf
import yaml
from sionna.phy import config
from sionna.phy.channel import AWGN, FlatFadingChannel

from pvsc_link.link import sionna_channel
from pvsc_link.link.channel import get_channel_function
from pvsc_link.link.coded_link import CodedLink, get_coded_link
from pvsc_link.link.equalizers import biased_lmmse
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.link.impairments import Impaired
from pvsc_link.link.registry import find_channel, module_digest
from pvsc_link.link.sionna_channel import SionnaChannel
from pvsc_link.link.sionna_random import sionna_draws
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.sweep.__main__ import main
from pvsc_link.types import InputError

CALL = {"snr_db": 6.0, "seed": 4}
NO = 10**-0.6
MODULE = """
import sys

import tensorflow as tf
from sionna.phy import config
from sionna.phy.channel import AWGN, FlatFadingChannel


def awgn():
    return AWGN()


def scaled(gain):
    def block(x, no):
        return AWGN()(gain * x, no)
    return block


def fading():
    return FlatFadingChannel(1, 1, return_channel=True)


def number():
    return 3


def raises():
    raise RuntimeError("no such antenna")


def leaves():
    sys.exit(0)


def leaves_later():
    return lambda x, no: sys.exit(0)
"""


def symbols(*shape):
    turns = np.random.default_rng(3).integers(0, 4, shape)
    return tf.constant(np.exp(1j * np.pi * (turns / 2 + 0.25)), tf.complex64)


def flat(**options):
    return SionnaChannel(FlatFadingChannel(1, 1, return_channel=True), **options)


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a module of the user's with the blocks of MODULE."""
    name = f"blocks_of_{abs(hash(tmp_path)):x}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_sionna_awgn_is_that_block_at_the_same_draws():
    x = symbols(2, 500)
    out = SionnaChannel(AWGN())(x, **CALL)
    with sionna_draws(4, 0):
        expected = AWGN()(x, tf.constant(NO, tf.float32))
    np.testing.assert_allclose(out.x_hat, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(out.no_eff, NO, rtol=1e-5)
    assert out.overhead == 0


@pytest.mark.parametrize("equalizer", ["zf", "biased_lmmse"])
def test_sionna_flat_fading_is_equalised_with_its_own_h(equalizer):
    x = symbols(2, 500)
    out = flat(equalizer=equalizer)(x, **CALL)
    with sionna_draws(4, 0):
        block = FlatFadingChannel(1, 1, return_channel=True)
        y, h = block(tf.reshape(x, [-1, 1]), tf.constant(NO, tf.float32))
    y, h = y.numpy()[:, 0], h.numpy()[:, 0, 0]
    expected = y / h
    if equalizer == "biased_lmmse":
        expected, _ = biased_lmmse(y, h, np.float32(NO), np.float32(0))
    np.testing.assert_allclose(tf.reshape(out.x_hat, [-1]), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("theirs", "ours"), [(SionnaChannel(AWGN()), Awgn()), (flat(), BlockFading())]
)
def test_they_have_the_statistics_of_our_channels(theirs, ours):
    """Error over stated variance is exponential with mean 1; so are the quantiles of no_eff."""
    x = symbols(1, 100_000)
    mine, yours = ours(x, **CALL), theirs(x, **CALL)
    for out in (mine, yours):
        ratio = np.abs(out.x_hat - x) ** 2 / out.no_eff.numpy()
        assert ratio.mean() == pytest.approx(1, abs=4 / np.sqrt(100_000))
    levels = np.linspace(0.05, 0.95, 10)
    a, b = (np.quantile(np.log(out.no_eff), levels) for out in (mine, yours))
    np.testing.assert_allclose(a, b, atol=0.05)


def test_seed_and_first_symbol_fix_the_draw():
    channel, x = flat(), symbols(1, 64)
    first = channel(x, **CALL).x_hat
    np.testing.assert_array_equal(channel(x, **CALL).x_hat, first)
    traced = tf.function(lambda x: channel(x, **CALL).x_hat)
    np.testing.assert_allclose(traced(x), first, rtol=1e-4, atol=1e-5)
    for other in (CALL | {"seed": 5}, CALL | {"first_symbol": 64}):
        assert np.abs(channel(x, **other).x_hat - first).max() > 0.01
    state = config.tf_rng.state.numpy()
    channel(x, **CALL)
    np.testing.assert_array_equal(config.tf_rng.state, state)


def test_every_row_may_have_its_own_snr():
    for channel in (SionnaChannel(AWGN()), flat()):
        out = channel(symbols(2, 4000), snr_db=[0.0, 20.0], seed=1)
        ratio = np.abs(out.x_hat - symbols(2, 4000)) ** 2 / out.no_eff.numpy()
        np.testing.assert_allclose(ratio.mean(axis=1), 1, atol=0.1)
        assert np.median(out.no_eff[0]) > 50 * np.median(out.no_eff[1])


def test_a_channel_constant_in_a_row_and_a_stated_gain():
    def block(x, no):
        parts = config.tf_rng.normal([2, x.shape[0], 1], stddev=2.0**0.5)
        h = tf.complex(parts[0], parts[1])
        return AWGN()(h * x, no), h

    out = SionnaChannel(block, gain_db=6.0)(symbols(400, 50), snr_db=10.0, seed=2)
    ratio = np.abs(out.x_hat - symbols(400, 50)) ** 2 / out.no_eff.numpy()
    assert ratio.mean() == pytest.approx(1, abs=0.05)
    # E|h|^2 = 4: no is 4 / 10, so that the SNR of what is received is 10 dB.
    assert np.median(1 / out.no_eff.numpy()) == pytest.approx(10 * np.log(2), rel=0.15)


def test_without_h_a_gain_is_taken_out():
    out = SionnaChannel(lambda x, no: AWGN()(2.0 * x, no), gain_db=6.02)(
        symbols(1, 20_000), snr_db=10.0, seed=2
    )
    assert np.mean(np.abs(out.x_hat - symbols(1, 20_000)) ** 2) == pytest.approx(0.1, rel=0.05)
    np.testing.assert_allclose(out.no_eff, 0.1, rtol=1e-3)


def not_seeded(x, no):
    return x + tf.cast(tf.random.normal(tf.shape(x)), tf.complex64) * tf.cast(no, tf.complex64)


def with_h_of(claimed):
    """A fading block that returns ``claimed`` of its h."""

    def block(x, no):
        h = tf.complex(*tf.unstack(config.tf_rng.normal([2, *tf.unstack(tf.shape(x))])))
        h *= tf.cast(0.5**0.5, tf.complex64)
        return AWGN()(h * x, no), claimed(h)

    return block


def test_an_h_that_is_nearly_right_is_taken():
    out = SionnaChannel(with_h_of(lambda h: 1.1 * h))(symbols(1, 100), **CALL)
    assert np.isfinite(out.x_hat).all()


@pytest.mark.parametrize(
    ("block", "said"),
    [
        (lambda x, no: x[:, :-1], r"\(8, 63\)'; allowed: \(8, 64\)"),
        (lambda x, no: tf.math.real(x), "y of float32'; allowed: complex numbers"),
        (lambda x, no: x + tf.zeros(x.shape, x.dtype), r"in a graph.*tf.shape\(x\)"),
        (lambda x, no: x * np.complex64(np.nan), "not finite"),
        (lambda x, no: AWGN()(1.5 * x, no), "gain of 3.52 dB.*0 dB within 1.5 dB.*gain_db"),
        (lambda x, no: (x, tf.ones([8, 2], tf.complex64)), "one value per symbol or per row"),
        (lambda x: x, "TypeError.*block"),
        (lambda x, no: 1.0 * x, "the same for every noise variance"),
        (lambda x, no: x + tf.cast(tf.sqrt(no), x.dtype), "the same for every seed"),
        (with_h_of(lambda h: tf.reverse(h, [1])), "y - h x"),
        (with_h_of(tf.math.conj), "y - h x"),
        (not_seeded, "two calls with the same seed that differ.*tf_rng"),
    ],
)
def test_a_block_that_is_no_channel_is_refused_on_first_use(block, said):
    with pytest.raises(InputError, match=said):
        SionnaChannel(block)(symbols(1, 10), **CALL)


@pytest.mark.parametrize("gain_db", [None, np.inf, "high", True])
def test_a_bad_gain_is_refused(gain_db):
    with pytest.raises(InputError, match="gain_db"):
        SionnaChannel(AWGN(), gain_db=gain_db)


def test_gradients_flow_through_the_block():
    x = tf.Variable(symbols(1, 100))
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.abs(flat(equalizer="biased_lmmse")(x, **CALL).x_hat) ** 2)
    gradient = tape.gradient(loss, x).numpy()
    assert np.isfinite(gradient).all()
    assert np.all(gradient != 0)


def test_it_carries_coded_bits_and_takes_impairments():
    bits = np.random.default_rng(0).integers(0, 2, 3000, dtype=np.uint8)
    for channel in (flat(), Impaired(flat(), erasure_rate=0.05)):
        bits_hat, ok = CodedLink(4, channel)(bits, snr_db=12.0, seed=1)
        assert ok.all()
        np.testing.assert_array_equal(bits_hat, bits)


def test_a_point_names_its_block(module):
    kind = find_channel("sionna")
    point = kind.point(6.0, {"block": f"{module}:fading"})
    assert point.condition["block_digest"] == module_digest(module)
    x = symbols(300).numpy()
    received = get_channel_function("sionna", "zf", False)(x, point, 4)
    expected = flat()(x[None], **CALL).x_hat[0]
    np.testing.assert_allclose(received.symbols_hat, expected, rtol=1e-3, atol=1e-4)
    bits = np.tile(np.array([0, 1, 1], np.uint8), 900)
    gained = {"block": f"{module}:scaled", "block_options": {"gain": 2.0}, "block_gain_db": 6.02}
    point = kind.point(12.0, gained | {"erasure_rate": 0.01})
    assert get_coded_link(4, "sionna").send(bits, point, 1).block_ok.all()


def scenario_of(**link):
    return {
        "name": "own",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
        "link": {"channel": "sionna", "snr_db": 10, **link},
        "schemes": [{"scheme": "x264", "rates": [37], "mcs": 4}],
        "metrics": ["psnr"],
    }


def test_a_scenario_may_sweep_blocks_and_their_options(module):
    link = {"block": f"{module}:scaled", "block_options": [{"gain": 1.0}, {"gain": 0.9}]}
    conditions = [c for *_, c in parse_scenario(scenario_of(**link)).link.conditions()]
    assert [c["block_options"] for c in conditions] == ['{"gain": 1.0}', '{"gain": 0.9}']


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ({}, "block"),
        ({"block": "no_such_module_of_mine:make"}, "PYTHONPATH"),
        ({"block": "MODULE:gone"}, "gone"),
        ({"block": "MODULE:number"}, "makes a int"),
        ({"block": "MODULE:raises"}, "RuntimeError: no such antenna"),
        ({"block": "MODULE:leaves"}, "SystemExit: 0"),
        ({"block": "MODULE:leaves_later"}, "SystemExit: 0"),
        ({"block": "MODULE:awgn", "block_options": {"width": 3}}, "width"),
        ({"block": "MODULE:awgn", "block_options": "wide"}, "a mapping"),
        ({"block": "MODULE:scaled", "block_options": {"gain": 2.0}}, "gain of 6.02 dB"),
        ({"block": "MODULE:awgn", "block_digest": "0123"}, "has changed"),
    ],
)
def test_a_sweep_over_a_bad_block_writes_nothing(link, said, module, tmp_path, capsys):
    link = {name: v.replace("MODULE", module) if name == "block" else v for name, v in link.items()}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(scenario_of(**link)))
    assert main([str(tmp_path / "own.yaml"), "--out", str(tmp_path / "results")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_the_examples_in_the_docstring_run_as_printed():
    found = doctest.testmod(sionna_channel)
    assert found.attempted > 3
    assert not found.failed
