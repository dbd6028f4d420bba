"""Feature encoder F_tx (eq. 15) and feature decoder F_rx (eq. 16, 22).

    y_bar * a_k --> TokenEmbedding --> SpatioTemporalVit --> linear --> FC_k --> reals (unit power)
        ^-- k (rate map) --^                 ^---- C_s,t-1

    symbols_hat --> FC_k --> TokenEmbedding --> SpatioTemporalVit --+--> linear --> y_bar_rx
         no_eff -----^              k ---^        ^---- C_s,t-1     +--> DecodedState --> C_s,t

Both ends hold the same rate map k (it is side information) and their own decoded state C_s. With
``reweight`` F_tx scales the features by a_k, a learned factor per rate and channel that starts at
1; else there is no a_k. The noise variances ``no_eff`` enter only with ``noise_input``, which is
not in the paper.
An I-frame model uses the same classes with ``temporal_coding`` off: no state goes in or comes out.
An ``InputError`` from inside a Keras call reaches the caller as Keras' own error with its text.
"""

import math
from typing import Any

import keras
from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.rate_adaptive import (
    FeaturesToReals,
    RealsToFeatures,
    dense_gradient,
    reals_mask,
    row_table,
)
from pvsc_link.models.layers.vit import SpatioTemporalVit, TokenEmbedding, VitBlock
from pvsc_link.types import InputError


class FeatureEncoder(ConfiguredLayer):
    """F_tx: quantised features and rate map to channel symbols (eq. 15).

    Parameters
    ----------
    config : LatentConfig

    Input
    -----
    y_bar : [batch, Hy, Wy, C_y], float; Hy and Wy static, any size
    rate_index : [batch, Hy, Wy], int32, index into ``config.rate_set``
    state : [batch, Hy, Wy, embed_dim], float, C_s,t-1; None without temporal coding

    Output
    ------
    symbols_padded : [batch, Hy, Wy, Kmax], float32; the first k reals of a unit, then exact
        zeros; of any power, which ``normalise_power`` brings to 1 per symbol

    Raises ``InputError`` for a missing state.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, policy = self.config, self.dtype_policy
        self.embedding = TokenEmbedding(cfg, dtype=policy, name="embedding")
        self.transformer = SpatioTemporalVit(cfg, dtype=policy, name="transformer")
        self.to_features = keras.layers.Dense(cfg.channels_y, dtype=policy, name="to_features")
        self.to_reals = FeaturesToReals(cfg, dtype=policy, name="to_reals")

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.embedding, self.transformer, self.to_reals):
            layer.build(None)
        self.to_features.build((None, self.config.embed_dim))
        self.rate_scale: Any = None
        if self.config.reweight:
            shape = (len(self.config.rate_set), self.config.channels_y)
            self.rate_scale = self.add_weight(name="rate_scale", shape=shape, initializer="ones")

    def call(self, y_bar: Any, rate_index: Any, state: Any = None) -> Any:
        _require_state(state, self.config.temporal_coding)
        if self.rate_scale is not None:
            scale = ops.take(dense_gradient(self.rate_scale), rate_index, axis=0)
            y_bar = y_bar * ops.cast(scale, y_bar.dtype)
        tokens = self.transformer(self.embedding(y_bar, rate_index), state)
        reals = self.to_reals(self.to_features(tokens), rate_index)
        # What follows is the waveform: float32 whatever the networks compute in.
        return ops.cast(reals, "float32")

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units, each FC_k at the cost of the longest."""
        total = sum(layer.macs(height, width) for layer in (self.embedding, self.transformer))
        total += height * width * math.prod(self.to_features.kernel.shape)
        return total + self.to_reals.macs(height * width)


class DecodedState(ConfiguredLayer):
    """C_s,t from C_s,t-1 and the decoded tokens (second output of eq. 16 and 22).

    A ViT block over both maps, interleaved column by column so that a window holds old and new
    tokens of the same place. The update is the mean of the two refined maps, so that older frames
    fade by half per frame.

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


#: Largest noise variance that ``NoiseInput`` tells apart (40 dB above the symbols).
MAX_NO_EFF = 1e4


class NoiseInput(ConfiguredLayer):
    """What F_rx makes of the noise variance of every symbol; not in the paper.

    Each real is weighted by ``(1 + no_eff)^-c``, with a learned c per rate and real; c = 1 is the
    Wiener filter of a symbol of unit power. To the features of a unit it adds the mean of
    ``ln(1 + no_eff)`` over the unit's reals, times a learned vector of the unit's rate. All weights
    start at 0. Then, and for symbols without noise always, F_rx computes what it computes without
    this layer.

    Parameters
    ----------
    config : LatentConfig

    Input
    -----
    reals : [batch, Hy, Wy, Kmax], float, equalised symbols
    rate_index : [batch, Hy, Wy], int32
    no_eff : [batch, Hy, Wy, Kmax], float, noise variance of the symbol that a real belongs to, from
        0; beyond the first k reals it is ignored, and above ``MAX_NO_EFF`` it counts as that

    Output
    ------
    reals : [batch, Hy, Wy, Kmax], float, weighted
    offset : [batch, Hy, Wy, C_y], float, to be added to the features of FC_k
    """

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        self.exponent = self.add_weight(
            name="exponent", shape=(sum(cfg.rate_set),), initializer="zeros"
        )
        self.offset = self.add_weight(
            name="offset", shape=(len(cfg.rate_set), cfg.channels_y), initializer="zeros"
        )

    def call(self, reals: Any, rate_index: Any, no_eff: Any) -> tuple[Any, Any]:
        rate_set = self.config.rate_set
        valid = ops.cast(reals_mask(rate_index, rate_set), reals.dtype)
        level = ops.where(valid > 0, no_eff, ops.zeros_like(no_eff))
        level = ops.cast(ops.log1p(ops.clip(level, 0.0, MAX_NO_EFF)), reals.dtype)
        exponents = ops.take(dense_gradient(self.exponent), row_table(rate_set), axis=0)
        weight = ops.exp(-level * ops.take(exponents, rate_index, axis=0))
        mean = ops.sum(level, axis=-1) / ops.maximum(ops.sum(valid, axis=-1), 1.0)
        offset = ops.take(dense_gradient(self.offset), rate_index, axis=0)
        return reals * weight, mean[..., None] * offset


class FeatureDecoder(ConfiguredLayer):
    """F_rx: equalised symbols and rate map to features, and the next decoded state (eq. 16, 22).

    Parameters
    ----------
    config : LatentConfig

    Input
    -----
    symbols_padded_hat : [batch, Hy, Wy, Kmax], float; beyond the first k reals it is ignored
    rate_index : [batch, Hy, Wy], int32, index into ``config.rate_set``
    state : [batch, Hy, Wy, embed_dim], float, C_s,t-1; None without temporal coding
    no_eff : as ``NoiseInput``; None for symbols without noise. It is used with
        ``config.noise_input`` only

    Output
    ------
    y_bar_rx : [batch, Hy, Wy, C_y], float32
    state_next : [batch, Hy, Wy, embed_dim], float32, C_s,t; None without temporal coding

    Raises ``InputError`` for a missing state.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, policy = self.config, self.dtype_policy
        self.noise_input = None
        if cfg.noise_input:
            self.noise_input = NoiseInput(cfg, dtype=policy, name="noise_input")
        self.from_reals = RealsToFeatures(cfg, dtype=policy, name="from_reals")
        self.embedding = TokenEmbedding(cfg, dtype=policy, name="embedding")
        self.transformer = SpatioTemporalVit(cfg, dtype=policy, name="transformer")
        self.to_features = keras.layers.Dense(cfg.channels_y, dtype=policy, name="to_features")
        self.decoded_state = None
        if cfg.temporal_coding:
            self.decoded_state = DecodedState(cfg, dtype=policy, name="decoded_state")

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.from_reals, self.embedding, self.transformer):
            layer.build(None)
        self.to_features.build((None, self.config.embed_dim))
        if self.decoded_state is not None:
            self.decoded_state.build(None)
        if self.noise_input is not None:
            self.noise_input.build(None)

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
        self, symbols_padded_hat: Any, rate_index: Any, state: Any = None, no_eff: Any = None
    ) -> tuple[Any, Any]:
        _require_state(state, self.config.temporal_coding)
        if self.noise_input is None or no_eff is None:
            features = self.from_reals(symbols_padded_hat, rate_index)
        else:
            reals, offset = self.noise_input(symbols_padded_hat, rate_index, no_eff)
            features = self.from_reals(reals, rate_index) + offset
        tokens = self.transformer(self.embedding(features, rate_index), state)
        y_bar_rx = ops.cast(self.to_features(tokens), "float32")
        if self.decoded_state is None:
            return y_bar_rx, None
        return y_bar_rx, self.decoded_state(state, tokens)

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units, each FC_k at the cost of the longest."""
        layers = [self.embedding, self.transformer]
        layers += [self.decoded_state] if self.decoded_state is not None else []
        total = sum(layer.macs(height, width) for layer in layers)
        total += height * width * math.prod(self.to_features.kernel.shape)
        return total + self.from_reals.macs(height * width)


def _require_state(state: Any, temporal_coding: bool) -> None:
    if temporal_coding and state is None:
        raise InputError(
            "temporal coding without a decoded state",
            found=None,
            allowed="C_s,t-1 of the previous frame",
            remedy="Start a GOP with FeatureDecoder.initial_state.",
        )
