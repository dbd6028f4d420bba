"""The transformer of F_tx and F_rx: tokens, windowed attention, ViT and contextual ViT (Fig. 4(a)).

    features, k --> TokenEmbedding --> ViT blocks --> temporal contextual ViT <-- C_s,t-1
                                   --> spatial contextual ViT (block 1 looks at block 0) --> tokens

*Checkerboard packing* (section III-B). Unit (i, j) belongs to block 0 when i + j is even, else to
block 1. With spatial coding the two blocks are packed to dense maps of half the width: row i of a
packed map holds the units of its parity from left to right. With an odd Wy every second row of a
packed map ends in a place without a unit, which a mask hides from attention. Both blocks go through
the same ViT blocks apart from each other; only in the spatial contextual ViT does block 1 look at
block 0, and block 0 never looks at block 1. Without spatial coding all units are one map.

*Windows.* Attention stays inside square windows. Every second block shifts them by half a window,
cyclically, so that neighbours across a border meet. Sizes that are no multiple of the window are
filled up. Both put unrelated tokens in one window (fillers, rows from the opposite edge); a static
mask hides them, so results depend on real tokens of the same region alone. An axis with a single
window is not shifted.

The paper takes the blocks of its reference [24], whose code is not public. Pre-norm, an MLP of
``mlp_ratio`` and 8x8 windows (the frame is padded to 128 = 16 * 8 pixels) are choices that fit its
Table V. Weights per block, d = ``embed_dim`` and ``mlp_ratio`` 4: ViT 12 d^2, contextual ViT
16 d^2, plus vectors.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.layers.rate_adaptive import dense_gradient
from pvsc_link.types import InputError


@dataclass(frozen=True)
class TokenGrid:
    """Contents of a batch of packed maps: the blocks ``parities`` of an Hy x Wy grid of units.

    Parameters: ``height``, ``width`` : units of the whole grid; ``parities`` : blocks in the
    batch, block-major (all of block 0, then all of block 1).
    """

    height: int
    width: int
    parities: tuple[int, ...] = (0, 1)

    def valid(self) -> np.ndarray:
        """Where a unit exists: [len(parities), height, ceil(width/2)], bool."""
        row = np.arange(self.height)[:, None]
        slot = np.arange((self.width + 1) // 2)[None, :]
        columns = [2 * slot + (row + parity) % 2 for parity in self.parities]
        return np.stack(columns) < self.width


def _swaps(height: int) -> np.ndarray:
    """Odd rows start with block 1: [1, height, 1, 1], bool."""
    return (np.arange(height) % 2 == 1)[None, :, None, None]


def pack_parities(tokens: Any) -> Any:
    """Split a map of tokens into its two checkerboard blocks, stacked along the batch.

    Input: [batch, Hy, Wy, d]. Output: [2 * batch, Hy, ceil(Wy/2), d], block 0 first; places
    without a unit (odd Wy) are zero.
    """
    height, width, depth = tokens.shape[1:]
    tokens = ops.pad(tokens, [(0, 0), (0, 0), (0, width % 2), (0, 0)])
    pairs = ops.reshape(tokens, (-1, height, (width + 1) // 2, 2, depth))
    even, odd = pairs[..., 0, :], pairs[..., 1, :]
    swap = _swaps(height)
    return ops.concatenate([ops.where(swap, odd, even), ops.where(swap, even, odd)], axis=0)


def unpack_parities(block_0: Any, block_1: Any, width: int) -> Any:
    """Merge two packed blocks; the inverse of ``pack_parities``.

    Parameters: ``width`` : Wy. Input: two maps [batch, Hy, ceil(Wy/2), d].
    Output: [batch, Hy, Wy, d].
    """
    height, half, depth = block_0.shape[1:]
    swap = _swaps(height)
    even, odd = ops.where(swap, block_1, block_0), ops.where(swap, block_0, block_1)
    merged = ops.stack([even, odd], axis=3)
    return ops.reshape(merged, (-1, height, 2 * half, depth))[:, :, :width]


#: Score of a key that must not be seen; finite, so that a window of fillers alone gives no NaN.
HIDDEN = -1e9


def window_shift(size: int, window: int, shifted: bool) -> int:
    """Tokens by which windows move along an axis of ``size`` tokens."""
    return window // 2 if shifted and size > window else 0


def _regions(size: int, window: int, shift: int) -> np.ndarray:
    """Region of every place of a filled-up, shifted axis; only tokens of one region may meet."""
    filled = -(-size // window) * window
    return (np.arange(filled) >= filled - shift).astype(np.int64)


@lru_cache(maxsize=256)
def window_mask(
    height: int, width: int, grid: TokenGrid | None, window: int, shifted: bool
) -> np.ndarray | None:
    """Scores to add per window: 0 for a key that a query may see, ``HIDDEN`` else.

    Parameters: ``height``, ``width`` : tokens of the map; ``grid`` : which of its places hold a
    unit (None: all); ``window`` : tokens per side; ``shifted`` : windows moved by half.
    Output: [groups, num_windows, 1, T, T], float32, T = window ** 2 and one group per block of
    ``grid``; None when every key may be seen.
    """
    valid = np.ones((1, height, width), bool) if grid is None else grid.valid()
    pad = [(0, 0), (0, -height % window), (0, -width % window)]
    shifts = [window_shift(size, window, shifted) for size in (height, width)]
    valid = np.roll(np.pad(valid, pad), [-s for s in shifts], axis=(1, 2))
    row, column = (
        _regions(size, window, shift) for size, shift in zip((height, width), shifts, strict=True)
    )
    region = np.broadcast_to(2 * row[:, None] + column, valid.shape)
    valid, region = _tiles(valid, window), _tiles(region, window)
    seen = valid[:, :, None, :] & (region[:, :, :, None] == region[:, :, None, :])
    if seen.all():
        return None
    return np.where(seen, 0.0, HIDDEN).astype(np.float32)[:, :, None]


def _tiles(maps: np.ndarray, window: int) -> np.ndarray:
    """[groups, H, W] -> [groups, num_windows, window ** 2]."""
    groups, height, width = maps.shape
    tiles = maps.reshape(groups, height // window, window, width // window, window)
    return tiles.transpose(0, 1, 3, 2, 4).reshape(groups, -1, window * window)


class WindowAttention(ConfiguredLayer):
    """Windowed multi-head attention, to the map itself or to a context map (section III-A).

    Parameters
    ----------
    config : LatentConfig; ``embed_dim``, ``num_heads`` and ``window_size`` are used
    shifted : bool, windows moved by half a window

    Input
    -----
    tokens : [batch, H, W, embed_dim], float; H and W static, any size
    context : like ``tokens``, or None for self-attention; its places are the keys
    key_grid : TokenGrid of the keys' map when some of its places hold no unit, else None; the
        batch is then block-major with one group per parity

    Output
    ------
    [batch, H, W, embed_dim], float. Raises ``InputError`` for H or W unknown when traced.
    """

    def __init__(self, config: Any, shifted: bool = False, **kwargs: Any):
        super().__init__(config, **kwargs)
        dim, heads = self.config.embed_dim, self.config.num_heads
        if dim % heads:
            raise InputError(
                "embed_dim does not split into heads",
                found=(dim, heads),
                allowed="embed_dim a multiple of num_heads",
                remedy="Change embed_dim or num_heads in the preset.",
            )
        self.shifted = shifted
        policy = self.dtype_policy
        self.query = keras.layers.Dense(dim, dtype=policy, name="query")
        self.key_value = keras.layers.Dense(2 * dim, dtype=policy, name="key_value")
        self.output_projection = keras.layers.Dense(dim, dtype=policy, name="output_projection")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifted": self.shifted}

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.query, self.key_value, self.output_projection):
            layer.build((None, None, None, self.config.embed_dim))

    def call(self, tokens: Any, context: Any = None, key_grid: TokenGrid | None = None) -> Any:
        height, width = _static_size(tokens)
        context = tokens if context is None else context
        query = self._to_windows(self.query(tokens), 1)[0]
        key, value = self._to_windows(self.key_value(context), 2)
        scale = (self.config.embed_dim // self.config.num_heads) ** -0.5
        scores = ops.matmul(query * scale, ops.swapaxes(key, -1, -2))
        mask = window_mask(height, width, key_grid, self.config.window_size, self.shifted)
        weights = ops.cast(ops.softmax(self._masked(scores, mask)), value.dtype)
        return self.output_projection(self._from_windows(ops.matmul(weights, value), height, width))

    def _masked(self, scores: Any, mask: np.ndarray | None) -> Any:
        """Scores in float32 (a softmax in float16 is too coarse), hidden keys masked."""
        scores = ops.cast(scores, "float32")
        if mask is None:
            return scores
        groups, windows = mask.shape[:2]
        shape = (groups, -1, windows, *scores.shape[1:])
        return ops.reshape(ops.reshape(scores, shape) + mask[:, None], (-1, *scores.shape[1:]))

    def _shifts(self, height: int, width: int) -> list[int]:
        window = self.config.window_size
        return [window_shift(size, window, self.shifted) for size in (height, width)]

    def _to_windows(self, x: Any, parts: int) -> list[Any]:
        """[batch, H, W, parts * d] -> ``parts`` of [batch * num_windows, heads, T, d / heads]."""
        height, width = x.shape[1:3]
        window, heads = self.config.window_size, self.config.num_heads
        depth = self.config.embed_dim // heads
        x = ops.pad(x, [(0, 0), (0, -height % window), (0, -width % window), (0, 0)])
        shifts = self._shifts(height, width)
        if any(shifts):
            x = ops.roll(x, [-s for s in shifts], axis=[1, 2])
        rows, columns = -(-height // window), -(-width // window)
        x = ops.reshape(x, (-1, rows, window, columns, window, parts * heads, depth))
        x = ops.transpose(x, (0, 1, 3, 5, 2, 4, 6))
        if parts == 1:
            return [ops.reshape(x, (-1, heads, window * window, depth))]
        x = ops.reshape(x, (-1, parts, heads, window * window, depth))
        return [x[:, part] for part in range(parts)]

    def _from_windows(self, x: Any, height: int, width: int) -> Any:
        """Inverse of ``_to_windows`` for one part, fillers cut off."""
        window, heads = self.config.window_size, self.config.num_heads
        rows, columns = -(-height // window), -(-width // window)
        depth = self.config.embed_dim // heads
        x = ops.reshape(x, (-1, rows, columns, heads, window, window, depth))
        x = ops.transpose(x, (0, 1, 4, 2, 5, 3, 6))
        x = ops.reshape(x, (-1, rows * window, columns * window, heads * depth))
        shifts = self._shifts(height, width)
        if any(shifts):
            x = ops.roll(x, shifts, axis=[1, 2])
        return x[:, :height, :width]

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map: projections, scores and weighted sums.

        Windows that are filled up cost like whole ones, as they do when run.
        """
        window, dim = self.config.window_size, self.config.embed_dim
        dense = (self.query, self.key_value, self.output_projection)
        filled = math.prod(-(-size // window) * window for size in (height, width))
        kernels = sum(math.prod(layer.kernel.shape) for layer in dense)
        return height * width * kernels + filled * window**2 * 2 * dim


def _static_size(tokens: Any) -> tuple[int, int]:
    height, width = tokens.shape[1:3]
    if height is None or width is None:
        raise InputError(
            "token map of unknown size",
            found=tuple(tokens.shape),
            allowed="static H and W (the batch may be unknown)",
            remedy="Trace once per frame size.",
        )
    return height, width


NORM_EPSILON = 1e-5


def layer_norm(name: str, policy: Any) -> keras.layers.Layer:
    """Layer normalisation over the channels of a token."""
    return keras.layers.LayerNormalization(epsilon=NORM_EPSILON, dtype=policy, name=name)


class Mlp(ConfiguredLayer):
    """Two-layer perceptron with GELU, applied to every token.

    Parameters: ``config`` : LatentConfig; ``embed_dim`` and ``mlp_ratio`` are used.
    Input and output: [..., embed_dim], float.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        dim, policy = self.config.embed_dim, self.dtype_policy
        self.expand = keras.layers.Dense(dim * self.config.mlp_ratio, dtype=policy, name="expand")
        self.reduce = keras.layers.Dense(dim, dtype=policy, name="reduce")

    def build(self, input_shape: Any = None) -> None:
        dim = self.config.embed_dim
        self.expand.build((None, dim))
        self.reduce.build((None, dim * self.config.mlp_ratio))

    def call(self, tokens: Any) -> Any:
        return self.reduce(ops.gelu(self.expand(tokens)))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map."""
        kernels = (self.expand.kernel, self.reduce.kernel)
        return height * width * sum(math.prod(kernel.shape) for kernel in kernels)


class VitBlock(ConfiguredLayer):
    """Self-attention in windows, then an MLP, each behind a norm and a shortcut (section III-A).

    Parameters
    ----------
    config : LatentConfig
    shifted : bool, windows moved by half a window (every second block of a stack)

    Input
    -----
    tokens : [batch, H, W, embed_dim], float
    grid : TokenGrid when some places hold no unit, else None

    Output
    ------
    [batch, H, W, embed_dim], float; the values in places without a unit have no meaning
    """

    def __init__(self, config: Any, shifted: bool = False, **kwargs: Any):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.shifted = shifted
        self.attention_norm = layer_norm("attention_norm", policy)
        self.attention = WindowAttention(self.config, shifted, dtype=policy, name="attention")
        self.mlp_norm = layer_norm("mlp_norm", policy)
        self.mlp = Mlp(self.config, dtype=policy, name="mlp")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifted": self.shifted}

    def build(self, input_shape: Any = None) -> None:
        for layer in (self.attention_norm, self.attention, self.mlp_norm, self.mlp):
            layer.build((None, None, None, self.config.embed_dim))

    def call(self, tokens: Any, grid: TokenGrid | None = None) -> Any:
        tokens = tokens + self.attention(self.attention_norm(tokens), key_grid=grid)
        return tokens + self.mlp(self.mlp_norm(tokens))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map (norms and shortcuts not counted)."""
        return self.attention.macs(height, width) + self.mlp.macs(height, width)


class ContextualVitBlock(ConfiguredLayer):
    """Self-attention, cross-attention to a context map, MLP (section III-A, Fig. 4(a)).

    The context is the previous decoded state C_s,t-1, or the block that was processed first.
    A token sees the context in its own window.

    Parameters
    ----------
    config : LatentConfig
    shifted : bool, windows moved by half a window

    Input
    -----
    tokens, context : [batch, H, W, embed_dim], float
    grid, context_grid : TokenGrid of either map when some places hold no unit, else None

    Output
    ------
    [batch, H, W, embed_dim], float; the values in places without a unit have no meaning
    """

    def __init__(self, config: Any, shifted: bool = False, **kwargs: Any):
        super().__init__(config, **kwargs)
        policy = self.dtype_policy
        self.shifted = shifted
        self.self_norm = layer_norm("self_norm", policy)
        self.self_attention = WindowAttention(
            self.config, shifted, dtype=policy, name="self_attention"
        )
        self.cross_norm = layer_norm("cross_norm", policy)
        self.context_norm = layer_norm("context_norm", policy)
        self.cross_attention = WindowAttention(
            self.config, shifted, dtype=policy, name="cross_attention"
        )
        self.mlp_norm = layer_norm("mlp_norm", policy)
        self.mlp = Mlp(self.config, dtype=policy, name="mlp")

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "shifted": self.shifted}

    def build(self, input_shape: Any = None) -> None:
        norms = (self.self_norm, self.cross_norm, self.context_norm, self.mlp_norm)
        for layer in (*norms, self.self_attention, self.cross_attention, self.mlp):
            layer.build((None, None, None, self.config.embed_dim))

    def call(
        self,
        tokens: Any,
        context: Any,
        grid: TokenGrid | None = None,
        context_grid: TokenGrid | None = None,
    ) -> Any:
        tokens = tokens + self.self_attention(self.self_norm(tokens), key_grid=grid)
        tokens = tokens + self.cross_attention(
            self.cross_norm(tokens), self.context_norm(context), key_grid=context_grid
        )
        return tokens + self.mlp(self.mlp_norm(tokens))

    def macs(self, height: int, width: int) -> int:
        """Multiply-accumulates for one H x W map (norms and shortcuts not counted)."""
        attention = (self.self_attention, self.cross_attention)
        return sum(layer.macs(height, width) for layer in (*attention, self.mlp))


class TokenEmbedding(ConfiguredLayer):
    """Features of a unit to a token: linear map + position + rate embedding (section III-A).

    Positions repeat after one window of rows and two of columns, so any frame size is covered.
    That is as far as attention sees at once: a window of a packed checkerboard block spans
    twice its width in units.

    Parameters: ``config`` : LatentConfig.
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
    config : LatentConfig; ``temporal_coding`` and ``spatial_coding`` say which contexts exist

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
