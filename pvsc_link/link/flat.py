"""Block-fading channels (eq. 1): draws that depend on the seed and the symbol index alone."""

from collections.abc import Callable

import tensorflow as tf
from sionna.phy.channel import ApplyFlatFadingChannel

from pvsc_link.link.counter_random import complex_normal
from pvsc_link.link.csi import estimate

# Streams of the generator; a realisation (row of a batch) takes four consecutive numbers.
_FADING, _CSI_ERROR, _NOISE, _STREAMS_PER_ROW = 0, 1, 2, 4

_APPLY = ApplyFlatFadingChannel(precision="single")


def awgn(g: tf.Tensor) -> tf.Tensor:
    """Time-invariant channel: h = 1."""
    return tf.ones_like(g)


def rayleigh(g: tf.Tensor) -> tf.Tensor:
    """Rayleigh block fading: h ~ CN(0, 1), independent from coherence block to block."""
    return g


#: Fading law by name: makes h, E|h|^2 = 1, from the CN(0, 1) sample of each coherence block.
CHANNELS: dict[str, Callable[[tf.Tensor], tf.Tensor]] = {"awgn": awgn, "rayleigh": rayleigh}


def samples_at(
    seed: tf.Tensor,
    index: tf.Tensor,
    coherence_length: tf.Tensor,
    row: tf.Tensor | int = 0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The CN(0, 1) samples behind ``draw_at``, before any law: fading g, CSI error e, noise.

    Input as in ``draw_at``. Output: g, e, noise : [...], ``tf.complex64``; g and e are equal
    inside a coherence block.
    """
    block = tf.math.floordiv(index, coherence_length)
    first_stream = tf.convert_to_tensor(row, tf.int32) * _STREAMS_PER_ROW + tf.zeros_like(index)
    # One call for all three: XLA then compiles the generator once instead of three times.
    streams = tf.stack([first_stream + offset for offset in (_FADING, _CSI_ERROR, _NOISE)])
    samples = complex_normal(seed, streams, tf.stack([block, block, index]))
    return tuple(tf.unstack(samples))


def draw_at(
    channel: str,
    seed: tf.Tensor,
    index: tf.Tensor,
    coherence_length: tf.Tensor,
    csi_nmse: tf.Tensor,
    row: tf.Tensor | int = 0,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Fading, its estimate and unit noise of the symbols at ``index`` of a stream (eq. 1 and 3).

    The receiver estimates once per coherence block, so the CSI error is constant inside a block
    and independent between blocks, as the fading is.

    Parameters
    ----------
    channel : str, key of ``CHANNELS``

    Input
    -----
    seed : [2], tf.uint32
    index : [...], tf.int32, position in the symbol stream
    coherence_length : [], tf.int32, channel uses per coherence block, >= 1
    csi_nmse : [], tf.float32, linear; 0 for perfect CSI
    row : int or tf.int32 that broadcasts with ``index``; rows are independent realisations

    Output
    ------
    h, h_hat, noise : [...], tf.complex64, E|h|^2 = E|noise|^2 = 1
    """
    g, e, noise = samples_at(seed, index, coherence_length, row)
    h = CHANNELS[channel](g)
    return h, estimate(h, e, csi_nmse), noise


def draw(
    channel: str,
    seed: tf.Tensor,
    num_symbols: tf.Tensor | int,
    coherence_length: tf.Tensor,
    csi_nmse: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The first ``num_symbols`` symbols of a stream: ``draw_at`` for index 0, 1, 2, ...

    Prefix-stable: symbol i meets the same h, h_hat and noise whatever ``num_symbols`` is.
    Input and output as in ``draw_at``, with tensors [num_symbols].
    """
    return draw_at(channel, seed, tf.range(num_symbols), coherence_length, csi_nmse)


def apply(x: tf.Tensor, h: tf.Tensor, noise: tf.Tensor, no: tf.Tensor) -> tf.Tensor:
    """Channel output ``y = h x + sqrt(no) noise`` (eq. 1).

    The noise comes in from outside: Sionna's own draws are from a global generator, which would
    give every scheme another realisation.

    Input: ``x``, ``h``, ``noise`` : [...], ``tf.complex64``; ``no`` : [], ``tf.float32``.
    Output: ``y`` : [...], ``tf.complex64``.
    """
    faded = _APPLY(tf.reshape(x, [-1, 1]), tf.reshape(h, [-1, 1, 1]))
    return tf.reshape(faded, tf.shape(x)) + tf.cast(tf.sqrt(no), x.dtype) * noise
