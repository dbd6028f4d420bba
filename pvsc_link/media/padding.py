"""Edge padding to the multiple that a learned codec needs; metrics see the unpadded area."""

import numpy as np


def pad_to_multiple(frames: np.ndarray, multiple: int = 128) -> np.ndarray:
    """Repeat the last row and column until height and width are multiples of ``multiple``.

    Input: ``frames`` : [..., height, width, 3], any dtype.
    Output: [..., ceil(height / multiple) * multiple, ceil(width / multiple) * multiple, 3].
    """
    height, width = frames.shape[-3:-1]
    if height % multiple == 0 and width % multiple == 0:
        return frames
    margins = [(0, 0)] * (frames.ndim - 3) + [(0, -height % multiple), (0, -width % multiple)]
    return np.pad(frames, [*margins, (0, 0)], mode="edge")


def crop(frames: np.ndarray, height: int, width: int) -> np.ndarray:
    """Upper left ``height`` x ``width`` area of ``frames`` [..., height', width', 3]."""
    return frames[..., :height, :width, :]
