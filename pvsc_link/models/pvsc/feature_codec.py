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

Feature encoder F_tx (eq. 15) and feature decoder F_rx (eq. 16, 22).

    y_bar --> TokenEmbedding --> SpatioTemporalVit --> linear --> FC_k --> reals (then unit power)
                  k (rate map) ----^        ^---- C_s,t-1

    symbols_hat --> FC_k --> TokenEmbedding --> SpatioTemporalVit --+--> linear --> y_bar_rx
                                    k ---^        ^---- C_s,t-1     +--> DecodedState --> C_s,t

Both ends hold the same rate map k (it is side information) and their own decoded state C_s.
An intra model uses the same classes with ``temporal_coding`` off: no state goes in or comes out.
With ``hyperprior_coding`` both have a direct path around the ViT (``prior_guide``).
An ``InputError`` from inside a Keras call reaches the caller as Keras' own error with its text.
"""

import math
from typing import Any, NamedTuple

import keras
from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.rate_adaptive import FeaturesToReals, RealsToFeatures, reals_mask
from pvsc_link.models.layers.vit import SpatioTemporalVit, TokenEmbedding, VitBlock
from pvsc_link.types import InputError

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


class FeatureEncoder(ConfiguredLayer):
    """F_tx: quantised features and rate map to channel symbols (eq. 15).

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    y_bar : [batch, Hy, Wy, C_y], float; Hy and Wy static, any size
    rate_index : [batch, Hy, Wy], int32, index into ``config.rate_set``
    state : [batch, Hy, Wy, embed_dim], float, C_s,t-1; None without temporal coding

    prior : Prior, needed for ``hyperprior_coding``

    Output
    ------
    symbols_padded : [batch, Hy, Wy, Kmax], float32; the first k reals of a unit, then exact
        zeros; of any power: ``symbol_mapping.normalise_power`` makes them fit for the air

    Raises ``InputError`` for a missing state or prior.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, policy = self.config, self.dtype_policy
        self.embedding = TokenEmbedding(cfg, dtype=policy, name="embedding")
        self.transformer = SpatioTemporalVit(cfg, dtype=policy, name="transformer")
        self.to_features = _head(cfg, policy)
        self.guide: Any = None
        if cfg.hyperprior_coding:
            self.guide = PriorGuide(cfg, dtype=policy, name="guide")
        self.to_reals = FeaturesToReals(cfg, dtype=policy, name="to_reals")

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.embedding, self.transformer, self.to_reals, self.guide):
            if layer is not None:
                layer.build(None)
        self.to_features.build((None, self.config.embed_dim))

    def call(
        self, y_bar: Any, rate_index: Any, state: Any = None, prior: Prior | None = None
    ) -> Any:
        _require_state(state, self.config.temporal_coding)
        if self.guide is None:
            tokens = self.transformer(self.embedding(y_bar, rate_index), state)
            features = self.to_features(tokens)
        else:
            features = self._guided(y_bar, rate_index, state, _required(prior))
        reals = self.to_reals(features, rate_index)
        # What follows is the waveform: float32 whatever the networks compute in.
        return ops.cast(reals, "float32")

    def _guided(self, y_bar: Any, rate_index: Any, state: Any, prior: Prior) -> Any:
        direct = prior.w * ops.cast(y_bar, "float32")
        tokens = self.embedding(direct / prior.spread, rate_index) + self.guide(*prior)
        tokens = self.transformer(tokens, state)
        added = prior.spread * ops.cast(self.to_features(tokens), "float32")
        return direct * self.guide.opened(tokens, *prior) + added

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units, each FC_k at the cost of the longest."""
        layers = [self.embedding, self.transformer]
        layers += [self.guide] if self.guide is not None else []
        total = sum(layer.macs(height, width) for layer in layers)
        total += height * width * math.prod(self.to_features.kernel.shape)
        return total + self.to_reals.macs(height * width)


class DecodedState(ConfiguredLayer):
    """C_s,t from C_s,t-1 and the decoded tokens (second output of eq. 16 and 22).

    A ViT block over both maps, interleaved column by column so that a window holds old and new
    tokens of the same place. The update is the mean of the two refined maps: what older frames
    left fades by half per frame instead of vanishing.

    Parameters: ``config`` : PvscConfig.
    Input: ``state``, ``tokens`` : [batch, Hy, Wy, embed_dim], float.
    Output: [batch, Hy, Wy, embed_dim], float32.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.block = VitBlock(self.config, dtype=self.dtype_policy, name="block")

    def build(self, input_shape: Any = None) -> None:
        self.block.build(None)
        self.initial = self.add_weight(
            name="initial",
            shape=(self.config.embed_dim,),
            initializer=keras.initializers.TruncatedNormal(stddev=0.02),
        )

    def call(self, state: Any, tokens: Any) -> Any:
        height, width, depth = tokens.shape[1:]
        pairs = ops.stack([ops.cast(state, tokens.dtype), tokens], axis=3)
        mixed = self.block(ops.reshape(pairs, (-1, height, 2 * width, depth)))
        pairs = ops.reshape(mixed, (-1, height, width, 2, depth))
        return ops.cast(ops.mean(pairs, axis=3), "float32")

    def initial_state(self, batch: Any, height: int, width: int) -> Any:
        """The learned constant C_s before the first P frame: [batch, Hy, Wy, embed_dim]."""
        constant = ops.cast(ops.convert_to_tensor(self.initial), "float32")
        return ops.broadcast_to(constant, (batch, height, width, self.config.embed_dim))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units: one ViT block over twice the tokens."""
        return self.block.macs(height, 2 * width)


class FeatureDecoder(ConfiguredLayer):
    """F_rx: equalised symbols and rate map to features, and the next decoded state (eq. 16, 22).

    Parameters
    ----------
    config : PvscConfig

    Input
    -----
    symbols_padded_hat : [batch, Hy, Wy, Kmax], float; beyond the first k reals it is ignored
    rate_index : [batch, Hy, Wy], int32, index into ``config.rate_set``
    state : [batch, Hy, Wy, embed_dim], float, C_s,t-1; None without temporal coding

    prior : Prior, needed for ``hyperprior_coding``

    Output
    ------
    y_bar_rx : [batch, Hy, Wy, C_y], float32
    state_next : [batch, Hy, Wy, embed_dim], float32, C_s,t; None without temporal coding

    Raises ``InputError`` for a missing state or prior.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, policy = self.config, self.dtype_policy
        self.from_reals = RealsToFeatures(cfg, dtype=policy, name="from_reals")
        self.embedding = TokenEmbedding(cfg, dtype=policy, name="embedding")
        self.transformer = SpatioTemporalVit(cfg, dtype=policy, name="transformer")
        self.to_features = _head(cfg, policy)
        self.guide: Any = None
        if cfg.hyperprior_coding:
            self.guide = PriorGuide(cfg, dtype=policy, name="guide")
            self.estimator = PriorEstimator(cfg, dtype="float32", name="estimator")
        self.decoded_state = None
        if cfg.temporal_coding:
            self.decoded_state = DecodedState(cfg, dtype=policy, name="decoded_state")

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.from_reals, self.embedding, self.transformer):
            layer.build(None)
        self.to_features.build((None, self.config.embed_dim))
        if self.decoded_state is not None:
            self.decoded_state.build(None)
        if self.guide is not None:
            self.guide.build(None)
            self.estimator.build(None)

    def initial_state(self, batch: Any, height: int, width: int) -> Any:
        """C_s before the first P frame of a GOP, for both ends: a learned constant.

        Parameters: ``batch`` : frames side by side; ``height``, ``width`` : Hy, Wy in units.
        Output: [batch, Hy, Wy, embed_dim], float32; None without temporal coding.
        """
        if self.decoded_state is None:
            return None
        if not self.built:
            self.build(None)
        return self.decoded_state.initial_state(batch, height, width)

    def call(
        self,
        symbols_padded_hat: Any,
        rate_index: Any,
        state: Any = None,
        prior: Prior | None = None,
    ) -> Any:
        _require_state(state, self.config.temporal_coding)
        features = self.from_reals(symbols_padded_hat, rate_index)
        if self.guide is None:
            tokens = self.transformer(self.embedding(features, rate_index), state)
            y_bar_rx = ops.cast(self.to_features(tokens), "float32")
        else:
            prior = _required(prior)
            reception = reception_of(symbols_padded_hat, rate_index, prior, self.config.rate_set)
            direct = self.estimator(features, prior.spread, *reception)
            tokens = self.embedding(direct / prior.spread, rate_index)
            tokens = tokens + self.guide(*prior, reception.strength)
            tokens = self.transformer(tokens, state)
            added = prior.spread * ops.cast(self.to_features(tokens), "float32")
            gate = self.guide.opened(tokens, *prior, reception.strength)
            y_bar_rx = (direct * gate + added) / prior.w
        if self.decoded_state is None:
            return y_bar_rx, None
        return y_bar_rx, self.decoded_state(state, tokens)

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units, each FC_k at the cost of the longest."""
        layers = [self.embedding, self.transformer]
        layers += [layer for layer in (self.decoded_state, self.guide) if layer is not None]
        total = sum(layer.macs(height, width) for layer in layers)
        total += height * width * math.prod(self.to_features.kernel.shape)
        return total + self.from_reals.macs(height * width)


def _head(config: Any, policy: Any) -> Any:
    """Tokens to features; beside a direct path it starts as nothing to add."""
    kernel = "zeros" if config.hyperprior_coding else "glorot_uniform"
    return keras.layers.Dense(
        config.channels_y, kernel_initializer=kernel, dtype=policy, name="to_features"
    )


def _required(prior: Prior | None) -> Prior:
    if prior is None:
        raise InputError(
            "hyperprior_coding without a prior",
            found=None,
            allowed="w and sigma_0 of the frame",
            remedy="Pass prior_of(parameters).",
        )
    return prior


def _require_state(state: Any, temporal_coding: bool) -> None:
    if temporal_coding and state is None:
        raise InputError(
            "temporal coding without a decoded state",
            found=None,
            allowed="C_s,t-1 of the previous frame",
            remedy="Start a GOP with FeatureDecoder.initial_state.",
        )
