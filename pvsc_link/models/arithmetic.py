"""A receiver that computes otherwise than its transmitter (Fig. 1): the same weights, other floats.

Two devices, two libraries or two builds round differently. Here one machine plays both: the
receiver's networks run at another precision, or compiled by XLA, which keeps float32 but adds in
another order, as another vendor's kernels would.
"""

from dataclasses import dataclass
from typing import Any

from pvsc_link.types import InputError

SAME = "same"


@dataclass(frozen=True)
class Arithmetic:
    """``dtype`` : Keras' dtype policy, None: the transmitter's; ``xla`` : compiled by XLA."""

    dtype: str | None = None
    xla: bool = False


ARITHMETICS: dict[str, Arithmetic] = {
    SAME: Arithmetic(),
    "xla": Arithmetic(xla=True),
    "bfloat16": Arithmetic("mixed_bfloat16"),
    "float16": Arithmetic("mixed_float16"),
}


def find_arithmetic(name: str) -> Arithmetic:
    """The arithmetic of a name. Raises ``InputError`` for one that ``ARITHMETICS`` lacks."""
    if name not in ARITHMETICS:
        raise InputError(
            "receiver_arithmetic",
            found=name,
            allowed=", ".join(ARITHMETICS),
            remedy="Leave the key out for a receiver that computes as the transmitter does.",
        )
    return ARITHMETICS[name]


def receiving(models: tuple[Any, Any], arithmetic: Arithmetic) -> tuple[Any, Any]:
    """The receiver's models: those given, or copies with equal weights at another precision.

    Input: ``models`` : that of I frames and that of P frames.
    """
    if arithmetic.dtype is None:
        return models
    intra, model = models
    return _copy(intra, arithmetic.dtype), _copy(model, arithmetic.dtype)


def _copy(model: Any, dtype: str) -> Any:
    copy = type(model)(model.config, dtype=dtype)
    copy.set_weights(model.get_weights())
    return copy
