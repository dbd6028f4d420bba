"""The transmitter's search for the vectors of ``block_motion``: numpy, all units at once.

    every whole vector at 1/4 and at 1/2 of the size --> +-2 pixels --> +-1 --> +-1/2 --> +-1/4
    --> the vectors so far, those next to them, the commonest --> all units together --> +-1 ...

Sought is the least of  sum |x - prediction| + penalty * bits,  over all units, on luma in 8-bit
levels; the bits are those of the differences to what the neighbours predict. The first line looks
for what moves at all, at a fraction of the penalty, the second weighs it (``motion_field``).
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.block_motion import BEFORE, FILTERS, MAX_MOTION, STEPS, UNIT
from pvsc_link.semantic.motion_field import choose, vector_bits
from pvsc_link.semantic.motion_prior import predicted
from pvsc_link.semantic.presets import PvscConfig

_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_MARGIN = MAX_MOTION // STEPS + FILTERS.shape[1]
_REACH = 8  # of the search at a reduced size, in its pixels
_SWEEPS = 2  # of that search, each with the vectors of the one before
_ROWS = 2  # every second row of a unit is compared
_AROUND = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
_CHEAP = np.float32(0.15)  # of the penalty, while vectors are looked for
_COMMONEST = 8  # vectors of a picture that every unit may take
#: Of the annealing, in bits: from 3 to 0.3, then three sweeps for the least.
_TEMPERATURES = (*np.geomspace(3.0, 0.3, 12), 0.0, 0.0, 0.0)


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
    cheap = _CHEAP * slope
    coarse = [_coarse(old, new, cheap, factor) for factor in (2, 4)]
    found = _chosen(coarse[0], [np.zeros_like(coarse[0]), *coarse], planes, new, cheap)
    found = _refined(found, (2 * STEPS, STEPS, STEPS // 2, 1), planes, new, cheap)
    candidates = [np.zeros_like(found), found, *coarse, *_commonest(found, *coarse)]
    candidates += [_moved(found, way) for way in _AROUND]
    motion = _chosen(found, candidates, planes, new, slope, _TEMPERATURES)
    return _refined(motion, (STEPS, STEPS // 2, 1), planes, new, slope)


def _chosen(
    motion: np.ndarray,
    candidates: list[np.ndarray],
    planes: np.ndarray,
    new: np.ndarray,
    slope: np.ndarray,
    temperatures: tuple[float, ...] = (0.0, 0.0),
) -> np.ndarray:
    differences = np.stack([_differences(planes, new, one) for one in candidates])
    return choose(motion, np.stack(candidates), differences, slope, temperatures)


def _refined(
    motion: np.ndarray,
    steps: tuple[int, ...],
    planes: np.ndarray,
    new: np.ndarray,
    slope: np.ndarray,
) -> np.ndarray:
    """The best of what lies one step away and of what the units beside have, step by step."""
    for step in steps:
        around = [motion + np.array(way, np.int32) * step for way in _AROUND]
        around = [np.clip(one, -MAX_MOTION, MAX_MOTION) for one in around]
        beside = [_moved(motion, way) for way in _AROUND if 0 in way]
        motion = _chosen(motion, [motion, *around, *beside], planes, new, slope)
    return motion


def _moved(motion: np.ndarray, way: tuple[int, int]) -> np.ndarray:
    """What every unit's neighbour down and to the right by ``way`` has; zero outside."""
    rows, columns = motion.shape[1:3]
    wide = np.pad(motion, ((0, 0), (1, 1), (1, 1), (0, 0)))
    down, right = 1 + way[0], 1 + way[1]
    return wide[:, down : down + rows, right : right + columns]


def _commonest(*fields: np.ndarray) -> list[np.ndarray]:
    """The vectors that most units of a picture have, each as a field of its own."""
    vectors = np.concatenate([field.reshape(len(field), -1, 2) for field in fields], axis=1)
    best = np.zeros((_COMMONEST, *fields[0].shape), np.int32)
    for picture, seen in enumerate(vectors):
        different, number = np.unique(seen, axis=0, return_counts=True)
        chosen = different[np.argsort(-number, kind="stable")[:_COMMONEST]]
        best[: len(chosen), picture] = chosen[:, None, None]
    return list(best)


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
        bits = vector_bits(vectors[:, None, None, None] - predicted(motion))
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
