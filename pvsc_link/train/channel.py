"""The channel inside the training graph: AWGN or Rayleigh with CSI error, equalised (eq. 1-4).

Real arithmetic in ``keras.ops`` on the padded symbols of the networks, so that it runs and has
gradients under every backend. The draws are an input, made from the random numbers of a training
step. ``link.flat_fading`` is the reference: with equal draws the outputs are equal, as a test says.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.train.config import ChannelConfig
from pvsc_link.types import db_to_linear, noise_variance

#: Smallest |h_hat|^2 that is divided by, as in ``link.equalizers``.
CHANNEL_POWER_FLOOR = 1e-6


def draw(
    config: ChannelConfig, shape: tuple[int, ...], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """One realisation for every complex symbol, and one channel condition per clip.

    Parameters: ``shape`` : [batch, num_frames, Hy, Wy, L], L = ceil(Kmax / 2) complex symbols.
    Output: ``noise`` and, under Rayleigh fading, ``fading``, ``csi_error`` : [..., L, 2], float32,
    CN(0, 1) as real and imaginary parts; ``noise_power`` and ``csi_nmse``; ``shrink``, the factor
    of h_hat (``link.equalizers.receiver_knowledge``), 1 where the receiver is not aware of its
    error; and for ``biased_lmmse`` ``loading``, which is added to |h_hat|^2 in the divisor :
    [batch, num_frames], float32, linear.
    """

    def complex_normal() -> np.ndarray:
        return rng.standard_normal((*shape, 2), np.float32) * np.float32(np.sqrt(0.5))

    snr_db = rng.choice(np.array(config.snr_db), shape[0])
    nmse = [0.0 if n is None else db_to_linear(n) for n in config.csi_nmse_db]
    per_clip = {"noise_power": noise_variance(snr_db), "csi_nmse": rng.choice(nmse, shape[0])}
    known = per_clip["csi_nmse"] if config.csi_aware else np.zeros(shape[0])
    per_clip["shrink"] = 1.0 / (1.0 + known)
    if config.equalizer == "biased_lmmse":
        per_clip["loading"] = per_clip["noise_power"] + per_clip["shrink"] * known
    draws = {k: np.repeat(v[:, None], shape[1], 1).astype(np.float32) for k, v in per_clip.items()}
    draws["noise"] = complex_normal()
    if config.channel == "rayleigh":
        draws["fading"], draws["csi_error"] = complex_normal(), complex_normal()
    return draws


def transmit(symbols_padded: Any, draws: dict[str, Any]) -> Any:
    """Channel and equaliser on padded reals.

    Input: ``symbols_padded`` : [batch, Hy, Wy, Kmax], float32, pairs of reals being one complex
    symbol of unit mean power; ``draws`` : one frame of ``draw``: [batch, Hy, Wy, L, 2] and [batch].
    Output: equalised symbols, like ``symbols_padded``. Places beyond the k reals of a unit hold
    noise; the feature decoder masks them.
    """
    num_reals = symbols_padded.shape[-1]
    x = _pairs(symbols_padded)
    noise = ops.sqrt(_per_clip(draws["noise_power"])) * draws["noise"]
    loading = _per_clip(draws["loading"]) if "loading" in draws else 0.0
    if "fading" not in draws:
        return _reals((x + noise) / (1.0 + loading), num_reals)
    h = draws["fading"]
    h_hat = h + ops.sqrt(_per_clip(draws["csi_nmse"])) * draws["csi_error"]
    h_hat = _per_clip(draws["shrink"]) * h_hat
    y = _product(h, x) + noise
    power = ops.maximum(ops.sum(ops.square(h_hat), axis=-1, keepdims=True), CHANNEL_POWER_FLOOR)
    return _reals(_product(_conjugate(h_hat), y) / (power + loading), num_reals)


def _per_clip(values: Any) -> Any:
    return values[:, None, None, None, None]


def _pairs(reals: Any) -> Any:
    if reals.shape[-1] % 2:
        reals = ops.pad(reals, ((0, 0), (0, 0), (0, 0), (0, 1)))
    return ops.reshape(reals, (*ops.shape(reals)[:-1], -1, 2))


def _reals(pairs: Any, num_reals: int) -> Any:
    return ops.reshape(pairs, (*ops.shape(pairs)[:-2], -1))[..., :num_reals]


def _product(a: Any, b: Any) -> Any:
    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    imaginary = a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return ops.stack([real, imaginary], axis=-1)


def _conjugate(a: Any) -> Any:
    return ops.stack([a[..., 0], -a[..., 1]], axis=-1)
