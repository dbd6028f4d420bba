"""Probabilistic feature quantisation and dequantisation, block by block (eq. 11, 12, 19, 20).

Everything lives in the normalised domain y / w: means and standard deviations too, which is why
E_s is given w. A block with index above 0 sees what came before as y_bar + mu on the places of
the earlier blocks and zero elsewhere: the transmitter from its true y_bar, either end's decoding
from what F_rx made of the symbols. Hence three slightly different sets (mu_1, sigma_1): ideal,
tx and rx.
"""

from collections.abc import Sequence
from typing import Any

from keras import ops

from pvsc_link.types import InputError

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
    y_bar, mu, sigma : each like ``y``, the blocks merged
    """
    w, mu_0, sigma_0 = parameters
    normalised = y / w
    y_bar = quantise(normalised - mu_0, quantiser, noise) * masks[0]
    mu, sigma = mu_0 * masks[0], sigma_0 * masks[0]
    for i, mask in enumerate(masks[1:], start=1):
        mu_i, sigma_i = prior(w, mu_0, sigma_0, y_bar + mu, block=i)
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
