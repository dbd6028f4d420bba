"""The two checkerboard blocks of section III-B: unit (i, j) is in block (i + j) mod 2.

The mask is the same for every channel: a spatial unit is sent as one symbol vector with one rate,
so it belongs to one block as a whole.
"""

from typing import Any

import numpy as np
from keras import ops


def parity_mask(height: int, width: int, parity: int) -> np.ndarray:
    """Where the units of one block lie. Output: float32 [1, height, width, 1], 0 or 1."""
    rows, columns = np.indices((height, width))
    return ((rows + columns) % 2 == parity).astype(np.float32)[None, :, :, None]


def pack_parity(features: Any, parity: int) -> Any:
    """The units of one block as a dense map, columns squeezed in pairs.

    Input: ``features`` : [batch, height, width, channels], height and width even.
    Output: [batch, height, width / 2, channels].
    """
    height, width, channels = features.shape[1:]
    pairs = ops.reshape(features, (-1, height // 2, 2, width // 2, 2, channels))
    even_rows = pairs[:, :, 0, :, parity]
    odd_rows = pairs[:, :, 1, :, 1 - parity]
    return ops.reshape(
        ops.stack([even_rows, odd_rows], axis=2), (-1, height, width // 2, channels)
    )


def unpack_parity(packed: Any, parity: int) -> Any:
    """Inverse of ``pack_parity``: the block back in its places, zeros in the other block's.

    Input: ``packed`` : [batch, height, width / 2, channels].
    Output: [batch, height, width, channels].
    """
    height, half, channels = packed.shape[1:]
    rows = ops.reshape(packed, (-1, height // 2, 2, half, channels))
    even_rows, odd_rows = rows[:, :, 0], rows[:, :, 1]
    even = [even_rows, ops.zeros_like(even_rows)]
    odd = [ops.zeros_like(odd_rows), odd_rows]
    if parity:
        even, odd = even[::-1], odd[::-1]
    pairs = ops.stack([ops.stack(even, axis=3), ops.stack(odd, axis=3)], axis=2)
    return ops.reshape(pairs, (-1, height, 2 * half, channels))
