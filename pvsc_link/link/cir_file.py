"""Files of channel impulse responses, such as a ray tracer writes them. Loads no TensorFlow.

The scenario's check (``registry``) and the channel (``ofdm``) read them by the same function.
"""

import zipfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pvsc_link.storage import digest, read_arrays
from pvsc_link.types import InputError

_SLOT_SYMBOLS = 14
#: Longest delay in seconds, that of 300 km. A longer one is hardly in seconds.
_LONGEST_DELAY = 1e-3
#: What ``numpy.load`` raises for a file that is damaged or none of its own.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)
_ALLOWED = (
    "an NPZ file with a [num_examples, 1, num_rx, 1, 1, num_paths, num_time_steps], complex, and "
    "tau [num_examples, 1, 1, num_paths], float, seconds"
)


class ImpulseResponses(NamedTuple):
    """Impulse responses of a file, scaled as a whole to E|h|^2 = 1 over the subcarriers of a grid.

    ``a`` : [num_examples, num_rx, num_paths, num_time_steps], complex64, a time step per OFDM
    symbol, or one alone for a channel that does not move; ``tau`` : [num_examples, num_paths],
    float32, seconds
    """

    a: np.ndarray
    tau: np.ndarray


def file_digest(path: str | None) -> str | None:
    """Digest of a file's content; None where it cannot be read, which ``read_cir`` refuses."""
    try:
        return digest(Path(path or "").read_bytes())[:16]
    except (OSError, TypeError, ValueError):
        return None


def read_cir(
    path: str | None, num_rx: int, num_prb: int, subcarrier_spacing_khz: int
) -> ImpulseResponses:
    """Impulse responses in the layout of Sionna's ``CIRDataset``, of one transmit antenna.

    They are scaled to a mean power of 1 over examples, antennas, time steps and the subcarriers of
    the grid. Paths whose delays the grid cannot tell apart add with their phases, so this is not
    the sum of the powers of the paths.

    Raises ``InputError`` for a file that is missing, is no NPZ file or lacks an array, for shapes,
    dtypes and numbers of antennas that do not fit, for values that are not finite, delays that are
    negative or above 1 ms, and channels without power.
    """
    try:
        arrays = read_arrays(path or "", "a", "tau")
    except _UNREADABLE as error:
        raise _refused(path, f"{error}") from error
    a, tau = arrays["a"], arrays["tau"]
    if not (np.iscomplexobj(a) and np.issubdtype(tau.dtype, np.floating)):
        raise _refused(path, f"dtypes {a.dtype} and {tau.dtype}")
    examples, paths = tau.shape[0] if tau.ndim else 0, tau.shape[-1] if tau.ndim else 0
    fits = tau.shape == (examples, 1, 1, paths) and a.ndim == 7 and examples and paths
    if not (fits and a.shape == (examples, 1, num_rx, 1, 1, paths, a.shape[-1])):
        raise _refused(path, f"shapes a {a.shape}, tau {tau.shape}", f"num_rx = {num_rx}")
    if not a.shape[-1] or (a.shape[-1] > 1 and a.shape[-1] % _SLOT_SYMBOLS):
        raise _refused(path, f"{a.shape[-1]} time steps", "1 or a multiple of 14 time steps")
    power = float(np.mean(np.sum(np.abs(a) ** 2, axis=5)))
    if not (np.isfinite(power) and power > 0 and np.all(np.isfinite(tau)) and tau.min() >= 0):
        raise _refused(path, f"mean power {power:g}, delays from {tau.min():g} s", "finite values")
    if tau.max() > _LONGEST_DELAY:
        found, allowed = f"delays up to {tau.max():g} s", f"delays up to {_LONGEST_DELAY:g} s"
        raise _refused(path, found, allowed)
    frequencies = (np.arange(12 * num_prb) - 6 * num_prb) * subcarrier_spacing_khz * 1e3
    examples = zip(a[:, 0, :, 0, 0], tau[:, 0, 0], strict=True)
    in_band = float(np.mean([_power_in_band(one, delays, frequencies) for one, delays in examples]))
    if in_band < 1e-12 * power:
        raise _refused(path, "paths that cancel each other in the band of the grid")
    scaled = a[:, 0, :, 0, 0] / np.sqrt(in_band)
    return ImpulseResponses(scaled.astype(np.complex64), tau[:, 0, 0].astype(np.float32))


def _power_in_band(a: np.ndarray, delays: np.ndarray, frequencies: np.ndarray) -> float:
    """Mean of |h|^2 over antennas, time steps and frequencies.

    With the phases p(f) of the paths, h(f) = p(f)^T a, and the mean of |h|^2 is the sum over pairs
    of paths of a_i a_j^* times the mean of p_i p_j^* over f.

    Input: ``a`` : [num_rx, num_paths, num_time_steps]; ``delays`` : [num_paths], seconds.
    """
    phases = np.exp(-2j * np.pi * frequencies[:, None] * delays.astype(np.float64))
    together = phases.T @ phases.conj() / len(frequencies)
    pairs = np.einsum("rit,rjt->ij", a, a.conj()) / (a.shape[0] * a.shape[2])
    return float(np.sum(pairs * together).real)


def _refused(path: str | None, found: str, more: str = "") -> InputError:
    return InputError(
        f"cir_file {path}",
        found=found,
        allowed=f"{_ALLOWED}; {more}" if more else _ALLOWED,
        remedy="docs/channels.md says how to write such a file.",
    )
