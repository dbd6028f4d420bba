"""Vectors of motion for models that compensate it, found as the transmitter finds them."""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.block_motion import compensate
from pvsc_link.semantic.motion_search import penalty, search_motion


def vectors(config: Any, reference: Any, frames: np.ndarray, omega_index: Any) -> Any:
    """int32 [batch, Hy, Wy, 2], or None where ``config`` compensates no motion.

    Input: ``reference``, ``frames`` : [batch, height, width, 3], float32; ``omega_index`` : of
    each picture, [batch], int.
    """
    if not config.motion_compensation:
        return None
    slopes = [penalty(int(index), config.num_omega) for index in np.asarray(omega_index)]
    return search_motion(ops.convert_to_numpy(reference), frames, np.array(slopes))


def with_motion_undone(config: Any, pairs: np.ndarray) -> np.ndarray:
    """Pairs of frames, the first of each moved to where the second has it; as they are without.

    Input, output: [count, 2, height, width, 3], float32.
    """
    if not config.motion_compensation:
        return pairs
    presets = np.arange(len(pairs)) % config.num_omega
    motion = vectors(config, pairs[:, 0], pairs[:, 1], presets)
    moved = ops.convert_to_numpy(ops.clip(compensate(pairs[:, 0], motion), 0.0, 1.0))
    return np.stack([moved, pairs[:, 1]], axis=1)
