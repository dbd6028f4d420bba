"""A channel point as tensors: the one place where a bad SNR, NMSE or coherence is refused."""

import math
from typing import NamedTuple

import tensorflow as tf

from pvsc_link.link.channels import CHANNELS
from pvsc_link.types import ChannelPoint, InputError


class PointTensors(NamedTuple):
    """Tensor arguments of the traced link; new values never retrace."""

    snr_db: tf.Tensor  # [], tf.float32, Es/N0
    csi_nmse_db: tf.Tensor  # [], tf.float32; -inf for perfect CSI
    coherence_length: tf.Tensor  # [], tf.int32, channel uses


def point_tensors(point: ChannelPoint) -> PointTensors:
    """Tensors of a channel point.

    Perfect CSI is -inf dB. AWGN has one coherence block as long as the stream, whatever the
    point says, and no CSI error: there is nothing to estimate.

    Raises ``InputError`` for an unknown channel, an SNR that is not finite, an NMSE that is NaN or
    +inf or stands with AWGN, and a coherence length that is absent (fading) or below 1.
    """
    _check_channel(point.channel)
    if not math.isfinite(point.snr_db):
        _refuse("snr_db", point.snr_db, "finite numbers (dB)", "Give Es/N0 in dB.")
    return PointTensors(
        tf.constant(point.snr_db, tf.float32),
        tf.constant(_csi_nmse_db(point), tf.float32),
        tf.constant(_coherence_length(point), tf.int32),
    )


def _refuse(what: str, found: object, allowed: str, remedy: str) -> None:
    raise InputError(what, found=found, allowed=allowed, remedy=remedy)


def _check_channel(channel: str) -> None:
    if channel not in CHANNELS:
        _refuse("channel", channel, ", ".join(sorted(CHANNELS)), "Name one of them.")


def _csi_nmse_db(point: ChannelPoint) -> float:
    nmse_db = point.csi_nmse_db
    if nmse_db is None:
        return -math.inf
    if math.isnan(nmse_db) or nmse_db == math.inf:
        _refuse("csi_nmse_db", nmse_db, "numbers below +inf (dB), or null", "null: perfect CSI.")
    if point.channel == "awgn" and nmse_db != -math.inf:
        _refuse("csi_nmse_db under AWGN", nmse_db, "null", "Only a fading channel is estimated.")
    return nmse_db


def _coherence_length(point: ChannelPoint) -> int:
    length = point.coherence_length
    if point.channel == "awgn" and length is None:
        return 1
    if isinstance(length, bool) or not isinstance(length, int) or not 1 <= length < 2**31:
        _refuse("coherence_length", length, "integers from 1 (channel uses)",
                "1 means an independent fade for every symbol.")  # fmt: skip
    assert isinstance(length, int)
    return length
