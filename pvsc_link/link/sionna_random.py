"""Random numbers of Sionna's blocks as a pure function of (seed, stream), inside graphs too.

Sionna's channel models draw from ``sionna.phy.config.tf_rng``, a generator with a state that every
call moves on. Inside ``sionna_draws`` that generator is one without a state: draw number i is
TensorFlow's stateless Philox generator with a key made of seed, stream and i. A block then gives
the same realisation whenever it is called with the same seed, in any thread, without a retrace.
This file alone touches Sionna's generator.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import tensorflow as tf
from sionna.phy import config

from pvsc_link.link.counter_random import seed_tensor, threefry

#: The generator is one for the whole process: two threads that trace must not meet in it.
_LOCK = threading.RLock()


class StatelessGenerator:
    """Takes the place of a ``tf.random.Generator`` for one call of a block.

    Draws with shapes of their own are independent of each other. A draw inside a TensorFlow loop
    (``tf.while_loop``, ``tf.map_fn``) is the same in each iteration.

    Parameters: ``seed`` : int from 0 to 2**64 - 1, or [2], ``tf.uint32``; ``stream`` : int or [],
    ``tf.int32``; streams are independent.
    """

    def __init__(self, seed: Any, stream: Any):
        self._seed = seed_tensor(seed)
        self._stream = tf.cast(stream, tf.uint32)
        self._num_draws = 0

    def _key(self) -> dict[str, Any]:
        words = threefry(self._seed, self._stream, tf.constant(self._num_draws, tf.uint32))
        self._num_draws += 1
        return {"seed": tf.bitcast(tf.stack(words), tf.int32), "alg": "philox"}

    def uniform(
        self, shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """As ``tf.random.Generator.uniform``."""
        return tf.random.stateless_uniform(
            shape, minval=minval, maxval=maxval, dtype=dtype, **self._key()
        )

    def normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """As ``tf.random.Generator.normal``."""
        return tf.random.stateless_normal(
            shape, mean=mean, stddev=stddev, dtype=dtype, **self._key()
        )

    def truncated_normal(
        self, shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = tf.float32
    ) -> tf.Tensor:
        """As ``tf.random.Generator.truncated_normal``."""
        return tf.random.stateless_truncated_normal(
            shape, mean=mean, stddev=stddev, dtype=dtype, **self._key()
        )


@contextlib.contextmanager
def sionna_draws(seed: Any, stream: Any = 0) -> Iterator[None]:
    """Blocks of Sionna that are called inside draw from ``StatelessGenerator(seed, stream)``.

    The generator that was there before comes back afterwards, with its state unmoved.

    Example
    -------
    >>> from sionna.phy.channel.tr38901 import TDL
    >>> from pvsc_link.link.sionna_random import sionna_draws
    >>> model = TDL("A", delay_spread=100e-9, carrier_frequency=3.5e9, max_speed=3.0)
    >>> with sionna_draws(seed=7):
    ...     h, delays = model(batch_size=1, num_time_steps=4, sampling_frequency=30e3)
    >>> with sionna_draws(seed=7):
    ...     again, _ = model(batch_size=1, num_time_steps=4, sampling_frequency=30e3)
    >>> bool((h.numpy() == again.numpy()).all())
    True
    """
    with _LOCK:
        before = config._tf_rng
        config._tf_rng = StatelessGenerator(seed, stream)
        try:
            yield
        finally:
            config._tf_rng = before
