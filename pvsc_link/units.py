"""dB and linear ratios: the only place with ``10 ** (x / 10)``."""

import math
from typing import Any


def db_to_linear(value_db: Any) -> Any:
    """Power ratio of a value in dB. Works on floats, arrays and tensors, shape kept.

    Parameters: ``value_db`` : any shape, dB. Output: same shape, linear power ratio.
    """
    return 10.0 ** (value_db / 10.0)


def linear_to_db(ratio: float) -> float:
    """Value in dB of a positive power ratio (float).

    Raises ``ValueError`` (from ``math.log10``) for a ratio that is not positive.
    """
    return 10.0 * math.log10(ratio)


def noise_variance(snr_db: Any) -> Any:
    """Noise variance N0 of a complex symbol of unit energy at ``snr_db`` = Es/N0 in dB (eq. 2)."""
    return 1.0 / db_to_linear(snr_db)
