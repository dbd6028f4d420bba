"""The contract of a quality metric: frames in, one value per frame out.

A ``Metric`` measures each frame by itself. A ``ClipMetric`` measures a clip as a whole, because the
value of a frame also depends on its neighbours.
"""

import abc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from pvsc_link.types import InputError

#: Smallest height and width that VGG16 can take: it halves a frame four times.
VGG_SMALLEST_SIDE = 16
#: Shortest clip with two of FVD's windows of 16 frames, which begin at every 8th frame.
FVD_FEWEST_FRAMES = 24

_TOLERANCE = 1e-6  # float32 rounding of a colour conversion


class Metric(abc.ABC):
    """A full-reference metric; ``reference`` is computed once and serves many ``compare`` calls.

    A metric of one's own is a subclass with ``_reference`` and ``_compare``; ``METRICS`` gives it
    a name, a label and a direction (``MetricType``).

    Attributes: ``version`` : to be raised with any change that moves a value, because cached
    values depend on it; ``smallest_side`` : smallest height and width in pixels that it takes;
    ``of_clip`` : whether a clip is measured as a whole (``ClipMetric``); ``fewest_frames`` :
    shortest clip that it takes; ``in_threads`` : whether threads may compare frames at once.
    """

    version: int = 1
    smallest_side: ClassVar[int] = 1
    of_clip: ClassVar[bool] = False
    fewest_frames: ClassVar[int] = 1
    in_threads: ClassVar[bool] = False

    def require(self) -> None:  # noqa: B027, most metrics need nothing
        """Raise ``InputError`` if this machine lacks what the metric needs, such as weights."""

    def __call__(self, frames: np.ndarray, frames_hat: np.ndarray) -> np.ndarray:
        """One value per frame, frame after frame, so that memory does not grow with the clip.

        Input: ``frames``, ``frames_hat`` : [batch, num_frames, height, width, 3], floating RGB
        in [0, 1]. Output: [batch, num_frames], float32.
        Raises ``InputError`` on another shape or type, a value outside [0, 1], or NaN.
        """
        frames = self._checked(frames, "frames", ndim=5)
        frames_hat = self._checked(frames_hat, "frames_hat", ndim=5)
        _require_same_shape(frames, frames_hat)
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
        return [self._reference(frame) for frame in self._checked(frames, "frames", ndim=4)]

    def compare(self, reference: Sequence[Any], frames_hat: np.ndarray) -> np.ndarray:
        """Values [num_frames], float32, of ``frames_hat`` against a result of ``reference``.

        Input: ``frames_hat`` : [num_frames, height, width, 3], floating RGB in [0, 1].
        Raises ``InputError`` as ``__call__`` does, and if the numbers of frames differ.
        """
        frames_hat = self._checked(frames_hat, "frames_hat", ndim=4)
        if len(reference) != len(frames_hat):
            raise InputError(
                "reference and frames_hat differ in number of frames",
                found=len(frames_hat),
                allowed=len(reference),
                remedy="Compare each frame with its own reference.",
            )
        pairs = zip(reference, frames_hat, strict=True)
        return np.array([self._compare(r, f) for r, f in pairs], np.float32)

    def _checked(self, frames: np.ndarray, name: str, ndim: int) -> np.ndarray:
        """``frames`` as float32; raises ``InputError`` for what this metric cannot measure."""
        frames = checked(frames, name, ndim)
        if min(frames.shape[-3:-1]) < self.smallest_side:
            raise InputError(
                f"{name} is too small for {type(self).__name__}",
                found=frames.shape[-3:-1],
                allowed=f"height and width of at least {self.smallest_side}",
                remedy="Measure larger frames.",
            )
        return frames

    @staticmethod
    def reference_num_bytes(reference: Any) -> int:
        """Memory that one entry of ``reference`` holds, in bytes."""
        value = reference.value if isinstance(reference, ClipReference) else reference
        arrays = value if isinstance(value, (list, tuple)) else [value]
        return sum(int(array.nbytes) for array in arrays)

    @abc.abstractmethod
    def _reference(self, frame: np.ndarray) -> Any:
        """What is needed of one checked float32 frame [height, width, 3]."""

    @abc.abstractmethod
    def _compare(self, reference: Any, frame_hat: np.ndarray) -> float:
        """Value of one checked float32 frame [height, width, 3]."""


@dataclass(frozen=True)
class ClipReference:
    """What a clip metric keeps of a reference clip of ``num_frames`` frames."""

    num_frames: int
    value: Any  # of ``ClipMetric._clip_reference``: an array, or a list of arrays


class ClipMetric(Metric):
    """A full-reference metric whose values depend on more than one pair of frames.

    The result is still one value per frame, and the value of a clip is the mean over its frames.
    Cutting a clip elsewhere changes values near the cut. A metric that compares a frame with the
    one before has no value of its own for the first frame: it writes the mean of the others there,
    so that the mean over frames is the mean over pairs. Where there is no pair at all the value is
    NaN.

    A metric of one's own is a subclass with ``_clip_reference`` and ``_compare_clip``. Both get the
    frames one by one, so that a long clip need not be in memory as floating point numbers.
    """

    of_clip = True
    #: Metrics that name the same run here can be measured by one call of ``compare_together``.
    shared_run: ClassVar[str] = ""

    def build(self) -> str:
        """What values depend on beside the frames and ``version``: a program and its version."""
        return ""

    def at_frame_rate(self, fps: float) -> "ClipMetric":
        """The metric for clips of ``fps`` frames per second; itself where the rate has no effect.

        A metric whose values depend on the frame rate says so in ``build`` too.
        """
        return self

    def compare_together(
        self,
        metrics: "Sequence[ClipMetric]",
        reference: Sequence[ClipReference],
        frames_hat: Sequence[np.ndarray] | np.ndarray,
    ) -> list[np.ndarray]:
        """Values of several metrics of one ``shared_run``, each as :meth:`compare` gives them."""
        return [metric.compare(reference, frames_hat) for metric in metrics]

    def __call__(self, frames: np.ndarray, frames_hat: np.ndarray) -> np.ndarray:
        frames = self._checked(frames, "frames", ndim=5)
        frames_hat = self._checked(frames_hat, "frames_hat", ndim=5)
        _require_same_shape(frames, frames_hat)
        pairs = zip(frames, frames_hat, strict=True)
        return np.stack([self.compare(self.reference(a), b) for a, b in pairs])

    def reference(self, frames: Sequence[np.ndarray] | np.ndarray) -> list[ClipReference]:
        """What this metric needs of a reference clip, reusable in :meth:`compare`.

        Input: ``frames`` : [num_frames, height, width, 3], or a sequence of its frames; floating
        RGB in [0, 1]. Output: a list of one entry. Raises ``InputError`` as ``__call__`` does, and
        for a clip of less than ``fewest_frames``.
        """
        if len(frames) < self.fewest_frames:
            raise InputError(
                "the clip is too short for the metric",
                found=f"{len(frames)} frames",
                allowed=f"at least {self.fewest_frames}",
                remedy="Measure a longer clip, or leave the metric out.",
            )
        return [ClipReference(len(frames), self._clip_reference(self._each(frames, "frames")))]

    def compare(
        self, reference: Sequence[ClipReference], frames_hat: Sequence[np.ndarray] | np.ndarray
    ) -> np.ndarray:
        """Values [num_frames], float32, of ``frames_hat`` against a result of ``reference``.

        Input: ``frames_hat`` : as in :meth:`reference`. Raises ``InputError`` as ``__call__`` does,
        and if the numbers of frames differ.
        """
        (clip,) = reference
        if clip.num_frames != len(frames_hat):
            raise InputError(
                "reference and frames_hat differ in number of frames",
                found=len(frames_hat),
                allowed=clip.num_frames,
                remedy="Compare a clip with its own reference.",
            )
        values = self._compare_clip(clip.value, self._each(frames_hat, "frames_hat"))
        return np.asarray(values, np.float32)

    def _each(self, frames: Iterable[np.ndarray], name: str) -> Iterator[np.ndarray]:
        for frame in frames:
            yield self._checked(np.asarray(frame)[None], name, ndim=4)[0]

    def _reference(self, frame: np.ndarray) -> Any:
        return self._clip_reference(iter([frame]))

    def _compare(self, reference: Any, frame_hat: np.ndarray) -> float:
        return float(self._compare_clip(reference, iter([frame_hat]))[0])

    @abc.abstractmethod
    def _clip_reference(self, frames: Iterator[np.ndarray]) -> Any:
        """What is needed of a clip, given as checked float32 frames [height, width, 3]."""

    @abc.abstractmethod
    def _compare_clip(
        self, reference: Any, frames_hat: Iterator[np.ndarray]
    ) -> Sequence[float] | np.ndarray:
        """Values of a clip, one per frame, given as checked float32 frames [height, width, 3]."""


def _require_same_shape(frames: np.ndarray, frames_hat: np.ndarray) -> None:
    if frames.shape != frames_hat.shape:
        raise InputError(
            "frames and frames_hat differ in shape",
            found=frames_hat.shape,
            allowed=f"{frames.shape}, the shape of frames",
            remedy="Crop the padding before measuring.",
        )


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
