"""What a stream accepts: its frames, and the parameters of its session."""

from typing import Any

import numpy as np

from pvsc_link.semantic.intra import IntraModel
from pvsc_link.semantic.refresh import check_refresh
from pvsc_link.semantic.side_information import SIDE_FORMATS
from pvsc_link.types import InputError


def checked_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """The frame as float32 in [0, 1]; raises ``InputError`` for anything else."""
    pixels = np.asarray(frame)
    allowed = f"uint8, or float in [0, 1] without NaN, of shape {(height, width, 3)}"
    remedy = "Scale to [0, 1], pad to the session's size, and pass one frame at a time."
    if pixels.shape != (height, width, 3):
        raise InputError(
            "frame of a wrong shape", found=pixels.shape, allowed=allowed, remedy=remedy
        )
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255.0)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(
            "frame of a wrong type", found=pixels.dtype, allowed=allowed, remedy=remedy
        )
    low, high = pixels.min(), pixels.max()
    if not (low >= 0.0 and high <= 1.0):  # False for NaN as well
        raise InputError(
            "frame values out of range",
            found=(float(low), float(high)),
            allowed=allowed,
            remedy=remedy,
        )
    return pixels.astype(np.float32)


def check_session(
    intra: IntraModel,
    model: Any,
    height: int,
    width: int,
    omega_index: int,
    side_format: str,
    refresh_every: int = 0,
) -> None:
    """Raise ``InputError`` for session parameters that the models cannot serve."""
    multiple = max(intra.config.padding_multiple, model.config.padding_multiple)
    num_omega = min(intra.config.num_omega, model.config.num_omega)
    checks = (
        (
            min(height, width) > 0 and height % multiple == 0 and width % multiple == 0,
            ("frame size is not padded", (height, width), f"multiples of {multiple}"),
        ),
        (
            0 <= omega_index < num_omega,
            ("quality preset does not exist", omega_index, f"0 to {num_omega - 1}"),
        ),
        (
            side_format in SIDE_FORMATS,
            ("unknown side_format", side_format, SIDE_FORMATS),
        ),
    )
    for passed, (what, found, allowed) in checks:
        if not passed:
            raise InputError(what, found=found, allowed=allowed, remedy="Change the session.")
    check_refresh(refresh_every)
