"""Motion compensation of the previous picture, one vector per unit of the latent grid.

Beyond the paper, whose C_ext has to find out by itself what has moved; that takes more training
than two cores give. The vectors travel with z_hat, error-free, so that both ends move their own
picture alike.
"""

from typing import Any

import numpy as np
from keras import ops

#: Pixels of a unit's side: the latent at 1/16.
UNIT = 16
#: Steps of a vector per pixel.
STEPS = 4
#: Largest component of a vector, in steps.
MAX_MOTION = 32 * STEPS
#: Interpolation between pixels by quarter: the luma filters of H.265, clause 8.5.3.3.3.1.
FILTERS = np.array(
    [
        [0, 0, 0, 64, 0, 0, 0, 0],
        [-1, 4, -10, 58, 17, -5, 1, 0],
        [-1, 4, -11, 40, 40, -11, 4, -1],
        [0, 1, -5, 17, 58, -10, 4, -1],
    ],
    np.float32,
) / np.float32(64)
#: Pixels that a filter reaches to before a pixel.
BEFORE = 3
_REACH = UNIT + FILTERS.shape[1] - 1


def _unit_filters() -> np.ndarray:
    """The filters as matrices over a unit: [quarters, UNIT, _REACH]."""
    matrices = np.zeros((STEPS, UNIT, _REACH), np.float32)
    for place in range(UNIT):
        matrices[:, place, place : place + FILTERS.shape[1]] = FILTERS
    return matrices


_UNIT_FILTERS = _unit_filters()


def compensate(frame: Any, motion: Any) -> Any:
    """The picture that each unit of the next frame finds at its vector in this one.

    Input: ``frame`` : [batch, height, width, 3], float32; ``motion`` : [batch, height / 16,
    width / 16, 2], int32, rows down and columns to the right, in quarters of a pixel. Pixels
    outside the frame repeat its border. Output: like ``frame``, not clipped.
    """
    batch, height, width, channels = ops.shape(frame)
    rows, columns = height // UNIT, width // UNIT
    whole = ops.floor_divide(motion, STEPS)
    filters = ops.take(ops.convert_to_tensor(_UNIT_FILTERS), motion - STEPS * whole, axis=0)
    reach = ops.arange(_REACH, dtype="int32") - BEFORE
    # [batch, rows, columns, _REACH]: which rows and columns of pixels each unit reads
    top = ops.reshape(ops.arange(rows, dtype="int32") * UNIT, (1, rows, 1, 1))
    left = ops.reshape(ops.arange(columns, dtype="int32") * UNIT, (1, 1, columns, 1))
    down = ops.clip(top + whole[..., 0:1] + reach, 0, height - 1)
    right = ops.clip(left + whole[..., 1:2] + reach, 0, width - 1)
    picture = ops.reshape(ops.arange(batch, dtype="int32"), (batch, 1, 1, 1, 1)) * height
    places = (picture + down[..., :, None]) * width + right[..., None, :]
    pixels = ops.take(ops.reshape(frame, (-1, channels)), places, axis=0)
    # [b, r, c, UNIT, _REACH] x [b, r, c, _REACH, _REACH * 3], then the same along the columns
    flat = ops.reshape(pixels, (batch, rows, columns, _REACH, _REACH * channels))
    filtered = ops.matmul(filters[..., 0, :, :], flat)
    filtered = ops.reshape(filtered, (batch, rows, columns, UNIT, _REACH, channels))
    moved = ops.matmul(filters[..., None, 1, :, :], filtered)
    whole_rows = ops.transpose(moved, (0, 1, 3, 2, 4, 5))
    return ops.reshape(whole_rows, (batch, height, width, channels))
