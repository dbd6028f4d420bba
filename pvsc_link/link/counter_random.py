"""Random numbers as a pure function of (seed, stream, symbol index): Threefry-2x32, 20 rounds.

Every scheme must meet the same fading, CSI error and noise at its i-th symbol, however long its
stream is and in whatever pieces it is simulated. A generator with a state cannot promise that, nor
can one whose output depends on the shape that is asked for, as stateless TensorFlow operations do
under XLA. A counter-based generator (Salmon et al., SC 2011) can. Its integer arithmetic is the
same in eager mode, in a graph and under XLA; only the last float operations may round differently.
"""

import math
import operator
from typing import Any

import tensorflow as tf

from pvsc_link.types import InputError

_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_PARITY = 0x1BD11BDA


def seed_tensor(seed: Any) -> tf.Tensor:
    """Key of the generator.

    Input: ``seed`` : int from 0 to 2**64 - 1, or a tensor: [], any integer, or [2], ``tf.uint32``
    (passed through). Output: [2], ``tf.uint32``. Raises ``InputError`` for anything else.
    """
    if tf.is_tensor(seed):
        if seed.shape.rank == 0 and seed.dtype.is_integer:
            wide = tf.cast(seed, tf.uint64)
            high = tf.bitwise.right_shift(wide, tf.constant(32, tf.uint64))
            return tf.stack([tf.cast(high, tf.uint32), tf.cast(wide, tf.uint32)])
        if seed.dtype != tf.uint32 or not seed.shape.is_compatible_with([2]):
            raise InputError(
                "seed",
                found=f"{seed.dtype.name} {seed.shape}",
                allowed="an integer [] or uint32 [2]",
                remedy="tf.constant(1, tf.int64) is one.",
            )
        return seed
    try:
        number = -1 if isinstance(seed, bool) else operator.index(seed)
    except TypeError:  # 1.5, "1", None, a list
        number = -1
    if not 0 <= number < 2**64:
        raise InputError(
            "seed", found=seed, allowed="integers from 0 to 2**64 - 1", remedy="Choose another."
        )
    return tf.constant([number >> 32, number & 0xFFFFFFFF], tf.uint32)


def _rotate_left(x: tf.Tensor, bits: int) -> tf.Tensor:
    left = tf.bitwise.left_shift(x, tf.constant(bits, tf.uint32))
    return tf.bitwise.bitwise_or(left, tf.bitwise.right_shift(x, tf.constant(32 - bits, tf.uint32)))


def threefry(key: tf.Tensor, high: tf.Tensor, low: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Two random words per counter (Threefry-2x32-20).

    Input: ``key`` : [2], ``high``, ``low`` : [...], all ``tf.uint32``.
    Output: two tensors [...], ``tf.uint32``, uniform over all 32-bit words.
    """
    xor = tf.bitwise.bitwise_xor
    keys = (key[0], key[1], xor(xor(key[0], key[1]), tf.constant(_PARITY, tf.uint32)))
    x0, x1 = high + keys[0], low + keys[1]
    for group in range(5):
        for bits in _ROTATIONS[group % 2]:
            x0 = x0 + x1
            x1 = xor(_rotate_left(x1, bits), x0)
        x0 = x0 + keys[(group + 1) % 3]
        x1 = x1 + keys[(group + 2) % 3] + tf.constant(group + 1, tf.uint32)
    return x0, x1


def complex_normal(seed: tf.Tensor, stream: tf.Tensor | int, index: tf.Tensor) -> tf.Tensor:
    """CN(0, 1) samples, one per index, by Box and Muller's transform.

    The radius uses 23 bits, so that it is neither zero nor infinite: its square lies between
    6e-8 (a fade of -72 dB) and 16.6 (the two tails that are missing have probability 6e-8 each).

    Input: ``seed`` : [2], ``tf.uint32``; ``stream`` : int or integers that broadcast with
    ``index``; ``index`` : [...], ``tf.int32``, not negative. Output: [...], ``tf.complex64``.
    """
    index = tf.cast(index, tf.uint32)
    high, low = threefry(seed, index, tf.cast(stream, tf.uint32) + tf.zeros_like(index))
    shift = tf.bitwise.right_shift
    uniform = (tf.cast(shift(high, tf.constant(9, tf.uint32)), tf.float32) + 0.5) * 2.0**-23
    angle = tf.cast(shift(low, tf.constant(8, tf.uint32)), tf.float32) * (2.0 * math.pi * 2.0**-24)
    radius = tf.sqrt(-tf.math.log(uniform))
    return tf.complex(radius * tf.cos(angle), radius * tf.sin(angle))
