"""Checkerboard packing: the units of one parity as a dense map of half the width (section III-B).

Unit (i, j) belongs to block 0 when i + j is even, else to block 1. Row i of a packed map holds
the units of its parity from left to right, so Hy x Wy becomes Hy x ceil(Wy/2). With an odd Wy
every second row of a packed map ends in a place without a unit; ``valid`` tells attention so.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops


@dataclass(frozen=True)
class TokenGrid:
    """What a batch of packed maps holds: the blocks ``parities`` of an Hy x Wy grid of units.

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
