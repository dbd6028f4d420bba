"""Motion of the extension: vectors of 16x16 units, how they are coded, and how they are found.

    compensate     a picture moved by vectors, at both ends
    MotionPrior    integer tables of the vectors for the range coder
    search         the transmitter's search, numpy, all units at once

A vector is sent as the difference to the median of those to the left, above, and above to the
right. How far these lie apart picks the table. The search minimises over all units together

    sum |x - prediction| + penalty * bits        (luma, 8-bit levels)

    every whole vector at 1/4 and at 1/2 of the size --> +-2 pixels --> +-1 --> +-1/2 --> +-1/4
    --> the vectors so far, their neighbours, the commonest --> annealing --> +-1 ... +-1/4

The first line looks for what moves at all, at a fraction of the penalty; the second weighs it. A
unit that alone takes the vector of the object that it belongs to pays for it twice, where the
object begins and where it ends, so units that choose one by one stay at rest. Hence simulated
annealing: at first units choose at random by cost, then less and less so.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.entropy.range_coder import MessageReader, Part, information, quantise_pmf
from pvsc_link.models.entropy.rate_map import diagonals
from pvsc_link.models.layers.base import ConfiguredLayer
from pvsc_link.models.pvsc_mc.config import PvscMcConfig

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


#: Units whose vectors predict one: (rows up, columns right).
NEIGHBOURS = ((0, -1), (1, 0), (1, 1))
#: Largest spread of the neighbours' components, in quarter pixels, of every class but the last.
_SPREADS = np.array([0, 2, 8, 24])
NUM_CLASSES = len(_SPREADS) + 1
_SIZE = 4 * MAX_MOTION + 1  # differences from -2 MAX_MOTION to 2 MAX_MOTION
#: One row above, one column at each side: where ``NEIGHBOURS`` of the border lie.
_BORDER = ((1, 0), (1, 1), (0, 0))
_FAR = np.abs(np.arange(_SIZE) - 2 * MAX_MOTION)  # how far a symbol is from no difference
#: Shares that a fit starts from, and how many vectors they count as.
_GUESS, _WEIGHT = (1.0 + _FAR) ** -2.0 / np.sum((1.0 + _FAR) ** -2.0), 30.0


def neighbour(motion: np.ndarray, place: tuple[int, int]) -> np.ndarray:
    """The vectors at ``place`` of ``NEIGHBOURS`` from every unit, zero outside: like ``motion``.

    Input: [..., rows, columns, 2].
    """
    up, right = place
    rows, columns = motion.shape[-3:-1]
    wide = np.pad(motion, ((0, 0),) * (motion.ndim - 3) + _BORDER)
    return wide[..., 1 - up : 1 - up + rows, 1 + right : 1 + right + columns, :]


def predicted(motion: np.ndarray) -> np.ndarray:
    """Median of each unit's neighbours: int32 [..., rows, columns, 2]."""
    return _median(_around(motion))


def _around(motion: np.ndarray) -> np.ndarray:
    return np.stack([neighbour(motion, place) for place in NEIGHBOURS])


def _median(around: np.ndarray) -> np.ndarray:
    return np.sort(around, axis=0)[len(NEIGHBOURS) // 2]


def _classes(around: np.ndarray) -> np.ndarray:
    """Table of every component, from its neighbours [3, ...]."""
    return np.searchsorted(_SPREADS, np.ptp(around, axis=0))


class MotionPrior(ConfiguredLayer):
    """Tables of vector differences: int32 [NUM_CLASSES, differences].

    Before ``fit`` all classes have one guess. The tables are statistics of training clips, fitted
    once after training (``train.release``).

    Parameters: ``config`` : PvscMcConfig.
    """

    def __init__(self, config: Any, **kwargs: Any):
        super().__init__(config, **kwargs)
        guess = np.exp(-0.5 * np.abs(np.arange(_SIZE) - 2 * MAX_MOTION)) + 1e-4
        table = np.tile(quantise_pmf(guess), (NUM_CLASSES, 1)).astype(np.int32)
        self.counts = self.add_weight(
            name="counts",
            shape=table.shape,
            trainable=False,
            dtype="int32",
            initializer=lambda shape, dtype=None: ops.convert_to_tensor(table, dtype),
        )

    def parts(self, motion: np.ndarray) -> list[Part]:
        """Vectors [rows, columns, 2], int, for the range coder: one part a diagonal."""
        tables = ops.convert_to_numpy(self.counts).astype(np.int64)
        symbols, classes = _symbols(motion), _classes(_around(motion))
        return [
            (symbols[place].ravel(), tables[classes[place].ravel()])
            for place in diagonals(*motion.shape[:2])
        ]

    def num_bits(self, motion: np.ndarray) -> float:
        """Information of the vectors [rows, columns, 2], int, under the tables."""
        return information(self.parts(motion))

    def read(self, reader: MessageReader, shape: tuple[int, int]) -> np.ndarray:
        """Vectors out of a message: int32 [rows, columns, 2].

        Raises ``SideInformationError`` where the message does not fit.
        """
        tables = ops.convert_to_numpy(self.counts).astype(np.int64)
        padded = np.pad(np.zeros((*shape, 2), np.int32), _BORDER)
        for rows, columns in diagonals(*shape):
            around = np.stack(
                [padded[rows + 1 - up, columns + 1 + right] for up, right in NEIGHBOURS]
            )
            classes = _classes(around)
            symbols = reader.read(classes.size, tables[classes.ravel()]).reshape(classes.shape)
            padded[rows + 1, columns + 1] = _median(around) + symbols - 2 * MAX_MOTION
        return padded[1:, 1:-1]

    def fit(self, motions: Iterable[np.ndarray]) -> None:
        """Tables out of vectors, each [rows, columns, 2], of coded frames."""
        seen = np.zeros((NUM_CLASSES, _SIZE))
        for motion in motions:
            np.add.at(seen, (_classes(_around(motion)), _symbols(motion)), 1)
        seen = _spread(seen + seen[:, ::-1])  # a difference is as likely as its opposite
        common = _mixed(seen.sum(axis=0), _GUESS)
        share = np.stack([_mixed(row, common) for row in seen])
        self.counts.assign(quantise_pmf(share).astype(np.int32))


def _spread(seen: np.ndarray) -> np.ndarray:
    """Counts spread over differences up to a sixth larger or smaller: [..., symbols]."""
    place, reach = np.arange(_SIZE), _FAR // 6
    near = np.abs(place - place[:, None]) <= reach[:, None]
    return seen @ (near / near.sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def _mixed(seen: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Shares out of counts and a guess that counts as ``_WEIGHT`` vectors."""
    return (seen + _WEIGHT * guess) / (seen.sum() + _WEIGHT)  # type: ignore[no-any-return]


def _symbols(motion: np.ndarray) -> np.ndarray:
    return motion - predicted(motion) + 2 * MAX_MOTION


#: Units that may choose at the same time have the same (3 row + column) % 4: neither predicts the
#: other, and no third unit is predicted by both.
_GROUPS = 4
#: Rows and columns around the units, whose vectors are zero.
_ROWS, _COLUMNS = 1, 2
#: A unit, and the three that it predicts (rows down, columns right), each with what predicts it.
_PREDICTORS = {
    (0, 0): ((0, -1), (-1, 0), (-1, 1)),
    (0, 1): ((0, 0), (-1, 1), (-1, 2)),
    (1, 0): ((1, -1), (0, 0), (0, 1)),
    (1, -1): ((1, -2), (0, -1), (0, 0)),
}
_BITS = 0.5 + 1.7 * np.log2(1.0 + np.arange(2 * MAX_MOTION + 1, dtype=np.float32))


def vector_bits(difference: np.ndarray) -> np.ndarray:
    """Estimated bits of vector differences: [..., 2], int, to [...], float32.

    No component may exceed 2 ``MAX_MOTION``.
    """
    return _BITS[np.abs(difference)].sum(axis=-1)  # type: ignore[no-any-return]


def choose(
    motion: np.ndarray,
    candidates: np.ndarray,
    differences: np.ndarray,
    slope: np.ndarray,
    temperatures: Iterable[float],
) -> np.ndarray:
    """One of its candidates for every unit, for a small sum of  differences + slope * bits.

    Input: ``motion`` : to start from, int [batch, rows, columns, 2]; ``candidates`` : [number,
    batch, rows, columns, 2], int; ``differences`` : of each from the picture, [number, batch, rows,
    columns], float32; ``slope`` : levels a bit, [batch, 1, 1]; ``temperatures`` : one per sweep, in
    bits; zero takes the least cost. Output: like ``motion``. A picture's vectors do not depend on
    the others of its batch.
    """
    rows, columns = motion.shape[1:3]
    row, column = np.divmod(np.arange(rows * columns), columns)
    stride = columns + 2 * _COLUMNS
    place = (row + _ROWS) * stride + column + _COLUMNS
    inside = np.zeros((rows + 2 * _ROWS) * stride, np.float32)
    inside[place] = 1.0
    margins = ((0, 0), (_ROWS, _ROWS), (_COLUMNS, _COLUMNS), (0, 0))
    field = np.pad(motion, margins).reshape(len(motion), -1, 2)
    groups = []
    for number in range(_GROUPS):
        units = np.flatnonzero((3 * row + column) % _GROUPS == number)
        options = candidates.reshape(*candidates.shape[:2], -1, 2)[:, :, units]
        costs = differences.reshape(*differences.shape[:2], -1)[:, :, units]
        groups.append((place[units], options, costs))
    noise = np.random.default_rng(0)
    for temperature in temperatures:
        for here, options, costs in groups:
            bits = _bits_around(field, here, options, stride, inside)
            if temperature:
                bits = bits - temperature * noise.gumbel(size=(len(bits), 1, here.size))
            best = np.argmin(costs + slope[:, 0] * bits, axis=0)[None, ..., None]
            field[:, here] = np.take_along_axis(options, best, axis=0)[0]
    return field[:, place].reshape(motion.shape)  # type: ignore[no-any-return]


def _bits_around(
    field: np.ndarray, here: np.ndarray, options: np.ndarray, stride: int, inside: np.ndarray
) -> np.ndarray:
    """Bits of units and of those that they predict, by option: [number, batch, units]."""
    total = np.float32(0.0)
    for (down, right), predictors in _PREDICTORS.items():
        left, above, beyond = (
            options if at == (0, 0) else field[:, here + at[0] * stride + at[1]]
            for at in predictors
        )
        low, high = np.minimum(left, above), np.maximum(left, above)
        median = np.maximum(low, np.minimum(high, beyond))
        there = here + down * stride + right
        sent = options if (down, right) == (0, 0) else field[:, there]
        total = total + inside[there] * vector_bits(sent - median)
    return total  # type: ignore[return-value]


_LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709
_MARGIN = MAX_MOTION // STEPS + FILTERS.shape[1]
_SEARCH_REACH = 8  # of the search at a reduced size, in its pixels
_SWEEPS = 2  # of that search, each with the vectors of the one before
_ROW_STEP = 2  # every second row of a unit is compared
_AROUND = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]
_CHEAP = np.float32(0.15)  # share of the penalty in the first part of the search
_COMMONEST = 8  # vectors of a picture that every unit may take
#: Of the annealing, in bits: from 3 to 0.3, then three sweeps for the least.
_TEMPERATURES = (*np.geomspace(3.0, 0.3, 12), 0.0, 0.0, 0.0)


def penalty(config: PvscMcConfig, omega_index: int) -> float:
    """Price of one bit of motion at a quality preset, in levels of summed differences."""
    coarse, fine = config.motion_penalty
    return float(coarse * (fine / coarse) ** (omega_index / max(1, config.num_omega - 1)))


def search(config: PvscMcConfig, reference: Any, frames: Any, omega_index: Any) -> np.ndarray:
    """Vectors that a transmitter sends: int32 [batch, Hy, Wy, 2].

    Input: ``reference``, ``frames`` : as ``search_motion``, tensors too; ``omega_index`` : quality
    preset of each picture, [batch].
    """
    slopes = np.array([penalty(config, int(index)) for index in omega_index])
    old, new = ops.convert_to_numpy(reference), ops.convert_to_numpy(frames)
    return search_motion(old, new, slopes)


def search_motion(
    reference: np.ndarray, frame: np.ndarray, slope: float | np.ndarray
) -> np.ndarray:
    """Vectors that take each unit of ``frame`` to its like in ``reference``.

    Input: both [batch, height, width, 3], float32 in [0, 1], sides multiples of 64; ``slope`` :
    ``penalty``, one or one per picture. Output: int32 [batch, height / 16, width / 16, 2], as
    ``compensate`` reads it.
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
    """The field shifted: every unit gets the vector of its neighbour at ``way``, zero outside."""
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
    padded = np.pad(
        old, ((0, 0), (_SEARCH_REACH, _SEARCH_REACH), (_SEARCH_REACH, _SEARCH_REACH)), mode="edge"
    )
    shifts = [
        (a, b)
        for a in range(-_SEARCH_REACH, _SEARCH_REACH + 1)
        for b in range(-_SEARCH_REACH, _SEARCH_REACH + 1)
    ]
    grid = (batch, height // side, width // side)
    differences = np.empty((len(shifts), *grid), np.float32)
    for number, (down, right) in enumerate(shifts):
        top, left = _SEARCH_REACH + down, _SEARCH_REACH + right
        away = np.abs(new - padded[:, top : top + height, left : left + width])
        rows = np.add.reduceat(away, np.arange(0, height, side), axis=1)
        differences[number] = np.add.reduceat(rows, np.arange(0, width, side), axis=2)
    differences *= factor**2 / _ROW_STEP  # as many as ``_differences`` compares
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
    """Convolution along one axis; the ends, which are not used, stay zero."""
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
    line = np.arange(0, UNIT, _ROW_STEP, dtype=np.int32)[:, None] * width
    places = start[..., None, None] + (line + np.arange(UNIT, dtype=np.int32))
    units = new.reshape(batch, rows, UNIT, columns, UNIT)[:, :, ::_ROW_STEP].swapaxes(2, 3)
    return np.abs(units - planes.ravel().take(places)).sum(axis=(3, 4))
