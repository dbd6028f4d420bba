"""Integer pmf tables of y_bar: N(0, sigma^2) * U(-1/2, 1/2) of eq. 13 on a grid of sigmas.

The range coder of y_bar needs integers at both ends. sigma is a float that the networks compute:
it only picks a table, the nearest of ``NUM_SCALES``, geometrically spaced. A step of 4.5 % costs
less than a thousandth of the bits.
"""

import functools

import numpy as np
from scipy.special import ndtr

from pvsc_link.semantic.hyperprior import MIN_SIGMA
from pvsc_link.semantic.range_coding import TOTAL, MessageReader, Part, quantise_pmf
from pvsc_link.types import InputError

NUM_SCALES, MAX_SIGMA = 160, 128.0
SCALES = np.geomspace(MIN_SIGMA, MAX_SIGMA, NUM_SCALES)
_EDGES = np.sqrt(SCALES[1:] * SCALES[:-1])
#: An escaped value is sent as it is, in two symbols of this many values.
_HALF = 256
_LARGEST = _HALF * _HALF // 2 - 1
_HALF_TABLE = np.full(_HALF, TOTAL // _HALF)
#: What lies further out in both tails together than one count of the table is escaped.
_TAIL = 0.5 / TOTAL


def scale_index(sigma: np.ndarray) -> np.ndarray:
    """The table of each standard deviation: int, shape of ``sigma``, below ``NUM_SCALES``.

    A sigma that is not a number takes the widest table: arithmetic that overflows must not stop
    the coder.
    """
    return np.searchsorted(_EDGES, np.asarray(sigma, np.float64))


@functools.cache
def table(index: int) -> tuple[int, np.ndarray]:
    """Reach r and counts [2 r + 2] of one scale: -r to r, then the escape."""
    sigma = SCALES[index]
    reach = 1
    while 2.0 * ndtr(-(reach + 0.5) / sigma) > _TAIL:
        reach += 1
    edges = np.arange(-reach, reach + 2) - 0.5
    inside = np.diff(ndtr(edges / sigma))
    counts = quantise_pmf(np.append(inside, 2.0 * ndtr(edges[0] / sigma)))
    counts.setflags(write=False)
    return reach, counts


def latent_parts(values: np.ndarray, sigma: np.ndarray) -> list[Part]:
    """What the range coder is given of one block of y_bar: one part a scale, then the escapes.

    Input: ``values`` : [n], int; ``sigma`` : [n], float. ``read_latent`` is the inverse.
    Raises ``InputError`` for a value that not even an escape can carry.
    """
    if values.size and np.abs(values).max() > _LARGEST:
        raise InputError(
            "latent out of range",
            found=int(np.abs(values).max()),
            allowed=f"-{_LARGEST} to {_LARGEST}",
            remedy="The weights have run away: use others.",
        )
    parts, escaped = [], []
    for scale, members in _by_scale(sigma):
        reach, counts = table(scale)
        mine = values[members]
        outside = np.abs(mine) > reach
        parts.append((np.where(outside, 2 * reach + 1, mine + reach), counts))
        escaped.append(mine[outside])
    raw = np.concatenate([*escaped, np.zeros(0, int)]) + _LARGEST
    return [*parts, (raw // _HALF, _HALF_TABLE), (raw % _HALF, _HALF_TABLE)]


def read_latent(reader: MessageReader, sigma: np.ndarray) -> np.ndarray:
    """One block of y_bar: int64 [n], from the parts that ``latent_parts`` made of it.

    Raises ``SideInformationError`` where the message does not fit the tables.
    """
    values = np.zeros(sigma.size, np.int64)
    escaped = []
    for scale, members in _by_scale(sigma):
        reach, counts = table(scale)
        symbols = reader.read(len(members), counts)
        values[members] = symbols - reach
        escaped.append(members[symbols > 2 * reach])
    places = np.concatenate([*escaped, np.zeros(0, int)])
    high, low = (reader.read(len(places), _HALF_TABLE).astype(np.int64) for _ in range(2))
    values[places] = _HALF * high + low - _LARGEST
    return values


def _by_scale(sigma: np.ndarray) -> list[tuple[int, np.ndarray]]:
    """(scale, places of its members), in the order of scales and then of places."""
    index = scale_index(sigma)
    order = np.argsort(index, kind="stable")
    scales, first = np.unique(index[order], return_index=True)
    groups = np.split(order, first[1:])
    return [(int(scale), members) for scale, members in zip(scales, groups, strict=True)]
