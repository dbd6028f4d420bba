"""The counter-based generator: published vectors, and the law of what it draws."""

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats
from sionna.phy import config
from sionna.phy.channel import AWGN, GenerateFlatFadingChannel

from pvsc_link.link.counter_random import complex_normal, seed_tensor, threefry
from pvsc_link.types import InputError

NUM_SAMPLES = 200_000


def samples(stream=0, seed=7):
    return complex_normal(seed_tensor(seed), stream, tf.range(NUM_SAMPLES)).numpy()


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((2**32 - 1,) * 2, (2**32 - 1,) * 2, (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_gives_the_known_answers_of_its_authors(key, counter, words):
    drawn = threefry(tf.constant(key, tf.uint32), *tf.constant(counter, tf.uint32))
    assert tuple(int(word) for word in drawn) == words


def test_power_is_exponential_and_phase_uniform():
    """Kolmogorov-Smirnov at the 0.1 % level: |z|^2 ~ Exp(1), arg z ~ U(-pi, pi)."""
    z = samples()
    assert stats.kstest(np.abs(z) ** 2, "expon").pvalue > 1e-3
    assert stats.kstest(np.angle(z), "uniform", args=(-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_law_equals_that_of_sionna_fading_and_noise():
    """Two-sample Kolmogorov-Smirnov at the 0.1 % level against both Sionna generators."""
    config.seed = 1
    fading = GenerateFlatFadingChannel(1, 1)(NUM_SAMPLES).numpy().ravel()
    noise = AWGN()(tf.zeros([NUM_SAMPLES], tf.complex64), tf.constant(1.0)).numpy()
    for theirs in (fading, noise):
        for part in (np.real, np.imag, np.abs):
            assert stats.ks_2samp(part(samples()), part(theirs)).pvalue > 1e-3


def test_streams_seeds_and_neighbours_are_uncorrelated():
    """Normalised correlations stay within 4 standard deviations (1 / sqrt(N)) of zero."""
    z = samples()
    others = [samples(stream=1), samples(seed=8), samples(seed=7 + 2**32), np.roll(z, 1)]
    for other in others:
        assert abs(np.vdot(z, other)) / NUM_SAMPLES < 4 / np.sqrt(NUM_SAMPLES)


@pytest.mark.parametrize("seed", [-1, 2**64, True, 1.5, "1", None, [1, 2]])
def test_a_seed_that_is_not_a_64_bit_number_is_refused(seed):
    with pytest.raises(InputError, match="seed"):
        seed_tensor(seed)
