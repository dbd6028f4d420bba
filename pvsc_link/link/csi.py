"""Imperfect channel state information: ``h_hat = h + e`` (eq. 3) and its use."""

import tensorflow as tf


def estimate(h: tf.Tensor, e: tf.Tensor, csi_nmse: tf.Tensor) -> tf.Tensor:
    """Channel estimate ``h_hat = h + sqrt(csi_nmse) e`` (eq. 3).

    The channels of this package have E|h|^2 = 1, so that the error variance is the NMSE itself.

    Input: ``h``, ``e`` : [...], ``tf.complex64``, e ~ CN(0, 1); ``csi_nmse`` : [], ``tf.float32``,
    linear. Output: ``h_hat`` : [...], ``tf.complex64``.
    """
    return h + tf.cast(tf.sqrt(csi_nmse), h.dtype) * e


def receiver_knowledge(
    h_hat: tf.Tensor, csi_nmse: tf.Tensor, *, csi_aware: bool
) -> tuple[tf.Tensor, tf.Tensor]:
    """Channel estimate and error variance that the equalizer works with.

    Unaware: the receiver takes ``h_hat`` for the truth, error variance 0. Aware: it knows the NMSE
    and the prior h ~ CN(0, 1), under which h given ``h_hat`` is CN(a h_hat, a csi_nmse) with
    a = 1 / (1 + csi_nmse): the mean is a shrunk estimate, and the residual error is a little
    smaller than the NMSE. Exact for Rayleigh fading, and for perfect CSI on any channel.

    Input: ``h_hat`` : [...], ``tf.complex64``; ``csi_nmse`` : [], ``tf.float32``, linear.
    Output: estimate : [...], ``tf.complex64``; ``err_var`` : [], ``tf.float32``.
    """
    if not csi_aware:
        return h_hat, tf.zeros_like(csi_nmse)
    shrink = 1.0 / (1.0 + csi_nmse)
    return tf.cast(shrink, h_hat.dtype) * h_hat, shrink * csi_nmse
