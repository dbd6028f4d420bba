"""LDPC decoders: from the LLRs of the emitted bits to information bits."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GDecoder

from pvsc_link.link.ldpc.code import HeardCode, LdpcCode
from pvsc_link.link.ldpc.layered_numba import LayeredKernel, offset_of_rate
from pvsc_link.link.ldpc.layered_xla import LayeredXla
from pvsc_link.link.registry import DECODERS, find
from pvsc_link.options import load_implementation
from pvsc_link.types import InputError

#: LLRs log p(1)/p(0) [batch, mother_n], float32 -> information bits [batch, k], float32.
Decoder = Callable[[Any], Any]

#: Decoders of the CPU and what takes their place inside a graph: it gives the same bits.
IN_GRAPH = {"layered": "layered-xla"}


def refuse_non_finite(llr: np.ndarray) -> None:
    """Raise ``InputError`` if an LLR is NaN or infinite, since decoders turn these into zeros."""
    finite = np.isfinite(llr)
    if not finite.all():
        raise InputError(
            "LLRs at the LDPC decoder",
            found=f"{llr.size - np.count_nonzero(finite)} of {llr.size} NaN or infinite",
            allowed="finite values",
            remedy="Give the demapper a noise variance above 0 and finite channel estimates.",
        )


class GraphDecoder:
    """A decoder compiled by XLA.

    Called eagerly it raises ``InputError`` for LLRs that are not finite. Inside a graph nothing can
    be raised: the bits of such a block are NaN there, so that it counts as wrong.
    """

    def __init__(self, decode: Callable[[tf.Tensor], tf.Tensor]):
        self._decode = decode
        self._compiled = tf.function(self._decode_finite, autograph=False, jit_compile=True)

    def __call__(self, llr: Any) -> tf.Tensor:
        llr = tf.convert_to_tensor(llr, tf.float32)
        if tf.executing_eagerly():
            refuse_non_finite(llr.numpy())
        return self._compiled(llr)

    def _decode_finite(self, llr: tf.Tensor) -> tf.Tensor:
        is_finite = tf.reduce_all(tf.math.is_finite(llr), axis=-1, keepdims=True)
        return tf.where(is_finite, self._decode(tf.where(is_finite, llr, 0.0)), np.nan)


class LayeredDecoder:
    """Layered offset min-sum on the CPU; each block stops as soon as its parity checks hold.

    Parameters: ``code`` : LdpcCode or HeardCode; ``num_iter`` : most iterations.
    Call it with a numpy array and get one, or with a tensor (also inside ``tf.function``, where
    the decoder is a ``tf.numpy_function``: not under ``jit_compile``). Raises ``InputError`` for
    LLRs that are not finite, which a graph reports as an error with that text.
    """

    def __init__(self, code: LdpcCode | HeardCode, num_iter: int):
        self._k = code.k
        self._kernel = LayeredKernel(code.schedule, num_iter, offset_of_rate(code.rate))

    def decode(self, llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bits and iterations.

        Input: ``llr`` : [batch, mother_n], float32, log p(1)/p(0).
        Output: ``bits`` : [batch, k], uint8; ``iterations`` : [batch], int16, the number used
        until all parity checks held, or minus the limit where they never did.
        """
        refuse_non_finite(llr)
        return self._kernel.decode(llr)

    def __call__(self, llr: Any) -> Any:
        if isinstance(llr, np.ndarray):
            return self._decode_bits(llr)
        if tf.executing_eagerly():
            return tf.constant(self._decode_bits(llr.numpy()))
        bits = tf.numpy_function(self._decode_bits, [llr], tf.float32, stateful=False)
        return tf.ensure_shape(bits, [llr.shape[0], self._k])

    def _decode_bits(self, llr: np.ndarray) -> np.ndarray:
        return self.decode(llr)[0].astype(np.float32)


def sionna_decoder(
    code: LdpcCode | HeardCode, num_iter: int, cn_update: str = "boxplus-phi"
) -> LDPC5GDecoder:
    """Sionna's flooding decoder, which neither stops early nor is compiled."""
    encoder = code.encoder
    num_sent = encoder.n_ldpc - (encoder.k_ldpc - encoder.k) - 2 * encoder.z
    # With nothing punctured, Sionna's pruning would slice the parity-check matrix to nothing.
    prune = encoder.n < num_sent
    return LDPC5GDecoder(encoder, cn_update=cn_update, num_iter=num_iter, prune_pcm=prune)


def layered_xla(code: LdpcCode | HeardCode, num_iter: int) -> GraphDecoder:
    """The bits of ``LayeredDecoder`` from one XLA program; also inside an XLA function."""
    offset = offset_of_rate(code.rate)
    return GraphDecoder(LayeredXla(code.schedule, num_iter, offset))


def sionna(code: LdpcCode | HeardCode, num_iter: int) -> GraphDecoder:
    """Sionna's flooding belief propagation (boxplus-phi), compiled by XLA."""
    return GraphDecoder(sionna_decoder(code, num_iter))


@functools.lru_cache(maxsize=128)
def get_decoder(name: str, code: LdpcCode | HeardCode, num_iter: int) -> Decoder:
    """The decoder of this name, built (and compiled) once per process and code.

    Raises ``InputError`` for an unknown name and a number of iterations that is none.
    """
    if isinstance(num_iter, bool) or not isinstance(num_iter, int) or num_iter < 1:
        raise InputError(
            "num_iter", found=num_iter, allowed="integers from 1", remedy="20 is the default."
        )
    return load_implementation(find("decoder", name, DECODERS))(code, num_iter)
