"""Bit scrambling of TS 38.211, 7.3.1.1, so that no payload meets a channel of its own.

A video header or a run of zeros would else choose inner or outer QAM points only, and leave the
unit mean power that SNR is defined by.
"""

import functools

import numpy as np
import tensorflow as tf
from sionna.phy.fec.scrambling import TB5GScrambler


@functools.lru_cache(maxsize=8)
def scrambling_sequence(n: int) -> np.ndarray:
    """Gold sequence of 38.211 5.2.1 for RNTI 1 and cell identity 1. Output: [n], float32."""
    with tf.init_scope():  # Sionna's loop takes half a second; its values outlive any graph
        return TB5GScrambler(channel_type="PDSCH")(tf.zeros([1, n]))[0].numpy()


def scramble(bits: tf.Tensor) -> tf.Tensor:
    """Bits xor the sequence. Input and output: [batch, n], ``tf.float32``."""
    return tf.abs(bits - scrambling_sequence(bits.shape[-1]))


def descramble(llr: tf.Tensor) -> tf.Tensor:
    """LLRs of the bits before ``scramble``. Input and output: [batch, n], ``tf.float32``."""
    return llr * (1.0 - 2.0 * scrambling_sequence(llr.shape[-1]))
