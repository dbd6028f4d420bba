"""Single-antenna equalizers: Sionna's ``zf_equalizer`` and ``lmmse_equalizer`` in closed form.

Sionna's functions invert one matrix per symbol; for one antenna the inverse is a division.
Sionna's LMMSE output is unbiased (it divides by diag(GH)), as a demapper needs it. For a single
antenna that removes all that distinguishes it from zero forcing: both give ``y / h`` with the
noise variance ``s / |h|^2``. Both names stay, because scenarios and papers say which they mean,
and the tests hold each against Sionna's function of that name.

Symbols that are real numbers rather than points of a constellation need no unbiased estimate: for
them ``biased_lmmse`` leaves the division out, and a deep fade costs no more than the symbol.
"""

from collections.abc import Callable

import tensorflow as tf

Equalizer = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]

#: Least |h|^2 that is divided by (-60 dB): below it the symbol is dark and its estimate shrinks.
CHANNEL_POWER_FLOOR = 1e-6

#: Least noise variance (-80 dB): with none at all the LLRs would be infinite.
NOISE_FLOOR = 1e-8


def zf(
    y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Zero forcing (eq. 4): ``x_hat = h_hat* y / |h_hat|^2``.

    Symbols have unit power, so that a channel error of variance ``err_var`` adds as much noise:
    the covariance that Sionna's function would get is s = no + err_var.

    Input: ``y``, ``h_hat`` : [...], ``tf.complex64``; ``no``, ``err_var`` : [], ``tf.float32``.
    Output: ``x_hat`` : [...], ``tf.complex64``; ``no_eff`` : [...], ``tf.float32``, per symbol.
    """
    s = tf.maximum(no + err_var, NOISE_FLOOR)
    power = tf.maximum(tf.square(tf.math.real(h_hat)) + tf.square(tf.math.imag(h_hat)),
                       CHANNEL_POWER_FLOOR)  # fmt: skip
    x_hat = tf.math.conj(h_hat) * y / tf.cast(power, y.dtype)
    return x_hat, s / power


def lmmse(
    y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Unbiased LMMSE: g = h_hat* / (|h_hat|^2 + s), ``x_hat = g y / (g h_hat)``, s = no + err_var.

    The factor 1 / (|h_hat|^2 + s) cancels, and 1 / (g h_hat) - 1 is s / |h_hat|^2 without the
    loss of digits that the difference would suffer at high SNR. Input and output as in ``zf``.
    """
    return zf(y, h_hat, no, err_var)


def biased_lmmse(
    y: tf.Tensor, h_hat: tf.Tensor, no: tf.Tensor, err_var: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """LMMSE estimate of a unit-power symbol: ``h_hat* y / (|h_hat|^2 + s)``, s = no + err_var.

    Input as in ``zf``. Output: ``x_hat``, shrunk towards 0, and its mean squared error,
    s / (|h_hat|^2 + s), at most 1 where zero forcing's has no bound.
    """
    s = tf.maximum(no + err_var, NOISE_FLOOR)
    total = tf.square(tf.math.real(h_hat)) + tf.square(tf.math.imag(h_hat)) + s
    return tf.math.conj(h_hat) * y / tf.cast(total, y.dtype), s / total


#: For bits and for symbols: unbiased, as a demapper needs it.
EQUALIZERS: dict[str, Equalizer] = {"zf": zf, "lmmse": lmmse}

#: For symbols that no demapper sees.
SYMBOL_EQUALIZERS: dict[str, Equalizer] = {**EQUALIZERS, "biased_lmmse": biased_lmmse}
