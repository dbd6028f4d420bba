"""The ViT stack that F_tx and F_rx share: spatial, temporal and cross-block context (Fig. 4(a)).

With spatial coding the two checkerboard blocks are packed to dense maps of half the width and
go through the same blocks apart from each other; the spatial contextual ViT is then the one
place where block 1 looks at block 0, and block 0 never looks at block 1. Without spatial coding
all units go together as one map.
"""

from typing import Any

import keras
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.rate_fc import dense_gradient
from pvsc_link.semantic.token_grid import TokenGrid, pack_parities, unpack_parities
from pvsc_link.semantic.vit import ContextualVitBlock, VitBlock


class TokenEmbedding(ConfiguredLayer):
    """Features of a unit to a token: linear map + position + rate embedding (section III-A).

    Positions repeat after one window of rows and two of columns, so any frame size is covered.
    That is as far as attention sees at once: a window of a packed checkerboard block spans
    twice its width in units.

    Parameters: ``config`` : PvscConfig.
    Input: ``features`` : [batch, Hy, Wy, C_y], float; ``rate_index`` : [batch, Hy, Wy], int32.
    Output: [batch, Hy, Wy, embed_dim], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.projection = keras.layers.Dense(
            self.config.embed_dim, dtype=self.dtype_policy, name="projection"
        )

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        self.projection.build((None, cfg.channels_y))
        small = keras.initializers.TruncatedNormal(stddev=0.02)
        self.position = self.add_weight(
            name="position",
            shape=(cfg.window_size, 2 * cfg.window_size, cfg.embed_dim),
            initializer=small,
        )
        self.rate_embedding = self.add_weight(
            name="rate_embedding", shape=(len(cfg.rate_set), cfg.embed_dim), initializer=small
        )

    def call(self, features: Any, rate_index: Any) -> Any:
        height, width = features.shape[1:3]
        window = self.config.window_size
        repeats = (-(-height // window), -(-width // (2 * window)), 1)
        position = ops.tile(dense_gradient(self.position), repeats)[:height, :width]
        rate = ops.take(dense_gradient(self.rate_embedding), rate_index, axis=0)
        return self.projection(features) + position + rate

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units."""
        inputs, outputs = self.projection.kernel.shape
        return height * width * inputs * outputs


class SpatioTemporalVit(ConfiguredLayer):
    """ViT blocks, then temporal and spatial contextual ViT, as F_tx and F_rx both use them.

    Parameters
    ----------
    config : PvscConfig; ``temporal_coding`` and ``spatial_coding`` say which contexts exist

    Input
    -----
    tokens : [batch, Hy, Wy, embed_dim], float; Hy and Wy static, any size
    state : like ``tokens``, the previous decoded state C_s,t-1; None without temporal coding

    Output
    ------
    [batch, Hy, Wy, embed_dim], float; not normalised: a token's size is information that is sent
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        cfg, policy = self.config, self.dtype_policy
        self.blocks = [
            VitBlock(cfg, shifted=index % 2 == 1, dtype=policy, name=f"vit_{index}")
            for index in range(cfg.num_vit)
        ]
        self.temporal = self.spatial = None
        if cfg.temporal_coding:
            self.temporal = ContextualVitBlock(cfg, dtype=policy, name="temporal")
        if cfg.spatial_coding:
            self.spatial = ContextualVitBlock(cfg, dtype=policy, name="spatial")

    def build(self, input_shape: Any = None) -> None:
        contextual = [layer for layer in (self.temporal, self.spatial) if layer is not None]
        for layer in (*self.blocks, *contextual):
            layer.build((None, None, None, self.config.embed_dim))

    def call(self, tokens: Any, state: Any = None) -> Any:
        if self.spatial is None:
            return self._within_blocks(tokens, state, None)
        height, width = tokens.shape[1:3]
        packed = pack_parities(tokens)
        if self.temporal is not None:
            state = pack_parities(state)
        packed = self._within_blocks(packed, state, TokenGrid(height, width))
        block_0, block_1 = ops.split(packed, 2, axis=0)
        first, second = TokenGrid(height, width, (0,)), TokenGrid(height, width, (1,))
        block_1 = self.spatial(block_1, block_0, grid=second, context_grid=first)
        return unpack_parities(block_0, block_1, width)

    def _within_blocks(self, tokens: Any, state: Any, grid: TokenGrid | None) -> Any:
        for block in self.blocks:
            tokens = block(tokens, grid=grid)
        if self.temporal is not None:
            tokens = self.temporal(tokens, state, grid=grid, context_grid=grid)
        return tokens

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for Hy x Wy units; packed maps are ceil(Wy/2) wide."""
        maps, columns = (2, (width + 1) // 2) if self.spatial is not None else (1, width)
        every = [*self.blocks, *([self.temporal] if self.temporal is not None else [])]
        total = maps * sum(layer.macs(height, columns) for layer in every)
        return total + (self.spatial.macs(height, columns) if self.spatial is not None else 0)
