"""Scrambling (TS 38.211, 7.3.1.1) and exact bit LLRs of square Gray QAM (5.1.3 to 5.1.5 there).

Scrambling makes all QAM points equally likely whatever the payload is. Without it a run of zeros
would use few of them, and the mean symbol power would not be the one that SNR is defined by.
"""

import functools

import numpy as np
import tensorflow as tf
from sionna.phy.fec.scrambling import TB5GScrambler
from sionna.phy.mapping import Constellation


def axis_levels(num_bits_per_symbol: int) -> np.ndarray:
    """Amplitudes of the real axis in the order of its bits, most significant first.

    Bits 0, 2, 4 of a symbol choose the real part, bits 1, 3, 5 by the same rule the imaginary.
    Output: [2 ** (num_bits_per_symbol / 2)], float32.
    """
    points = Constellation("qam", num_bits_per_symbol).points.numpy()
    # One axis per bit; the bits of the imaginary axis do not matter here and are taken as zero.
    bits_apart = points.reshape([2] * num_bits_per_symbol)[(slice(None), 0) * _half(points)]
    return bits_apart.real.ravel().astype(np.float32)


def _half(points: np.ndarray) -> int:
    return (len(points).bit_length() - 1) // 2


class QamDemapper:
    """What Sionna's ``Demapper("app", "qam", m)`` computes, with fewer exponentials.

    Circular noise is independent on both axes and the constellation is the product of its axes, so
    the likelihood factors: at 64-QAM 2 x 8 exponents replace 64, and no gather is needed.

    Parameters
    ----------
    num_bits_per_symbol : int, even

    Input
    -----
    x_hat : [batch, num_symbols], tf.complex64
    no_eff : [batch, num_symbols], tf.float32, noise variance of each symbol, above 0

    Output
    ------
    llr : [batch, num_symbols * num_bits_per_symbol], tf.float32, log p(1)/p(0)
    """

    def __init__(self, num_bits_per_symbol: int):
        self._levels = axis_levels(num_bits_per_symbol)
        self._num_bits_per_symbol = num_bits_per_symbol

    def __call__(self, x_hat: tf.Tensor, no_eff: tf.Tensor) -> tf.Tensor:
        axes = tf.stack([tf.math.real(x_hat), tf.math.imag(x_hat)], axis=-1)
        exponents = [-tf.square(axes - level) / no_eff[..., None] for level in self._levels]
        # Stacked as [batch, num_symbols, bit, axis]: real and imaginary bits alternate in a symbol.
        num_axis_bits = self._num_bits_per_symbol // 2
        bits = [_llr(exponents, 2**bit) for bit in reversed(range(num_axis_bits))]
        llr = tf.stack(bits, axis=-2)
        num_symbols = x_hat.shape[-1] or tf.shape(x_hat)[-1]
        return tf.reshape(llr, [-1, num_symbols * self._num_bits_per_symbol])


def _llr(exponents: list[tf.Tensor], bit_mask: int) -> tf.Tensor:
    ones = [exponent for label, exponent in enumerate(exponents) if label & bit_mask]
    zeros = [exponent for label, exponent in enumerate(exponents) if not label & bit_mask]
    return _log_sum_exp(ones) - _log_sum_exp(zeros)


def _log_sum_exp(exponents: list[tf.Tensor]) -> tf.Tensor:
    if len(exponents) == 1:
        return exponents[0]
    largest = functools.reduce(tf.maximum, exponents)
    return largest + tf.math.log(tf.add_n([tf.exp(value - largest) for value in exponents]))


#: Longest code block that can be scrambled, in coded bits.
LONGEST_SEQUENCE = 2**15


@functools.cache
def _gold_sequence() -> np.ndarray:
    with tf.init_scope():  # outside of any graph, because the values are kept
        sequence = TB5GScrambler(channel_type="PDSCH")(tf.zeros([1, LONGEST_SEQUENCE]))
        return sequence[0].numpy().astype(np.uint8)


def scrambling_sequence(n: int) -> np.ndarray:
    """Gold sequence of 38.211 5.2.1 for RNTI 1 and cell identity 1. Output: [n], uint8."""
    return _gold_sequence()[:n]


def scramble(bits: tf.Tensor) -> tf.Tensor:
    """Bits xor the sequence. Input and output: [..., n], ``tf.uint8``."""
    return tf.bitwise.bitwise_xor(bits, scrambling_sequence(bits.shape[-1]))


def descramble(llr: tf.Tensor) -> tf.Tensor:
    """LLRs of the bits before ``scramble``. Input and output: [..., n], ``tf.float32``."""
    return llr * (1.0 - 2.0 * scrambling_sequence(llr.shape[-1]).astype(np.float32))
