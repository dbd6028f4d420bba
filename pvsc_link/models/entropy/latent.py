"""z_hat and y_bar of one frame to a bitstream and back: the ideal branch, really coded (eq. 8-13).

    message = range coder( z_hat under the factorised prior, or given its neighbours,
                           vectors of motion, where the model has them,
                           y_bar of block 0 under sigma_0,
                           y_bar of block 1 under sigma_1 = E_s(..., y_bar_0 + mu_0), ... )

y_bar is coded under integer tables of N(0, sigma^2) * U(-1/2, 1/2) (eq. 13). sigma is a float that
the networks compute: it only picks one of ``NUM_SCALES`` tables, geometrically spaced by 4.5 %,
which costs less than a thousandth of the bits.

Both ends run over the blocks with the same functions on the same shapes, so on one machine they
hold equal numbers and pick equal tables. A decoder that rounds otherwise picks another table sooner
or later and reads nonsense from there on: that is the floating-point mismatch of Fig. 1.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from keras import ops
from scipy.special import ndtr

from pvsc_link.models.entropy.quantisation import symbol_bits
from pvsc_link.models.entropy.range_coder import (
    TOTAL,
    MessageReader,
    Part,
    encode,
    information,
    quantise_pmf,
)
from pvsc_link.models.entropy.side_information import hyper_parts
from pvsc_link.models.layers.base import Compiler, as_is
from pvsc_link.models.pvsc.hyperprior import MIN_SIGMA
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
    """One block of y_bar as parts for the range coder: one part a scale, then the escapes.

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


#: (w, mu_0, sigma_0), each [1, Hy, Wy, channels_y], as the networks give them.
Parameters: TypeAlias = tuple[Any, Any, Any]
#: y_bar of a block from (mu, sigma) of it, each [n, channels_y], and where it lies in the frame.
_BlockCoder: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CodedLatent:
    """One frame out of the range coder.

    ``y_tilde`` : [1, Hy, Wy, channels_y], float32, what the decoder will hold;
    ``estimated_bits`` : what training counts, eq. 8 and 13.
    """

    message: bytes
    y_tilde: np.ndarray
    estimated_bits: float


class LatentCoder:
    """Codes the latents of one kind of frame.

    Parameters: ``model`` : IntraModel or PvscModel; ``compiled`` : wraps each step once, e.g.
    ``tf.function``.
    """

    def __init__(self, model: Any, compiled: Compiler = as_is):
        self._model, self._prior = model, model.spatial_prior
        self._refine = [
            compiled(functools.partial(self._prior, block=block))
            for block in range(len(self._prior.masks(2, 2)))
        ]
        self._hyper_tables = functools.cache(model.hyper_tables)

    def encode(
        self,
        y: Any,
        z: np.ndarray,
        parameters: Parameters,
        omega_index: int,
        motion: np.ndarray | None = None,
    ) -> CodedLatent:
        """Range-code one frame at one quality preset.

        Input: ``y`` : [1, Hy, Wy, channels_y]; ``z`` : z_hat, [Hz, Wz, channels_z], int;
        ``parameters`` : of that z_hat; ``motion`` : [Hy, Wy, 2], int, or None. Raises
        ``InputError`` for latents that have run away.
        """
        parts = hyper_parts(z, self._hyper_tables(omega_index))
        moved = [] if motion is None else self._model.motion_prior.parts(motion)
        parts += moved
        normalised = _plain(y) / _plain(parameters[0])
        sent, spread = [], []

        def code(mu: np.ndarray, sigma: np.ndarray, here: np.ndarray) -> np.ndarray:
            y_bar = np.rint(normalised[here] - mu)
            parts.extend(latent_parts(y_bar.astype(np.int64).ravel(), sigma.ravel()))
            sent.append(y_bar)
            spread.append(sigma)
            return y_bar

        y_tilde = self._walk(parameters, code)
        estimate = self._estimate(z, np.concatenate(sent), np.concatenate(spread), omega_index)
        estimate += information(moved)
        return CodedLatent(encode(parts), y_tilde, estimate)

    def read_z(self, reader: MessageReader, shape: tuple[int, int], omega_index: int) -> np.ndarray:
        """z_hat : [Hz, Wz, channels_z], int32, the first part of a message."""
        tables = self._hyper_tables(omega_index)
        return tables.read(reader, shape)  # type: ignore[no-any-return]

    def read_y(self, reader: MessageReader, parameters: Parameters) -> np.ndarray:
        """y_tilde : [1, Hy, Wy, channels_y], float32, the rest of a message.

        Raises ``SideInformationError`` for a message that no encoder with these parameters makes:
        it was damaged, or this decoder is out of step.
        """

        def code(mu: np.ndarray, sigma: np.ndarray, here: np.ndarray) -> np.ndarray:
            values = read_latent(reader, sigma.ravel())
            return values.reshape(sigma.shape).astype(np.float32)

        y_tilde = self._walk(parameters, code)
        reader.finish()
        return y_tilde

    def _walk(self, parameters: Parameters, code: _BlockCoder) -> np.ndarray:
        """y_tilde of eq. 26, block by block: the one loop of both ends."""
        w, mu, sigma = map(_plain, parameters)
        known = np.zeros_like(w)
        for block, mask in enumerate(self._prior.masks(*w.shape[1:3])):
            if block:
                refined = self._refine[block](*parameters, ops.convert_to_tensor(known))
                mu, sigma = map(_plain, refined)
            here = mask[..., 0] > 0
            known[here] = code(mu[here], sigma[here], here) + mu[here]
        return w * known

    def _estimate(
        self, z: np.ndarray, y_bar: np.ndarray, sigma: np.ndarray, omega_index: int
    ) -> float:
        omega = ops.full((1,), omega_index, dtype="int32")
        bits_z = self._model.z_prior(z[None].astype(np.float32), omega)
        bits_y = symbol_bits(y_bar, sigma)
        return float(ops.sum(bits_z)) + float(np.sum(ops.convert_to_numpy(bits_y), dtype=float))


def _plain(values: Any) -> np.ndarray:
    """An output of a network as a float32 array, whatever the network computes in."""
    return ops.convert_to_numpy(ops.cast(values, "float32"))
