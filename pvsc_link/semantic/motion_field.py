"""The vectors of all units of a picture, each chosen with what it costs its neighbours.

A vector is sent as the difference to what the units to the left, above, and above to the right
predict (``motion_prior``). A unit that alone takes the vector of the object that it belongs to
pays for it twice, where the object begins and where it ends, so units that choose one by one stay
at rest. Here they choose by simulated annealing: at random by cost at first, then less and less so.
"""

from collections.abc import Iterable

import numpy as np

from pvsc_link.semantic.block_motion import MAX_MOTION

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
    """About what differences of vectors cost: [..., 2], int, to [...], float32.

    Neither component beyond 2 ``MAX_MOTION``.
    """
    return _BITS[np.abs(difference)].sum(axis=-1)  # type: ignore[no-any-return]


def choose(
    motion: np.ndarray,
    candidates: np.ndarray,
    differences: np.ndarray,
    slope: np.ndarray,
    temperatures: Iterable[float],
) -> np.ndarray:
    """One of its candidates for every unit, for little  differences + slope * bits  in all.

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
