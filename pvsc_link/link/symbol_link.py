"""Symbols that lie scattered in a tensor, each at its own place in the stream, over one link.

A receiver whose graph must not depend on how many symbols a frame sends keeps them in a dense
tensor with gaps. Because a draw depends on the seed and the place in the stream alone, the link
can run on that tensor: a symbol meets what it would meet in the packed stream of ``SymbolLink``.
Channel, equalizer and CSI awareness are numbers here, so that one graph serves all of them.

Analog link: complex symbols over a flat-fading channel to equalised symbols (eq. 1 to 4).
"""

from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from pvsc_link.link import flat as channels
from pvsc_link.link.channel import (
    as_coherence_length,
    as_csi_nmse_db,
    as_snr_db,
    point_tensors,
    require_name,
)
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.csi import estimate, receiver_knowledge
from pvsc_link.link.equalizers import SYMBOL_EQUALIZERS
from pvsc_link.types import ChannelPoint, db_to_linear, noise_variance


class LinkTensors(NamedTuple):
    """A link and its realisation as tensors; no value of them retraces a ``tf.function``."""

    channel: tf.Tensor  # [], tf.int32, place in CHANNELS
    equalizer: tf.Tensor  # [], tf.int32, place in SYMBOL_EQUALIZERS
    csi_aware: tf.Tensor  # [], tf.int32, 0 or 1
    snr_db: tf.Tensor  # [], tf.float32, Es/N0
    csi_nmse_db: tf.Tensor  # [], tf.float32; -inf for perfect CSI
    coherence_length: tf.Tensor  # [], tf.int32, channel uses
    seed: tf.Tensor  # [2], tf.uint32


def link_tensors(point: ChannelPoint, equalizer: str, csi_aware: bool, seed: int) -> LinkTensors:
    """Tensors of a point; raises ``InputError`` for unknown names and bad values."""
    values = point_tensors(point)
    require_name("equalizer", equalizer, SYMBOL_EQUALIZERS)
    return LinkTensors(
        tf.constant(list(channels.CHANNELS).index(point.channel), tf.int32),
        tf.constant(list(SYMBOL_EQUALIZERS).index(equalizer), tf.int32),
        tf.constant(int(csi_aware), tf.int32),
        *values,
        seed_tensor(seed),
    )


def transmit_placed(symbols: tf.Tensor, index: tf.Tensor, link: LinkTensors) -> tf.Tensor:
    """Equalised symbols (eq. 1 to 4), each at its place.

    Input
    -----
    symbols : [...], tf.complex64, unit mean power over those that are sent
    index : like ``symbols``, tf.int32, place in the stream; gaps may have any place
    link : LinkTensors

    Output
    ------
    symbols_hat : like ``symbols``, tf.complex64; finite, meaningless in gaps
    """
    csi_nmse, no = db_to_linear(link.csi_nmse_db), noise_variance(link.snr_db)
    g, e, noise = channels.samples_at(link.seed, index, link.coherence_length)
    h = tf.gather(tf.stack([law(g) for law in channels.CHANNELS.values()]), link.channel)
    y = channels.apply(symbols, h, noise, no)
    h_hat = estimate(h, e, csi_nmse)
    known = [receiver_knowledge(h_hat, csi_nmse, csi_aware=aware) for aware in (False, True)]
    h_known, err_var = (
        tf.gather(tf.stack(both), link.csi_aware) for both in zip(*known, strict=True)
    )
    equalised = [equalizer(y, h_known, no, err_var)[0] for equalizer in SYMBOL_EQUALIZERS.values()]
    return tf.gather(tf.stack(equalised), link.equalizer)


def places_of(sent: np.ndarray, first: int) -> np.ndarray:
    """Place in the stream of every sent symbol of a frame, in the order they are packed in.

    Input: ``sent`` : bool, any shape; ``first`` : place of the frame's first symbol.
    Output: like ``sent``, int32; gaps have place ``first``.
    """
    places = np.full(sent.shape, first, np.int32)
    places[sent] = first + np.arange(np.count_nonzero(sent), dtype=np.int32)
    return places


def normalize_power(symbols: tf.Tensor) -> tf.Tensor:
    """Scales each row to unit mean power (the constraint under eq. 1); a row of zeros stays.

    Input and output: [batch, num_symbols], ``tf.complex64``.
    """
    power = tf.square(tf.math.real(symbols)) + tf.square(tf.math.imag(symbols))
    mean_power = tf.reduce_mean(power, axis=-1, keepdims=True)
    return symbols * tf.cast(tf.math.rsqrt(tf.maximum(mean_power, 1e-12)), symbols.dtype)


class SymbolLink(keras.layers.Layer):
    """Fading, noise, CSI error and equalizer for symbols of unit mean power (eq. 1 to 4).

    Row 0 of a batch meets the realisation that ``BitLink`` meets at the same seed; the other
    rows meet independent ones. Differentiable; nothing in it is trained. No argument's value
    retraces a ``tf.function`` around it, and neither does the number of symbols if its dimension
    is left open.

    Parameters
    ----------
    channel : str, key of ``CHANNELS``
    equalizer : str, key of ``SYMBOL_EQUALIZERS``
    csi_aware : bool, whether the equalizer knows the variance of the CSI error

    Input
    -----
    symbols : [batch, num_symbols], tf.complex64, unit mean power
    snr_db : float or [], tf.float32, Es/N0 per symbol (keyword, as all that follow)
    csi_nmse_db : None (perfect CSI), float or [], tf.float32; -inf: perfect CSI
    coherence_length : None (AWGN), int or [], tf.int32, channel uses
    seed : int or [2], tf.uint32
    first_symbol : int or [], tf.int32, position of the first symbol in its stream

    Output
    ------
    symbols_hat : [batch, num_symbols], tf.complex64
    no_eff : [batch, num_symbols], tf.float32, noise variance after equalisation

    Raises ``InputError`` for an unknown name, and for values that are seen to be bad (Python
    numbers; tensors are not looked into).
    """

    def __init__(self, channel: str, equalizer: str = "zf", csi_aware: bool = False, **kwargs: Any):
        super().__init__(**{"dtype": "float32", **kwargs})
        self._fading = require_name("channel", channel, channels.CHANNELS)
        self._equalizer = require_name("equalizer", equalizer, SYMBOL_EQUALIZERS)
        self._csi_aware = csi_aware

    def __call__(
        self,
        symbols: tf.Tensor,
        *,
        snr_db: Any,
        csi_nmse_db: Any = None,
        coherence_length: Any = None,
        seed: Any,
        first_symbol: Any = 0,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        # Checked here, because Keras turns what `call` raises into a RuntimeError.
        return super().__call__(
            symbols,
            snr_db=as_snr_db(snr_db),
            csi_nmse_db=as_csi_nmse_db(csi_nmse_db, self._fading),
            coherence_length=as_coherence_length(coherence_length, self._fading),
            seed=seed_tensor(seed),
            first_symbol=tf.convert_to_tensor(first_symbol, tf.int32),
        )

    def call(
        self,
        symbols: tf.Tensor,
        snr_db: tf.Tensor,
        csi_nmse_db: tf.Tensor,
        coherence_length: tf.Tensor,
        seed: tf.Tensor,
        first_symbol: tf.Tensor,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        csi_nmse, no = db_to_linear(csi_nmse_db), noise_variance(snr_db)
        batch, num_symbols = tf.unstack(tf.shape(symbols))
        index = tf.tile((first_symbol + tf.range(num_symbols))[None], [batch, 1])
        row = tf.range(batch)[:, None]
        h, h_hat, noise = channels.draw_at(
            self._fading, seed, index, coherence_length, csi_nmse, row=row
        )
        y = channels.apply(symbols, h, noise, no)
        estimate, err_var = receiver_knowledge(h_hat, csi_nmse, csi_aware=self._csi_aware)
        return SYMBOL_EQUALIZERS[self._equalizer](y, estimate, no, err_var)

    def compute_output_shape(self, symbols_shape: tuple) -> tuple[tuple, tuple]:
        return symbols_shape, symbols_shape

    def get_config(self) -> dict[str, Any]:
        own = {
            "channel": self._fading,
            "equalizer": self._equalizer,
            "csi_aware": self._csi_aware,
        }
        return {**super().get_config(), **own}
