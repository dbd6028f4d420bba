"""Prior of the vectors of ``block_motion``, in integers: each given its neighbours.

A vector is sent as the difference to the median of those to the left, above, and above to the
right. How far these lie apart picks the table. The tables are statistics of training clips,
fitted once after training (``train.release``).
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.block_motion import MAX_MOTION
from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.semantic.range_coding import MessageReader, Part, quantise_pmf
from pvsc_link.semantic.rate_map_prior import diagonals

#: Units whose vectors predict one: (rows up, columns right).
NEIGHBOURS = ((0, -1), (1, 0), (1, 1))
#: Largest spread of the neighbours' components, in quarter pixels, of every class but the last.
_SPREADS = np.array([0, 2, 8, 24])
NUM_CLASSES = len(_SPREADS) + 1
_SIZE = 4 * MAX_MOTION + 1  # differences from -2 MAX_MOTION to 2 MAX_MOTION
#: One row above, one column at each side: where ``NEIGHBOURS`` of the border lie.
_BORDER = ((1, 0), (1, 1), (0, 0))
_FAR = np.abs(np.arange(_SIZE) - 2 * MAX_MOTION)  # how far a symbol is from no difference
#: What a table says before any statistics, and how many vectors that weighs as much as.
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
    """What the neighbours say of every unit: int32 [..., rows, columns, 2]."""
    return _median(_around(motion))


def _around(motion: np.ndarray) -> np.ndarray:
    return np.stack([neighbour(motion, place) for place in NEIGHBOURS])


def _median(around: np.ndarray) -> np.ndarray:
    return np.sort(around, axis=0)[len(NEIGHBOURS) // 2]


def _classes(around: np.ndarray) -> np.ndarray:
    """Table of every component, from its neighbours [3, ...]."""
    return np.searchsorted(_SPREADS, np.ptp(around, axis=0))


class MotionPrior(ConfiguredLayer):
    """The tables: int32 [NUM_CLASSES, differences], before a fit one guess for all.

    Parameters: ``config`` : PvscConfig.
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
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
    """Every vector counted among differences up to a sixth larger or smaller: [..., symbols]."""
    place, reach = np.arange(_SIZE), _FAR // 6
    near = np.abs(place - place[:, None]) <= reach[:, None]
    return seen @ (near / near.sum(axis=1, keepdims=True))  # type: ignore[no-any-return]


def _mixed(seen: np.ndarray, guess: np.ndarray) -> np.ndarray:
    """Shares out of counts, where these are few out of a guess."""
    return (seen + _WEIGHT * guess) / (seen.sum() + _WEIGHT)  # type: ignore[no-any-return]


def _symbols(motion: np.ndarray) -> np.ndarray:
    return motion - predicted(motion) + 2 * MAX_MOTION
