"""Rate rule: from the entropy of a spatial unit to the number of reals it may send (eq. 13, 14)."""

from typing import Any

import numpy as np
from keras import ops

_LOG_2 = float(np.log(2.0))
# Coefficients of the rational-exponential fit of erfc, relative error below 1.2e-7 on the whole
# half line (Numerical Recipes, "erfcc"). erf itself loses the tail in float32, and differently
# on every backend.
_ERFC = (
    -1.26551223,
    1.00002368,
    0.37409196,
    0.09678418,
    -0.18628806,
    0.27886807,
    -1.13520398,
    1.48851587,
    -0.82215223,
    0.17087277,
)


def log_normal_cdf(x: Any) -> Any:
    """log Phi(x) in float32 without underflow, for any x. Shape kept."""
    z = ops.abs(x) * float(np.sqrt(0.5))
    t = 1.0 / (1.0 + 0.5 * z)
    fit = ops.zeros_like(t)
    for coefficient in reversed(_ERFC):
        fit = fit * t + coefficient
    log_tail = ops.log(0.5 * t) - z * z + fit
    # At x > 0 the tail is on the other side. Its log is at most log(1/2), so log1p is safe.
    return ops.where(x > 0, ops.log1p(-ops.exp(ops.minimum(log_tail, -_LOG_2))), log_tail)


def symbol_bits(y_bar: Any, sigma: Any) -> Any:
    """-log2 P(y_bar) under N(0, sigma^2) * U(-1/2, 1/2) (eq. 13), per element.

    By symmetry the interval is moved to the lower tail, where the two distribution functions
    differ without cancellation.

    Input: ``y_bar``, ``sigma`` : any one shape, float, sigma > 0. Output: same shape, float32.
    """
    distance = ops.abs(ops.cast(y_bar, "float32"))
    sigma = ops.cast(sigma, "float32")
    high = log_normal_cdf((0.5 - distance) / sigma)
    low = log_normal_cdf((-0.5 - distance) / sigma)
    gap = ops.minimum(low - high, -1e-6)
    return -(high + ops.log(-ops.expm1(gap))) / _LOG_2


def unit_bits(y_bar: Any, sigma: Any) -> Any:
    """Entropy of each spatial unit: the sum over channels in eq. 14, in bits.

    Input: ``y_bar``, ``sigma`` : [batch, Hy, Wy, channels_y]. Output: [batch, Hy, Wy], float32.
    """
    return ops.sum(symbol_bits(y_bar, sigma), axis=-1)


def allocate(num_bits: Any, rate_set: tuple[int, ...], eta: Any) -> tuple[Any, Any]:
    """Rate of each unit: the value of the rate set nearest to eta * bits (eq. 14), ties upwards.

    The gradient of k passes straight through to the unquantised eta * bits. Above the largest
    rate the nearest value is the largest rate.

    Parameters: ``eta`` : reals per bit, a number or [batch, 1, 1].
    Input: ``num_bits`` : [batch, Hy, Wy], float32. Output: ``rate_index`` : [batch, Hy, Wy],
    int32, into ``rate_set``; ``rate_reals`` : same shape, float32, k in reals.
    """
    wanted = eta * num_bits
    middles = (np.asarray(rate_set[1:]) + np.asarray(rate_set[:-1])).astype(np.float32) / 2
    rate_index = ops.sum(ops.cast(wanted[..., None] >= middles, "int32"), axis=-1)
    chosen = ops.take(np.asarray(rate_set, np.float32), rate_index, axis=0)
    return rate_index, wanted + ops.stop_gradient(chosen - wanted)
