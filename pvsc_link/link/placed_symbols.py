"""Symbols that lie scattered in a tensor, each at its own place in the stream, over one link.

A receiver whose graph must not depend on how many symbols a frame sends keeps them in a dense
tensor with gaps. Because a draw depends on the seed and the place in the stream alone, the link
can run on that tensor: a symbol meets what it would meet in the packed stream of ``SymbolLink``.
Channel, equalizer and CSI awareness are numbers here, so that one graph serves all of them.
"""

from typing import NamedTuple

import numpy as np
import tensorflow as tf

from pvsc_link.link import channels
from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.csi import estimate, receiver_knowledge
from pvsc_link.link.equalizers import SYMBOL_EQUALIZERS
from pvsc_link.link.point_tensors import point_tensors, require_name
from pvsc_link.types import ChannelPoint
from pvsc_link.units import db_to_linear, noise_variance


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
