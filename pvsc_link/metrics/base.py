"""The contract of a quality metric: frames in, one value per frame out."""

import abc
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from pvsc_link.types import InputError

#: VGG16 halves a frame four times; smaller frames have no last stage.
MIN_SIZE = 16

_TOLERANCE = 1e-6  # float32 rounding of a colour conversion


class Metric(abc.ABC):
    """A full-reference metric; ``reference`` is computed once and serves many ``compare`` calls.

    Attributes: ``name`` (key in scenarios), ``column`` (in the results), ``higher_is_better``,
    ``version`` (to be raised with any change that moves a value: cached values depend on it).
    """

    name: ClassVar[str]
    column: ClassVar[str]
    higher_is_better: ClassVar[bool]
    version: ClassVar[int]

    def __call__(self, frames: np.ndarray, frames_hat: np.ndarray) -> np.ndarray:
        """One value per frame, frame after frame, so that memory does not grow with the clip.

        Input: ``frames``, ``frames_hat`` : [batch, num_frames, height, width, 3], floating RGB
        in [0, 1], height and width >= 16. Output: [batch, num_frames], float32.
        Raises ``InputError`` on another shape or type, a value outside [0, 1], or NaN.
        """
        frames, frames_hat = checked_pair(frames, frames_hat, ndim=5)
        pairs = zip(
            frames.reshape(-1, *frames.shape[2:]),
            frames_hat.reshape(-1, *frames.shape[2:]),
            strict=True,
        )
        values = [self._compare(self._reference(frame), frame_hat) for frame, frame_hat in pairs]
        return np.array(values, np.float32).reshape(frames.shape[:2])

    def reference(self, frames: np.ndarray) -> list[Any]:
        """What this metric needs of each reference frame, reusable in :meth:`compare`.

        Input: ``frames`` : [num_frames, height, width, 3], floating RGB in [0, 1].
        Output: one entry per frame. Raises ``InputError`` as ``__call__`` does.
        """
        return [self._reference(frame) for frame in checked(frames, "frames", ndim=4)]

    def compare(self, reference: Sequence[Any], frames_hat: np.ndarray) -> np.ndarray:
        """Values [num_frames], float32, of ``frames_hat`` against a result of ``reference``.

        Input: ``frames_hat`` : [num_frames, height, width, 3], floating RGB in [0, 1].
        Raises ``InputError`` as ``__call__`` does, and if the numbers of frames differ.
        """
        frames_hat = checked(frames_hat, "frames_hat", ndim=4)
        if len(reference) != len(frames_hat):
            raise InputError(
                "reference and frames_hat differ in number of frames",
                found=len(frames_hat),
                allowed=len(reference),
                remedy="Compare each frame with its own reference.",
            )
        pairs = zip(reference, frames_hat, strict=True)
        return np.array([self._compare(r, f) for r, f in pairs], np.float32)

    @staticmethod
    def reference_num_bytes(reference: Any) -> int:
        """Memory that one entry of ``reference`` holds, in bytes."""
        arrays = reference if isinstance(reference, (list, tuple)) else [reference]
        return sum(int(array.nbytes) for array in arrays)

    @abc.abstractmethod
    def _reference(self, frame: np.ndarray) -> Any:
        """What is needed of one checked float32 frame [height, width, 3]."""

    @abc.abstractmethod
    def _compare(self, reference: Any, frame_hat: np.ndarray) -> float:
        """Value of one checked float32 frame [height, width, 3]."""


def checked_pair(
    frames: np.ndarray, frames_hat: np.ndarray, *, ndim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both as float32, or ``InputError``: shape, type, range, NaN, or unequal shapes."""
    frames, frames_hat = checked(frames, "frames", ndim), checked(frames_hat, "frames_hat", ndim)
    if frames.shape != frames_hat.shape:
        raise InputError(
            "frames and frames_hat differ in shape",
            found=frames_hat.shape,
            allowed=f"{frames.shape}, the shape of frames",
            remedy="Crop the padding before measuring.",
        )
    return frames, frames_hat


def checked(frames: np.ndarray, name: str, ndim: int) -> np.ndarray:
    """``frames`` as float32, or ``InputError``: shape, type, range, NaN."""
    frames = np.asarray(frames)
    lead = ("batch", "num_frames")[5 - ndim :]
    if frames.ndim != ndim or frames.shape[-1] != 3 or 0 in frames.shape:
        raise InputError(
            f"{name} has the wrong shape",
            found=frames.shape,
            allowed=f"[{', '.join(lead)}, height, width, 3], none of them 0",
            remedy="Add the missing axes; colour comes last.",
        )
    if min(frames.shape[-3:-1]) < MIN_SIZE:
        raise InputError(
            f"{name} is too small for VGG16",
            found=frames.shape[-3:-1],
            allowed=f"height and width of at least {MIN_SIZE}",
            remedy="Measure larger frames.",
        )
    if not np.issubdtype(frames.dtype, np.floating):
        raise InputError(
            f"{name} has the wrong type",
            found=str(frames.dtype),
            allowed="floating point RGB in [0, 1]",
            remedy="Divide 8-bit frames by 255.",
        )
    low, high = float(frames.min()), float(frames.max())  # NaN if there is any
    if not (low >= -_TOLERANCE and high <= 1.0 + _TOLERANCE):
        raise InputError(
            f"{name} has values that are no colour",
            found=f"[{low:g}, {high:g}]",
            allowed="[0, 1], no NaN",
            remedy="Clip to [0, 1]; divide 8-bit frames by 255; look for the NaN's origin.",
        )
    return frames.astype(np.float32, copy=False)
