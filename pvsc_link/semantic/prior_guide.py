"""What the hyperprior says of y_bar, for F_tx and F_rx: ``hyperprior_coding``.

Beyond the paper, where w and sigma serve the entropy model alone. z_hat arrives error-free, so both
ends know before the first symbol how large every element is: w y_bar, its share of y, has standard
deviation v = w sigma_0. Without that F_rx has to find out from k noisy reals which of 128 elements
are there at all.

    F_tx   w y_bar * gate + v * (what the ViT adds)          --> FC_k, from the start k elements
    F_rx   FC_k^T reals * v^2 / (v^2 + n) = x, the linear MMSE estimate behind noise of power n
           (x * gate + v * (what the ViT adds)) / w          --> y_bar_rx

The ViTs see elements in units of v, and v and w beside them. n is found blindly: the power that
arrived less the one that v promises. Between the ends of a P frame sigma_0 differs by what the
channel did to earlier frames, which moves the estimate as little as it moves sigma_0.
"""

from typing import Any, NamedTuple

import keras
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.symbol_mapping import reals_mask

_LEAST_NOISE = 1e-2  # relative to the mean power of what was sent
_TINY = 1e-6


class Prior(NamedTuple):
    """What both ends know of the elements of y_bar, each [batch, Hy, Wy, channels_y], float32."""

    w: Any
    spread: Any  # v, standard deviation of w y_bar


class Reception(NamedTuple):
    """How a frame arrived, each [batch, 1, 1, 1], float32."""

    expected: Any  # mean power of a real that v promises
    strength: Any  # log of the mean power that arrived over ``expected``


def prior_of(parameters: tuple[Any, Any, Any]) -> Prior:
    """Prior out of ``parameters`` : (w, mu_0, sigma_0) of eq. 10; no gradient goes back to them."""
    w, sigma = (ops.stop_gradient(ops.cast(parameters[i], "float32")) for i in (0, 2))
    return Prior(w, w * sigma)


def reception_of(
    symbols: Any, rate_index: Any, prior: Prior, rate_set: tuple[int, ...]
) -> Reception:
    """How a frame arrived, going by its k largest elements per unit.

    Input: ``symbols`` : [batch, Hy, Wy, Kmax], float32, the gain undone; what stands beyond the
    first k of a unit does not matter. ``rate_index`` : [batch, Hy, Wy], int32.
    """
    sent = reals_mask(rate_index, rate_set)
    count = ops.maximum(ops.sum(sent, axis=(1, 2, 3), keepdims=True), 1.0)
    promised = -ops.sort(-ops.square(prior.spread), axis=-1)[..., : sent.shape[-1]]

    def mean_power(power: Any) -> Any:
        total = ops.sum(ops.where(sent > 0, power, 0.0), axis=(1, 2, 3), keepdims=True)
        return ops.maximum(total / count, _TINY)

    expected, found = mean_power(promised), mean_power(ops.square(symbols))
    return Reception(expected, ops.log(found) - ops.log(expected))


class PriorGuide(ConfiguredLayer):
    """The prior for the tokens of one end, and the gate of its direct path.

    Parameters: ``config`` : PvscConfig.
    Input: ``w``, ``spread`` : of ``Prior``; ``strength`` : of ``Reception``, 0 at the transmitter.
    Output: [batch, Hy, Wy, embed_dim], to be added to the tokens; zero before training.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, own = self.config, {"kernel_initializer": "zeros", "dtype": self.dtype_policy}
        self.projection = keras.layers.Dense(cfg.embed_dim, name="projection", **own)
        self.gate = keras.layers.Dense(cfg.channels_y, name="gate", **own)

    def build(self, input_shape: Any = None) -> None:
        facts = 2 * self.config.channels_y + 1
        self.projection.build((None, facts))
        self.gate.build((None, facts + self.config.embed_dim))

    def call(self, w: Any, spread: Any, strength: Any = 0.0) -> Any:
        return self.projection(_facts(w, spread, strength))

    def opened(self, tokens: Any, w: Any, spread: Any, strength: Any = 0.0) -> Any:
        """Factors of the direct path, in (0, 2), 1 before training: like ``w``, float32."""
        facts = ops.cast(_facts(w, spread, strength), tokens.dtype)
        gate = self.gate(ops.concatenate([facts, tokens], axis=-1))
        return 2.0 * ops.sigmoid(ops.cast(gate, "float32"))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units."""
        kernels = self.projection.kernel, self.gate.kernel
        return height * width * sum(int(k.shape[0]) * int(k.shape[1]) for k in kernels)


class PriorEstimator(ConfiguredLayer):
    """Linear MMSE estimate of w y_bar out of FC_k^T of the reals.

    ``present``, learned: the share of the promised power that really is sent.

    Parameters: ``config`` : PvscConfig.
    Input: ``features`` : [batch, Hy, Wy, channels_y], float; ``spread`` : of ``Prior``;
    ``expected``, ``strength`` : of ``Reception``. Output: like ``features``, float32.
    """

    def build(self, input_shape: Any = None) -> None:
        self.present = self.add_weight(name="present", shape=(), initializer="ones")

    def call(self, features: Any, spread: Any, expected: Any, strength: Any) -> Any:
        inputs = (features, spread, expected, strength)
        features, spread, expected, strength = (ops.cast(x, "float32") for x in inputs)
        excess = ops.maximum(ops.exp(strength) - self.present, _LEAST_NOISE)
        power = ops.square(spread)
        return features * power / (power + expected * excess)


def _facts(w: Any, spread: Any, strength: Any) -> Any:
    level = ops.broadcast_to(strength, (*ops.shape(w)[:-1], 1))
    return ops.concatenate([ops.log(spread), ops.log(w), level], axis=-1)
