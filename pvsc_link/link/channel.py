"""A channel point as tensors: the one place where a bad SNR, NMSE or coherence is refused."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any, NamedTuple

import tensorflow as tf

from pvsc_link.link.flat import CHANNELS
from pvsc_link.types import ChannelPoint, InputError


class PointTensors(NamedTuple):
    """Tensor arguments of the traced link; new values never retrace."""

    snr_db: tf.Tensor  # [], tf.float32, Es/N0
    csi_nmse_db: tf.Tensor  # [], tf.float32; -inf for perfect CSI
    coherence_length: tf.Tensor  # [], tf.int32, channel uses


def point_tensors(point: ChannelPoint) -> PointTensors:
    """Tensors of a channel point.

    Raises ``InputError`` for an unknown channel and for the values that ``as_snr_db``,
    ``as_csi_nmse_db`` and ``as_coherence_length`` refuse.
    """
    require_name("channel", point.channel, CHANNELS)
    return PointTensors(
        as_snr_db(point.snr_db),
        as_csi_nmse_db(point.csi_nmse_db, point.channel),
        as_coherence_length(point.coherence_length, point.channel),
    )


def as_snr_db(snr_db: Any) -> tf.Tensor:
    """Es/N0 in dB, [], ``tf.float32``; a tensor passes through. Refuses what is not finite."""
    if tf.is_tensor(snr_db):
        return snr_db
    if not isinstance(snr_db, Real) or not math.isfinite(snr_db):
        _refuse("snr_db", snr_db, "finite numbers (dB)", "Give Es/N0 per complex symbol in dB.")
    return tf.constant(snr_db, tf.float32)


def as_csi_nmse_db(csi_nmse_db: Any, channel: str) -> tf.Tensor:
    """NMSE of the channel estimate in dB, [], ``tf.float32``; perfect CSI (None) is -inf.

    A tensor passes through. Refuses NaN and +inf, and any error under AWGN: a channel that never
    changes is known.
    """
    if tf.is_tensor(csi_nmse_db):
        return csi_nmse_db
    value = -math.inf if csi_nmse_db is None else csi_nmse_db
    if not isinstance(value, Real) or not value < math.inf:
        _refuse("csi_nmse_db", value, "numbers (dB), or null", "null stands for perfect CSI.")
    if channel == "awgn" and value != -math.inf:
        _refuse("csi_nmse_db under AWGN", value, "null", "Only a fading channel is estimated.")
    return tf.constant(value, tf.float32)


def as_coherence_length(coherence_length: Any, channel: str) -> tf.Tensor:
    """Channel uses per coherence block, [], ``tf.int32``; a tensor passes through.

    Refuses a length that is absent or below 1; under AWGN it may be absent and has no effect.
    """
    if tf.is_tensor(coherence_length):
        return coherence_length
    value = 1 if coherence_length is None and channel == "awgn" else coherence_length
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) < 2**31:
        remedy = "1 means an independent fade for every symbol."
        _refuse("coherence_length", value, "integers from 1 (channel uses)", remedy)
    return tf.constant(int(value), tf.int32)


def require_name(what: str, name: str, table: Mapping[str, Any]) -> str:
    """``name``, if it is a key of ``table``; raises ``InputError`` if it is not."""
    if name not in table:
        _refuse(what, name, ", ".join(sorted(table)), "Name one of these.")
    return name


def _refuse(what: str, found: object, allowed: str, remedy: str) -> None:
    raise InputError(what, found=found, allowed=allowed, remedy=remedy)
