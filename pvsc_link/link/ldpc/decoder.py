"""LDPC decoders by name: from LLRs of the emitted bits to information bits."""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from sionna.phy.fec.ldpc import LDPC5GDecoder

from pvsc_link.link.ldpc.code import LdpcCode, get_ldpc_code
from pvsc_link.link.ldpc.layered_numba import LayeredKernel
from pvsc_link.link.ldpc.layered_xla import LayeredXla
from pvsc_link.link.ldpc.schedule import build_schedule, offset_of_rate
from pvsc_link.link.mcs import Mcs
from pvsc_link.types import InputError

#: LLRs log p(1)/p(0) [batch, mother_n], float32 -> information bits [batch, k], float32.
Decoder = Callable[[Any], Any]


def refuse_non_finite(llr: np.ndarray) -> None:
    """Raise ``InputError`` where an LLR is NaN or infinite: decoders turn these into zeros."""
    finite = np.isfinite(llr)
    if not finite.all():
        raise InputError(
            "LLRs at the LDPC decoder",
            found=f"{llr.size - np.count_nonzero(finite)} of {llr.size} NaN or infinite",
            allowed="finite values",
            remedy="Give the demapper a noise variance above 0 and finite channel estimates.",
        )


class GraphDecoder:
    """A decoder that is one compiled TensorFlow function.

    Called with values it raises ``InputError`` for LLRs that are not finite; inside a graph,
    where nothing can be raised, the bits of such a block are NaN, so that it counts as wrong.
    """

    def __init__(self, decode: Callable[[tf.Tensor], tf.Tensor], *, jit_compile: bool | None):
        self._decode = decode
        self._compiled = tf.function(
            self._decode_finite, jit_compile=jit_compile, reduce_retracing=not jit_compile
        )

    def __call__(self, llr: Any) -> tf.Tensor:
        llr = tf.convert_to_tensor(llr, tf.float32)
        if tf.executing_eagerly():
            refuse_non_finite(llr.numpy())
        return self._compiled(llr)

    def _decode_finite(self, llr: tf.Tensor) -> tf.Tensor:
        is_finite = tf.reduce_all(tf.math.is_finite(llr), axis=-1, keepdims=True)
        return tf.where(is_finite, self._decode(tf.where(is_finite, llr, 0.0)), np.nan)


class LayeredDecoder:
    """Layered min-sum on the CPU; each block stops alone when its parity checks hold.

    Parameters: ``code`` : LdpcCode; ``num_iter`` : most iterations.
    Call it with a numpy array and get one, or with a tensor (also inside ``tf.function``, where
    the decoder is a ``tf.numpy_function``: not under ``jit_compile``). Raises ``InputError`` for
    LLRs that are not finite, which a graph reports as an error with that text.
    """

    def __init__(self, code: LdpcCode, num_iter: int):
        schedule = build_schedule(code.encoder)
        self._k, rate = code.k, code.k / code.mother_n
        self._kernel = LayeredKernel(schedule, num_iter, offset_of_rate(rate))

    def decode(self, llr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bits and iterations.

        Input: ``llr`` : [batch, mother_n], float32, log p(1)/p(0).
        Output: ``bits`` : [batch, k], uint8; ``iterations`` : [batch], int16, negative where
        the limit passed without a codeword.
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


def sionna_decoder(code: LdpcCode, num_iter: int, cn_update: str = "boxplus-phi") -> LDPC5GDecoder:
    """Sionna's flooding decoder as it comes: no early stop, no compilation."""
    encoder = code.encoder
    num_sent = encoder.n_ldpc - (encoder.k_ldpc - encoder.k) - 2 * encoder.z
    # With nothing punctured, Sionna's pruning would slice the parity-check matrix to nothing.
    prune = encoder.n < num_sent
    return LDPC5GDecoder(encoder, cn_update=cn_update, num_iter=num_iter, prune_pcm=prune)


def layered_xla(code: LdpcCode, num_iter: int) -> GraphDecoder:
    """The bits of ``LayeredDecoder`` from one XLA program; also under an outer ``jit_compile``."""
    schedule = build_schedule(code.encoder)
    offset = offset_of_rate(code.k / code.mother_n)
    return GraphDecoder(LayeredXla(schedule, num_iter, offset), jit_compile=True)


def sionna(code: LdpcCode, num_iter: int) -> GraphDecoder:
    """Sionna's flooding belief propagation (boxplus-phi), compiled by XLA."""
    return GraphDecoder(sionna_decoder(code, num_iter), jit_compile=True)


#: Decoders by the name a scenario gives them: (code, num_iter) -> Decoder.
DECODERS: dict[str, Callable[[LdpcCode, int], Decoder]] = {
    "layered": LayeredDecoder,
    "layered-xla": layered_xla,
    "sionna": sionna,
}


@functools.lru_cache(maxsize=128)
def get_decoder(name: str, mcs: Mcs, num_iter: int) -> Decoder:
    """The decoder of these parameters, built (and compiled) once per process."""
    return DECODERS[name](get_ldpc_code(mcs.k, mcs.n, mcs.num_bits_per_symbol), num_iter)
