"""Side-information bitstreams b_z and b_k (eq. 8, 9; section II-B2), real bytes both ways.

b_z: hyper-latents, range coded under the integer tables of the factorised prior, or given their
     neighbours (``hyper_latent``); then the motion vectors of the extension (``pvsc_mc.motion``).
b_k: the rate map of a frame (``rate_map``), in one of three formats, labelled in every result:

``png``      the paper's PNG, container and all;
``payload``  that PNG without the 57 bytes that both ends know;
``range``    beyond the paper: range coded under tables that both ends compute.

Neither stream carries sizes: frame size, C_z and format belong to the session. A damaged stream
raises ``SideInformationError``. Damage that leaves a legal stream cannot be detected here (a PNG
has CRC-32 and Adler-32, a payload Adler-32, range coding only its canonical form), so the link
protects them with a CRC.
"""

from typing import Protocol

import numpy as np

from pvsc_link.models.entropy.range_coder import (
    MessageReader,
    Part,
    SideInformationError,
    encode,
)
from pvsc_link.models.entropy.rate_map import deflate_map, inflate_map, unwrap_png, wrap_png
from pvsc_link.models.presets import SIDE_FORMATS
from pvsc_link.types import InputError


class HyperTables(Protocol):
    """Tables of z_hat: ``PmfTables``, or ``ContextTables`` where these are fitted."""

    @property
    def num_channels(self) -> int:
        """C_z."""

    def parts(self, z: np.ndarray) -> list[Part]:
        """z_hat [Hz, Wz, C_z] for the range coder, in coding order."""

    def read(self, reader: MessageReader, shape: tuple[int, int]) -> np.ndarray:
        """z_hat, int32 [Hz, Wz, C_z], out of what ``parts`` became."""


class MotionTables(Protocol):
    """Tables of motion vectors: ``MotionPrior``."""

    def parts(self, motion: np.ndarray) -> list[Part]:
        """Vectors [Hy, Wy, 2] for the range coder, in coding order."""

    def read(self, reader: MessageReader, shape: tuple[int, int]) -> np.ndarray:
        """The vectors, int32 [Hy, Wy, 2], out of what ``parts`` became."""


class MapTables(Protocol):
    """Tables of one frame's rate map: ``RateMapPrior.tables`` of its z_hat."""

    def parts(self, rate_index: np.ndarray) -> list[Part]:
        """The map [Hy, Wy] for the range coder, in coding order."""

    def read(self, reader: MessageReader) -> np.ndarray:
        """The map, int32 [Hy, Wy], out of what ``parts`` became."""


def hyper_parts(z_hat: np.ndarray, tables: HyperTables) -> list[Part]:
    """z_hat [Hz, Wz, C_z] for the range coder. Raises ``InputError`` for what is no z_hat."""
    z = np.asarray(z_hat)
    fits = z.ndim == 3 and z.shape[-1] == tables.num_channels
    if not fits or not np.issubdtype(z.dtype, np.integer):
        raise InputError(
            "hyper-latent does not fit its tables",
            found=f"{z.dtype} {z.shape}",
            allowed=f"integers [Hz, Wz, {tables.num_channels}]",
            remedy="Round z, take one frame, and pass the tables of its preset.",
        )
    return tables.parts(z)


def encode_hyper_latent(
    z_hat: np.ndarray, tables: HyperTables, moved: list[Part] | None = None
) -> bytes:
    """b_z of one frame (eq. 8).

    There is no escape for values beyond the tables: the model clips z to their support before
    it uses z_hat itself, so both ends hold what is sent.

    Input: ``z_hat`` : [Hz, Wz, C_z], int, inside the tables; ``tables`` : of its preset;
    ``moved`` : ``MotionTables.parts`` of the frame's vectors, where it has any.
    Output: bytes, at most 2 more than the information. Raises ``InputError`` for a value
    outside its table, a wrong shape or a bad table.
    """
    return encode(hyper_parts(z_hat, tables) + (moved or []))


def decode_hyper_latent(
    message: bytes,
    shape: tuple[int, int],
    tables: HyperTables,
    motion_tables: MotionTables | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """z_hat of a b_z (eq. 9), [Hz, Wz, C_z], int32, and the vectors, [4 Hz, 4 Wz, 2], int32.

    Parameters: ``shape`` : (Hz, Wz), from the frame size; ``tables`` : of its preset;
    ``motion_tables`` : None where the frame has no vectors, which are then None too.
    Raises ``SideInformationError`` for a truncated or corrupted message, as far as visible.
    """
    reader = MessageReader(message)
    z_hat = tables.read(reader, shape)
    height, width = shape
    motion = None if motion_tables is None else motion_tables.read(reader, (4 * height, 4 * width))
    reader.finish()
    return z_hat, motion


def _bit_depth(num_rates: int) -> int:
    if not 1 <= num_rates <= 256:
        raise InputError(
            "number of rates for a rate map",
            found=num_rates,
            allowed="1 to 256",
            remedy="Use a smaller rate set: a PNG of indices holds 8 bits.",
        )
    return 4 if num_rates <= 16 else 8


def _check_map(rate_index: np.ndarray, num_rates: int) -> np.ndarray:
    index = np.asarray(rate_index)
    legal = index.ndim == 2 and index.size and np.issubdtype(index.dtype, np.integer)
    if not legal or index.min() < 0 or index.max() >= num_rates:
        raise InputError(
            "not a rate map",
            found=f"{index.dtype} {index.shape}",
            allowed=f"integers [Hy, Wy] from 0 to {num_rates - 1}",
            remedy="Pass the index map of one frame and the size of its rate set.",
        )
    return index


def _check_format(side_format: str) -> None:
    if side_format not in SIDE_FORMATS:
        raise InputError(
            "side_format",
            found=side_format,
            allowed=SIDE_FORMATS,
            remedy="png is the paper's.",
        )


def _required(tables: MapTables | None) -> MapTables:
    if tables is None:
        raise InputError(
            "side_format 'range' needs tables of the rate map",
            found=None,
            allowed="RateMapPrior.tables of the frame's z_hat",
            remedy="Pass them, or choose side_format png or payload.",
        )
    return tables


def encode_rate_map(
    rate_index: np.ndarray,
    num_rates: int,
    side_format: str,
    tables: MapTables | None = None,
) -> bytes:
    """b_k of one frame (section II-B2).

    Parameters: ``num_rates`` : size of the rate set; ``side_format`` : one of SIDE_FORMATS.
    Input: ``rate_index`` : [Hy, Wy], int; ``tables`` : MapTables of this frame, for ``range`` only.
    Output: bytes. Raises ``InputError`` for an index outside the rate set, an unknown format,
    or missing tables.
    """
    _check_format(side_format)
    index = _check_map(rate_index, num_rates)
    if side_format == "range":
        return encode(_required(tables).parts(index))
    depth, (height, width) = _bit_depth(num_rates), index.shape
    payload = deflate_map(index, depth)
    return payload if side_format == "payload" else wrap_png(payload, height, width, depth)


def decode_rate_map(
    message: bytes,
    shape: tuple[int, int],
    num_rates: int,
    side_format: str,
    tables: MapTables | None = None,
) -> np.ndarray:
    """Rate map of a b_k: [Hy, Wy], int32; parameters as for ``encode_rate_map``.

    Parameters: ``shape`` : (Hy, Wy), from the frame size.
    Raises ``SideInformationError`` for a truncated or corrupted message, or an index outside
    the rate set.
    """
    _check_format(side_format)
    height, width = shape
    if side_format == "range":
        reader = MessageReader(message)
        index = _required(tables).read(reader)
        reader.finish()
        return index
    depth = _bit_depth(num_rates)
    payload = message if side_format == "payload" else unwrap_png(message, height, width, depth)
    index = inflate_map(payload, height, width, depth)
    if index.max() >= num_rates:
        raise SideInformationError(
            f"rate index {index.max()} outside the rate set of {num_rates} levels"
        )
    return index.astype(np.int32)
