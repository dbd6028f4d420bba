"""Single-antenna equalisers, and what the receiver knows of its channel estimate (eq. 3 and 4).

For one antenna Sionna's ``zf_equalizer`` and ``lmmse_equalizer``, which invert a matrix per symbol,
become a division. Sionna's LMMSE output is unbiased, as a demapper needs it; with one antenna that
makes it equal to zero forcing: both give ``y / h`` with the noise variance ``s / |h|^2``. Both
names are kept, because scenarios and papers say which one they mean; the tests compare each with
Sionna's function of that name.

Symbols that are real numbers instead of points of a constellation need no unbiased estimate. For
them ``biased_lmmse`` has a lower mean squared error, above all in deep fades.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pvsc_link.link.registry import CHANNEL_POWER_FLOOR, NOISE_FLOOR

#: (y, h_hat, no, err_var) -> (x_hat, no_eff).
Equalizer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


def as_complex(real: tf.Tensor) -> tf.Tensor:
    """``tf.float32`` as ``tf.complex64``.

    The gradient of a cast would make TensorFlow warn of a lost imaginary part at every trace.
    """
    return tf.complex(real, tf.zeros_like(real))


def receiver_knowledge(
    h_hat: tf.Tensor,
    csi_nmse: tf.Tensor,
    *,
    csi_aware: bool,
    mean: Any = 0.0,
    variance: Any = 1.0,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Channel estimate and error variance that the equaliser works with.

    A receiver that is not aware takes ``h_hat`` for the truth, with error variance 0. One that is
    aware knows the NMSE and the law of the fading. For h ~ CN(mean, variance) and
    h_hat = h + sqrt(csi_nmse) e, e ~ CN(0, 1), h given ``h_hat`` is distributed as
    CN(mean + a (h_hat - mean), a csi_nmse) with a = variance / (variance + csi_nmse). This is exact
    for Rayleigh (mean 0, variance 1) and Rician fading, and for perfect channel knowledge under any
    law; for any other law of this mean and variance it is the best linear estimate.

    Input: ``h_hat`` : [...], ``tf.complex64``; ``csi_nmse`` : [], ``tf.float32``, linear;
    ``mean``, ``variance`` : of the fading, float or [], ``tf.float32``.
    Output: estimate : [...], ``tf.complex64``; ``err_var`` : [], ``tf.float32``.
    """
    if not csi_aware:
        return h_hat, tf.zeros_like(csi_nmse)
    shrink = tf.math.divide_no_nan(variance, variance + csi_nmse)
    mean = tf.cast(mean, h_hat.dtype)
    return mean + as_complex(shrink) * (h_hat - mean), shrink * csi_nmse


def zf(
    y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Zero forcing (eq. 4): ``x_hat = h_hat* y / |h_hat|^2``.

    Symbols have unit power, so a channel error of variance ``err_var`` acts as that much noise:
    the total is s = no + err_var.

    Input: ``y``, ``h_hat`` : [...], ``tf.complex64``; ``no``, ``err_var`` : ``tf.float32``, [] or
    broadcasting with ``y``.
    Output: ``x_hat`` : [...], ``tf.complex64``; ``no_eff`` : [...], ``tf.float32``, per symbol.
    """
    s = tf.maximum(no + err_var, NOISE_FLOOR)
    power = tf.maximum(tf.square(tf.math.real(h_hat)) + tf.square(tf.math.imag(h_hat)),
                       CHANNEL_POWER_FLOOR)  # fmt: skip
    x_hat = tf.math.conj(h_hat) * y / as_complex(power)
    return x_hat, s / power


def lmmse(
    y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Unbiased LMMSE: g = h_hat* / (|h_hat|^2 + s), ``x_hat = g y / (g h_hat)``, s = no + err_var.

    The factor 1 / (|h_hat|^2 + s) cancels, so this is ``zf``. Input and output as there.
    """
    return zf(y, h_hat, no, err_var)


def biased_lmmse(
    y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """LMMSE estimate of a unit-power symbol: ``h_hat* y / (|h_hat|^2 + s)``, s = no + err_var.

    Input as in ``zf``. Output: ``x_hat``, shrunk towards 0, and its mean squared error
    s / (|h_hat|^2 + s), which is never above 1, while that of zero forcing has no bound.
    """
    s = tf.maximum(no + err_var, NOISE_FLOOR)
    total = tf.square(tf.math.real(h_hat)) + tf.square(tf.math.imag(h_hat)) + s
    return tf.math.conj(h_hat) * y / as_complex(total), s / total
