"""Quantisation of the latent block by block, and the rate of each spatial unit (eq. 11 to 14).

Everything is in the normalised domain y / w, means and standard deviations too, which is why E_s
is given w. A block with index above 0 is given y_bar + mu on the places of the earlier blocks and
zero elsewhere: the transmitter from its true y_bar, either end's decoding from the output of F_rx.
Hence three slightly different sets (mu_1, sigma_1): ideal, tx and rx.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.types import InputError

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


#: inference; additive uniform noise [40]; straight-through estimator [45]
QUANTISERS = ("round", "noise", "ste")


def quantise(values: Any, quantiser: str, noise: Any = None) -> Any:
    """Q of eq. 8 and 12 in one of its three forms; shape kept.

    Parameters: ``quantiser`` : ``round``; ``noise``, values + noise; ``ste``, rounded values with
    the gradient of the identity.
    Input: ``noise`` : like ``values``, uniform in [-0.5, 0.5), for ``noise`` only. Randomness is
    an input so that a step is the same under every backend.
    Raises ``InputError`` for an unknown quantiser or missing noise.
    """
    if quantiser == "round":
        return ops.round(values)
    if quantiser == "ste":
        return values + ops.stop_gradient(ops.round(values) - values)
    if quantiser == "noise" and noise is not None:
        return values + ops.cast(noise, values.dtype)
    raise InputError(
        "quantiser unknown, or without the noise it needs",
        found=quantiser,
        allowed=QUANTISERS,
        remedy="Pass noise={'y': ..., 'z': ...}, uniform in [-0.5, 0.5), with 'noise'.",
    )


def quantise_blocks(
    y: Any,
    parameters: tuple[Any, Any, Any],
    prior: Any,
    masks: Sequence[Any],
    quantiser: str = "round",
    noise: Any = None,
) -> tuple[Any, Any, Any]:
    """y_bar = Q(y / w - mu) over all blocks, each with its own parameters (eq. 11 and 12).

    Parameters
    ----------
    prior : E_s, ``(w, mu_0, sigma_0, y_before, block=i) -> (mu_i, sigma_i)``
    masks : one [1, Hy, Wy, 1] array of 0 and 1 per block; together they tile the grid
    quantiser : see ``quantise``

    Input
    -----
    y, noise : [batch, Hy, Wy, channels_y], float
    parameters : (w, mu_0, sigma_0), each like ``y``

    Output
    ------
    y_bar, mu, sigma : each shaped like ``y``, float32, the blocks merged
    """
    # The entropy model is float32, whatever the networks around it compute in.
    y, w, mu_0, sigma_0 = (ops.cast(tensor, "float32") for tensor in (y, *parameters))
    normalised = y / w
    y_bar = quantise(normalised - mu_0, quantiser, noise) * masks[0]
    mu, sigma = mu_0 * masks[0], sigma_0 * masks[0]
    for i, mask in enumerate(masks[1:], start=1):
        refined = prior(w, mu_0, sigma_0, y_bar + mu, block=i)
        mu_i, sigma_i = (ops.cast(tensor, "float32") for tensor in refined)
        y_bar = y_bar + quantise(normalised - mu_i, quantiser, noise) * mask
        mu, sigma = mu + mu_i * mask, sigma + sigma_i * mask
    return y_bar, mu, sigma


def dequantise_blocks(
    y_bar: Any, parameters: tuple[Any, Any, Any], prior: Any, masks: Sequence[Any]
) -> Any:
    """y_tilde = w * (y_bar + mu), mu refined block by block (eq. 19, 20; eq. 23, 24).

    The sums over i in eq. 24 and 26 are sums of the sparse, masked maps mu_i.
    Input and output as in ``quantise_blocks``; output: y_tilde, like ``y_bar``.
    """
    w, mu_0, sigma_0 = parameters
    y_bar = ops.cast(y_bar, mu_0.dtype)  # F_rx ends in float32, whatever the model computes in
    known = (y_bar + mu_0) * masks[0]
    for i, mask in enumerate(masks[1:], start=1):
        mu_i, _ = prior(w, mu_0, sigma_0, known, block=i)
        known = known + (y_bar + mu_i) * mask
    return w * known
