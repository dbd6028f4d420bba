"""F_tx and F_rx that know the hyperprior: what is sent, what comes back, and what they refuse."""

from dataclasses import replace

import numpy as np
import pytest
from keras import ops

from pvsc_link.models.pvsc.config import PVSC_TINY, PvscConfig, intra_of
from pvsc_link.models.pvsc.feature_codec import (
    FeatureDecoder,
    FeatureEncoder,
    prior_of,
    reception_of,
)
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.stream import Receiver, Transmitter
from pvsc_link.types import InputError

GUIDED = PvscConfig(
    "guided",
    intra=True,
    temporal_coding=False,
    hyperprior_coding=True,
    channels_y=16,
    embed_dim=16,
    num_heads=2,
    num_vit=2,
    mlp_ratio=2,
    window_size=4,
    rate_set=(0, 2, 4, 8),
)
SHAPE = (1, 24, 24, 16)


def drawn(seed=0):
    """w, mu_0, sigma_0 with falling spread, a y_bar of that spread, and a rate map."""
    rng = np.random.default_rng(seed)
    w = np.exp(0.1 * rng.normal(size=SHAPE)).astype(np.float32)
    sigma = np.exp(0.1 * rng.normal(size=SHAPE) - 0.3 * np.arange(16)).astype(np.float32)
    y_bar = (sigma * rng.normal(size=SHAPE)).astype(np.float32)
    rate_index = rng.integers(0, 4, SHAPE[:3]).astype(np.int32)
    return (w, np.zeros_like(w), sigma), y_bar, rate_index


def ends():
    encoder, decoder = FeatureEncoder(GUIDED), FeatureDecoder(GUIDED)
    for layer in (encoder, decoder):
        layer.build(None)
    return encoder, decoder


def first(rate_index):
    """1 on the first k elements of every unit."""
    return np.arange(16) < np.array(GUIDED.rate_set)[rate_index][..., None]


def test_untrained_sends_the_first_k_elements_as_their_share_of_y():
    parameters, y_bar, rate_index = drawn()
    encoder, _ = ends()
    sent = ops.convert_to_numpy(encoder(y_bar, rate_index, prior=prior_of(parameters)))
    expected = np.where(first(rate_index), parameters[0] * y_bar, 0)[..., :8]
    np.testing.assert_allclose(sent, expected, rtol=1e-5, atol=1e-6)


def test_without_noise_what_was_sent_comes_back_and_the_rest_is_its_mean():
    parameters, y_bar, rate_index = drawn()
    encoder, decoder = ends()
    prior = prior_of(parameters)
    received, state = decoder(encoder(y_bar, rate_index, prior=prior), rate_index, prior=prior)
    received, sent = ops.convert_to_numpy(received), first(rate_index)
    assert state is None
    assert not received[~sent].any()
    error = (parameters[0] * (received - y_bar))[sent]
    assert np.sum(error**2) < 0.05 * np.sum((parameters[0] * y_bar)[sent] ** 2)


@pytest.mark.parametrize("level", [0.1, 1.0])
def test_behind_noise_of_unknown_power_it_comes_near_the_wiener_filter_that_knows_it(level):
    parameters, y_bar, rate_index = drawn()
    encoder, decoder = ends()
    w, _, sigma = parameters
    prior, sent = prior_of(parameters), first(rate_index)
    clean = ops.convert_to_numpy(encoder(y_bar, rate_index, prior=prior))
    noise_power = level * np.mean((w * y_bar)[sent] ** 2)
    noise = np.random.default_rng(1).normal(size=clean.shape) * np.sqrt(noise_power)
    noisy = (clean + noise).astype(np.float32)
    received = ops.convert_to_numpy(decoder(noisy, rate_index, prior=prior)[0])

    raw = np.zeros(SHAPE, np.float32)
    raw[..., :8] = noisy
    power = (w * sigma) ** 2
    wiener = raw * power / (power + noise_power)

    def error(estimate):
        return np.sum((estimate - w * y_bar)[sent] ** 2)

    assert error(w * received) < error(raw)
    assert error(w * received) < 1.1 * error(wiener)


def test_reception_does_not_hear_what_was_not_sent():
    parameters, _, rate_index = drawn()
    prior = prior_of(parameters)
    symbols = np.where(first(rate_index)[..., :8], 1.0, np.inf).astype(np.float32)
    reception = reception_of(symbols, rate_index, prior, GUIDED.rate_set)
    total = -float(np.log(reception.expected[0, 0, 0, 0]))
    assert float(reception.strength[0, 0, 0, 0]) == pytest.approx(total, abs=1e-4)
    nothing = reception_of(symbols, np.zeros_like(rate_index), prior, GUIDED.rate_set)
    assert np.isfinite(ops.convert_to_numpy(nothing.strength)).all()


def test_without_a_prior_it_says_what_is_missing():
    _, y_bar, rate_index = drawn()
    encoder, decoder = ends()
    with pytest.raises(InputError, match="hyperprior_coding without a prior"):
        encoder(y_bar, rate_index)
    with pytest.raises(InputError, match="hyperprior_coding without a prior"):
        decoder(np.zeros((1, 24, 24, 8), np.float32), rate_index)


def test_both_ends_of_a_stream_agree(stirred):
    config = replace(PVSC_TINY, hyperprior_coding=True)
    models = stirred(IntraModel(intra_of(config)), 1), stirred(PvscModel(config), 2)
    session = {"height": 64, "width": 128, "side_format": "range", "omega_index": 2}
    transmitter, receiver = Transmitter(*models, **session), Receiver(*models, **session)
    coarse = np.random.default_rng(5).random((3, 8, 16, 3))
    frames = np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.float32)
    for t, frame in enumerate(frames):
        payload = transmitter.encode(frame, intra=t == 0)
        decoded = receiver.decode(payload.symbols, payload.side_bits, intra=t == 0)
        assert decoded.status == "ok"
        assert payload.symbols.size > 0
        np.testing.assert_array_equal(decoded.frame, transmitter.frame_hat())
