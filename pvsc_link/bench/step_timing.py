"""Milliseconds per frame of the two ends, networks only, as Tables IV and V time them."""

import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf


def time_function(function: Callable[..., Any], inputs: Sequence[Any], repeats: int) -> float:
    """Median wall time of one call in ms, after one warm-up call that traces.

    Parameters: ``function`` : of tensors; ``inputs`` : ``tf.TensorSpec``, filled with random
    values of fixed seed (integers with zeros); ``repeats`` : timed calls, at least 1.
    """
    compiled = tf.function(function)
    values = [_values(spec, seed) for seed, spec in enumerate(inputs)]
    _wait(compiled(*values))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        _wait(compiled(*values))
        times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def _values(spec: tf.TensorSpec, seed: int) -> tf.Tensor:
    if spec.dtype.is_integer:
        return tf.zeros(spec.shape, spec.dtype)
    return tf.random.Generator.from_seed(seed).uniform(spec.shape)


def _wait(outputs: Any) -> None:
    """On an accelerator a call returns early; copying one number back ends the computation."""
    for output in tf.nest.flatten(outputs):
        if output is not None:
            tf.reshape(output, [-1])[0].numpy()
