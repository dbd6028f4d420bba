"""Sionna's blocks draw the same numbers at the same seed, and leave the user's generator alone."""

import doctest

import numpy as np
import tensorflow as tf
from sionna.phy import config
from sionna.phy.channel import RayleighBlockFading

from pvsc_link.link import sionna_random
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.sionna_random import sionna_draws

MODEL = RayleighBlockFading(1, 2, 1, 1)


def fading(seed, stream=0, batch=500):
    with sionna_draws(seed, stream):
        return MODEL(batch, 1)[0].numpy().ravel()


def test_a_block_repeats_itself_at_its_seed_and_stream_and_nowhere_else():
    first = fading(3)
    np.testing.assert_array_equal(first, fading(3))
    for other in (fading(4), fading(3, stream=1)):
        # 1000 independent complex samples: |correlation| is below 4 / sqrt(1000).
        assert abs(np.mean(first * other.conj())) < 4 / np.sqrt(1000)
    assert np.mean(np.abs(first) ** 2) - 1 < 4 / np.sqrt(1000)


def test_one_graph_serves_every_seed_and_draws_what_eager_mode_draws():
    traces = []

    @tf.function(autograph=False)
    def graph(seed):
        traces.append(seed)
        with sionna_draws(seed):
            return MODEL(500, 1)[0]

    for seed in (1, 2, 2**40 + 5):
        np.testing.assert_allclose(graph(seed_tensor(seed)).numpy().ravel(), fading(seed))
    assert len(traces) == 1


def test_the_generator_of_the_user_goes_on_as_if_nothing_had_happened():
    config.seed = 11
    alone = [MODEL(3, 1)[0].numpy() for _ in range(2)]
    config.seed = 11
    with_us = [MODEL(3, 1)[0].numpy()]
    fading(5)
    with_us.append(MODEL(3, 1)[0].numpy())
    np.testing.assert_array_equal(alone, with_us)


def test_the_example_in_the_docstring_runs_as_printed():
    found = doctest.testmod(sionna_random)
    assert found.attempted
    assert not found.failed
