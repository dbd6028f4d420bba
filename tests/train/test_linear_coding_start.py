"""F_tx and F_rx that start as the best linear code transmit pictures before they are trained."""

import numpy as np
import pytest

from pvsc_link.models.presets import intra_of
from pvsc_link.models.zoo import model_of
from pvsc_link.train.data import open_cache
from pvsc_link.train.family import coded_streams
from pvsc_link.train.phase import Phase
from pvsc_link.train.starts.linear_coding import linear_code, sent_frames, start_linear_coding
from pvsc_link.train.weights import WeightStore


def error_of(covariance, forward, backward, noise):
    """Mean square error of s = A y, r = s + n, y_hat = B r, in closed form."""
    rest = np.eye(len(covariance)) - backward @ forward
    return np.trace(rest @ covariance @ rest.T) + noise * np.sum(backward**2)


@pytest.fixture
def covariance():
    factor = np.random.default_rng(0).standard_normal((6, 6)) * np.array([4, 2, 1, 0.5, 0.2, 0.1])
    return factor @ factor.T


def test_the_linear_code_meets_the_power_and_beats_equal_power_and_any_small_change(covariance):
    noise = 0.3
    forward, backward = linear_code(covariance, 4, noise)
    assert np.trace(forward @ covariance @ forward.T) == pytest.approx(0.5 * 4)
    best = error_of(covariance, forward, backward, noise)
    values, vectors = np.linalg.eigh(covariance)
    equal = np.sqrt(0.5 / values[:-5:-1])[:, None] * vectors[:, :-5:-1].T
    rng = np.random.default_rng(1)
    others = [equal]
    for _ in range(20):
        moved = forward + 0.05 * rng.standard_normal(forward.shape)
        others.append(moved * np.sqrt(2.0 / np.trace(moved @ covariance @ moved.T)))
    for other in others:
        received = other @ covariance @ other.T + noise * np.eye(4)
        estimate = covariance @ other.T @ np.linalg.inv(received)
        assert error_of(covariance, other, estimate, noise) >= best - 1e-9


def test_components_too_weak_for_the_noise_get_no_power(covariance):
    forward, _ = linear_code(covariance, 6, 3.0)
    power = np.diag(forward @ covariance @ forward.T)
    assert power.sum() == pytest.approx(0.5 * 6)
    assert np.count_nonzero(power < 1e-9) > 0
    assert np.all(np.diff(power) <= 1e-9)


def test_reals_beyond_the_number_of_features_send_nothing(covariance):
    noise, few = 0.3, linear_code(covariance, 6, 0.3)
    forward, backward = linear_code(covariance, 8, noise)
    assert (forward.shape, backward.shape) == ((8, 6), (6, 8))
    assert not forward[6:].any()
    assert not backward[:, 6:].any()
    power = np.trace(forward @ covariance @ forward.T)
    assert power == pytest.approx(0.5 * 8), "the power of all eight reals"
    assert error_of(covariance, forward, backward, noise) < error_of(covariance, *few, noise)


def test_a_model_reads_most_of_what_it_sends_at_20_db_without_training(micro_preset):
    model = model_of(intra_of(micro_preset))
    rng = np.random.default_rng(2)
    mixing = rng.standard_normal((8, 8)) * 0.5 ** np.arange(8)
    y_bar = (3 * rng.standard_normal((4000, 8)) @ mixing.T + 1.0).astype(np.float32)
    rate_index = rng.integers(0, len(micro_preset.rate_set), 4000)
    omega_index = rng.integers(0, 2, 4000)
    y_bar = np.where(omega_index[:, None] == 1, y_bar, 0.1 * y_bar)  # a coarser preset
    start_linear_coding(model, y_bar, rate_index, omega_index, 0.01)
    units, rates = y_bar[:1024].reshape(1, 32, 32, 8), rate_index[:1024].reshape(1, 32, 32)
    omega_index = omega_index[:1024].reshape(32, 32)
    preset = np.int32([1])
    units = np.where(omega_index[None, :, :, None] == 1, units, 10 * units)
    sent = model.encode_features(units, rates.astype(np.int32), preset)
    symbols, gain = map(np.asarray, sent)
    noise = np.sqrt(0.005) * rng.standard_normal(symbols.shape)
    read, _ = model.decode_features(
        (gain * (symbols + noise)).astype(np.float32), rates.astype(np.int32), preset
    )
    full = rates[0] == len(micro_preset.rate_set) - 1
    error = np.mean(np.square(np.asarray(read)[0][full] - units[0][full]))
    assert error < 0.1 * units[0][full].var(axis=0).mean()


def test_a_linear_start_expects_the_mean_snr_of_the_phase(micro_run, monkeypatch):
    expected = []
    monkeypatch.setattr(
        "pvsc_link.train.phase.start_linear_coding", lambda *given: expected.append(given[-1])
    )
    coding = {"stage": 2, "quantiser": "ste", "coding_start": "linear"}
    config = micro_run({"model": "intra", "channel": {"snr_db": [0, 6, 24]}, **coding})
    Phase(config, config.phases[0], WeightStore(), open_cache(config.data))
    assert expected == pytest.approx([0.1])


def test_a_phase_starts_linear_from_the_units_that_its_own_model_sends(micro_run):
    coding = {
        "stage": 2,
        "quantiser": "ste",
        "channel": {"snr_db": [10]},
        "coding_start": "linear",
    }
    config = micro_run({"model": "intra", **coding})
    cache = open_cache(config.data)
    phase = Phase(config, config.phases[0], WeightStore(), cache)
    coded = sent_frames(phase.intra, None, phase._pictures(cache, 4, 64))
    ((layer, y_bar, rate_index, omega_index),) = coded_streams(phase.intra, coded)
    assert layer is phase.intra
    assert y_bar.shape == (4 * 16, 8)
    assert rate_index.shape == (64,)
    assert omega_index.tolist() == [n % 2 for n in range(4) for _ in range(16)]
    kernel = np.array(phase.intra.feature_encoder.embedding.projection.kernel)
    np.testing.assert_array_equal(kernel, np.eye(8))
    with pytest.raises(ValueError, match="coding_start of phase"):
        micro_run({"model": "intra", "coding_start": "linear"})
