"""Multi-head attention inside square windows of a token map, for self- and cross-attention.

Windows alternate between blocks: every second block shifts them by half a window, cyclically,
so that neighbours across a border meet. Sizes that are no multiple of the window are filled up
inside, after the projections. Both tricks put strangers in one window (fillers, and rows from
the opposite edge); a static mask keeps them from being attended to, so results depend on real
tokens of the same region alone. An axis with a single window is not shifted: a shift could only
cut it.
"""

import math
from functools import lru_cache
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.token_grid import TokenGrid
from pvsc_link.types import InputError

#: Score of a key that must not be seen; finite, so that a window of fillers alone gives no NaN.
HIDDEN = -1e9


def window_shift(size: int, window: int, shifted: bool) -> int:
    """Tokens by which windows move along an axis of ``size`` tokens."""
    return window // 2 if shifted and size > window else 0


def _regions(size: int, window: int, shift: int) -> np.ndarray:
    """Region of every place of a filled-up, shifted axis; across regions tokens are strangers."""
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
    config : PvscConfig; ``embed_dim``, ``num_heads`` and ``window_size`` are used
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
        """Scores in float32 (softmax of halves is too coarse), strangers hidden."""
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
