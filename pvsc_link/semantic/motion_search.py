"""The transmitter's search for the vectors of ``block_motion``: numpy, all units at once.

    every whole vector at 1/4 and at 1/2 of the size --> +-2 pixels --> +-1 --> +-1/2 --> +-1/4

Each step takes, unit by unit, the vector of least  sum |x - prediction| + penalty * bits(vector),
on luma in 8-bit levels, among those around the best so far and those of the neighbours; the bits
are those of the difference to what the neighbours predict (``motion_prior``), as of the step
before.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.block_motion import BEFORE, FILTERS, MAX_MOTION, STEPS, UNIT
from pvsc_link.semantic.motion_prior import NEIGHBOURS, neighbour, predicted
from pvsc_link.semantic.presets import PvscConfig

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_MARGIN = MAX_MOTION // STEPS + FILTERS.shape[1]
_REACH = 8  # of the search at a reduced size, in its pixels
_SWEEPS = 2  # of that search, each with the vectors of the one before
_ROWS = 2  # every second row of a unit is compared
_AROUND = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]


def penalty(config: PvscConfig, omega_index: int) -> float:
    """What a bit of motion may cost at a quality preset, in levels of summed differences."""
    coarse, fine = config.motion_penalty
    return float(coarse * (fine / coarse) ** (omega_index / max(1, config.num_omega - 1)))


def vectors(config: PvscConfig, reference: Any, frames: Any, omega_index: Any) -> Any:
    """What a transmitter sends of the motion, int32 [batch, Hy, Wy, 2]; None without any.

    Parameters: ``config`` : of the P model, which compensates motion or not.
    Input: ``reference``, ``frames`` : as ``search_motion``, tensors too; ``omega_index`` : quality
    preset of each picture, [batch].
    """
    if not config.motion_compensation:
        return None
    slopes = np.array([penalty(config, int(index)) for index in omega_index])
    old, new = ops.convert_to_numpy(reference), ops.convert_to_numpy(frames)
    return search_motion(old, new, slopes)


def search_motion(
    reference: np.ndarray, frame: np.ndarray, slope: float | np.ndarray
) -> np.ndarray:
    """Vectors that take each unit of ``frame`` to its like in ``reference``.

    Input: both [batch, height, width, 3], float32 in [0, 1], sides multiples of 64; ``slope`` :
    ``penalty``, one or one per picture. Output: int32 [batch, height / 16, width / 16, 2], as
    ``block_motion.compensate`` reads it.
    """
    old, new = (255.0 * (np.asarray(f, np.float32) @ _LUMA) for f in (reference, frame))
    slope = np.reshape(np.asarray(slope, np.float32), (-1, 1, 1))
    planes = _interpolated(old)
    best = _Best(_coarse(old, new, slope, 2), slope)
    candidates = [np.zeros_like(best.motion), _coarse(old, new, slope, 4)]
    for step in (2 * STEPS, STEPS, STEPS, STEPS // 2, 1, 1):
        candidates += [best.motion + np.array(way, np.int32) * step for way in _AROUND]
        candidates += [neighbour(best.motion, place) for place in NEIGHBOURS]
        best.choose([np.clip(c, -MAX_MOTION, MAX_MOTION) for c in candidates], planes, new)
        candidates = []
    return best.motion


class _Best:
    """The cheapest vector of each unit so far."""

    def __init__(self, motion: np.ndarray, slope: np.ndarray):
        self.motion, self._slope = motion, slope

    def choose(self, candidates: list[np.ndarray], planes: np.ndarray, new: np.ndarray) -> None:
        """The best of these and of what was best; what neighbours predict stays meanwhile."""
        base = predicted(self.motion)
        best = np.full(self.motion.shape[:-1], np.inf, np.float32)
        for motion in [self.motion, *candidates]:
            cost = _differences(planes, new, motion) + self._slope * _bits(motion - base)
            better = cost < best
            self.motion = np.where(better[..., None], motion, self.motion)
            best = np.where(better, cost, best)


def _bits(difference: np.ndarray) -> np.ndarray:
    """About what a difference of vectors costs: [..., rows, columns]."""
    table = 0.5 + 1.7 * np.log2(1.0 + np.arange(4 * MAX_MOTION, dtype=np.float32))
    return table[np.abs(difference)].sum(axis=-1)  # type: ignore[no-any-return]


def _coarse(old: np.ndarray, new: np.ndarray, slope: np.ndarray, factor: int) -> np.ndarray:
    """The best vectors of whole pixels at 1 / ``factor`` of the size, in quarters of the full."""
    old, new = _reduced(old, factor), _reduced(new, factor)
    (batch, height, width), side = new.shape, UNIT // factor
    padded = np.pad(old, ((0, 0), (_REACH, _REACH), (_REACH, _REACH)), mode="edge")
    shifts = [(a, b) for a in range(-_REACH, _REACH + 1) for b in range(-_REACH, _REACH + 1)]
    grid = (batch, height // side, width // side)
    differences = np.empty((len(shifts), *grid), np.float32)
    for number, (down, right) in enumerate(shifts):
        top, left = _REACH + down, _REACH + right
        away = np.abs(new - padded[:, top : top + height, left : left + width])
        rows = np.add.reduceat(away, np.arange(0, height, side), axis=1)
        differences[number] = np.add.reduceat(rows, np.arange(0, width, side), axis=2)
    differences *= factor**2 / _ROWS  # as many as ``_differences`` compares
    vectors = np.array(shifts, np.int32) * factor * STEPS
    motion = np.zeros((*grid, 2), np.int32)
    for _ in range(_SWEEPS):
        bits = _bits(vectors[:, None, None, None] - predicted(motion))
        motion = vectors[np.argmin(differences + slope * bits, axis=0)]
    return motion


def _reduced(plane: np.ndarray, factor: int) -> np.ndarray:
    batch, height, width = plane.shape
    cells = plane.reshape(batch, height // factor, factor, width // factor, factor)
    return cells.mean(axis=(2, 4))


def _interpolated(plane: np.ndarray) -> np.ndarray:
    """The planes, padded, at every quarter of a pixel: [batch, STEPS, STEPS, rows, columns]."""
    padded = np.pad(plane, ((0, 0), (_MARGIN, _MARGIN), (_MARGIN, _MARGIN)), mode="edge")
    rows = np.stack([_filtered(padded, taps, 1) for taps in FILTERS], axis=1)
    return np.stack([_filtered(rows, taps, 3) for taps in FILTERS], axis=2)


def _filtered(values: np.ndarray, taps: np.ndarray, axis: int) -> np.ndarray:
    """Convolution along one axis; the ends, which nobody looks at, stay as they are."""
    if taps[BEFORE] == 1.0:
        return values
    result = np.zeros_like(values)
    length = values.shape[axis] - len(taps) + 1

    def part(array: np.ndarray, first: int) -> np.ndarray:
        places = [slice(None)] * array.ndim
        places[axis] = slice(first, first + length)
        return array[tuple(places)]

    for number, tap in enumerate(taps):
        if tap:
            part(result, BEFORE)[...] += tap * part(values, number)
    return result


def _differences(planes: np.ndarray, new: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Sum of absolute differences of every unit at its vector: [batch, rows, columns], float32."""
    batch, rows, columns = motion.shape[:3]
    whole, part = motion // STEPS, motion % STEPS
    down = np.arange(rows)[:, None] * UNIT + whole[..., 0] + _MARGIN
    right = np.arange(columns) * UNIT + whole[..., 1] + _MARGIN
    picture = np.arange(batch)[:, None, None] * STEPS**2 + part[..., 0] * STEPS + part[..., 1]
    height, width = planes.shape[3:]
    start = ((picture * height + down) * width + right).astype(np.int32)
    line = np.arange(0, UNIT, _ROWS, dtype=np.int32)[:, None] * width
    places = start[..., None, None] + (line + np.arange(UNIT, dtype=np.int32))
    units = new.reshape(batch, rows, UNIT, columns, UNIT)[:, :, ::_ROWS].swapaxes(2, 3)
    return np.abs(units - planes.ravel().take(places)).sum(axis=(3, 4))
