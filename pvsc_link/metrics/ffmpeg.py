"""VMAF and XPSNR by the filters of FFmpeg (``libvmaf``, ``xpsnr``), one call per pair of clips.

The binary is that of ``imageio-ffmpeg``, or the one that ``IMAGEIO_FFMPEG_EXE`` names. Both clips
are given as raw 8-bit 4:2:0 video (``psnr.yuv420_planes``) in temporary files, and the values of
the frames are read from the filter's log.
"""

import abc
import functools
import json
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import imageio_ffmpeg
import numpy as np

from pvsc_link.metrics.base import ClipMetric, ClipReference
from pvsc_link.metrics.external import run_measuring
from pvsc_link.metrics.psnr import PSNR_CAP_DB, yuv420_planes
from pvsc_link.types import CodecFailure, InputError

_QUERY_TIMEOUT_S = 60.0
_TIMEOUT_S = 3600.0
_FRAMES, _FRAMES_HAT, _LOG = "frames.yuv", "frames_hat.yuv", "log"


class FilterMetric(ClipMetric):
    """A filter of FFmpeg that compares two clips and logs a value per frame.

    Attributes: ``filter_name`` : as ``ffmpeg -filters`` lists it; ``fps`` : frames per second that
    FFmpeg is told of both clips.
    Raises ``InputError`` if FFmpeg or the filter is absent, and ``CodecFailure`` if it fails.
    """

    filter_name: ClassVar[str]
    fps: float = 25.0

    def require(self) -> None:
        if self.filter_name not in _filters(_binary()):
            raise InputError(
                f"FFmpeg without the filter {self.filter_name}",
                found=f"{_binary()}, version {self.build()}",
                allowed=f"a build with {self.filter_name}, as in imageio-ffmpeg 0.8.1",
                remedy="Run pip install -U imageio-ffmpeg, let IMAGEIO_FFMPEG_EXE name another "
                "FFmpeg, or leave the metric out.",
            )

    def build(self) -> str:
        """The version of FFmpeg, because another libvmaf may give slightly other values."""
        return _version(_binary())

    @abc.abstractmethod
    def graph(self) -> str:
        """The filter with its options: input 0 is the shown clip, input 1 the reference."""

    @abc.abstractmethod
    def values(self, log: str) -> list[Any]:
        """Values of the frames out of the filter's log."""

    def _clip_reference(self, frames: Iterator[np.ndarray]) -> list[np.ndarray]:
        return _raw(frames)

    def _compare_clip(
        self, reference: list[np.ndarray], frames_hat: Iterator[np.ndarray]
    ) -> list[Any]:
        self.require()
        size, samples = reference
        size_hat, samples_hat = _raw(frames_hat)
        if not np.array_equal(size, size_hat):
            raise InputError(
                "reference and frames_hat differ in size",
                found=tuple(size_hat),
                allowed=tuple(size),
                remedy="Crop the padding before measuring.",
            )
        with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
            samples.tofile(Path(folder, _FRAMES))
            samples_hat.tofile(Path(folder, _FRAMES_HAT))
            log = self._run(folder, *map(int, size))
        values = self._read(log)
        if len(values) != len(samples):
            detail = f"{self.filter_name} gave {len(values)} values of {len(samples)} frames"
            raise CodecFailure("codec_error", detail)
        return values

    def _run(self, folder: str, height: int, width: int) -> str:
        command = [_binary(), "-hide_banner", "-nostdin", "-v", "error"]
        for name in (_FRAMES_HAT, _FRAMES):
            command += ["-f", "rawvideo", "-pix_fmt", "yuv420p", "-s", f"{width}x{height}"]
            command += ["-r", f"{self.fps:g}", "-i", name]
        command += ["-filter_complex", self.graph(), "-f", "null", "-"]
        run_measuring(command, folder, self.filter_name, _TIMEOUT_S)
        log = Path(folder, _LOG)
        if not log.is_file():
            raise CodecFailure("codec_error", f"{self.filter_name} wrote no log")
        return log.read_text(errors="replace")

    def _read(self, log: str) -> list[Any]:
        try:
            return self.values(log)
        except (ValueError, KeyError, TypeError) as error:
            detail = f"the log of {self.filter_name} cannot be read: {error!r}"
            raise CodecFailure("codec_error", detail) from error


class Vmaf(FilterMetric):
    """Video multi-method assessment fusion (Netflix), model ``vmaf_v0.6.1``, 0 to 100.

    The model was made for 1080p on a television set at three times its height. It sees luma only.
    The value of a frame rests on both its neighbours through the motion between them. Identical
    frames give less than 100 where they do not move.
    """

    filter_name = "libvmaf"
    shared_run = "libvmaf"
    model: ClassVar[str] = "vmaf_v0.6.1"
    # libvmaf reads outside of its memory below (16x16: segmentation fault).
    smallest_side = 17

    def graph(self) -> str:
        return _vmaf_graph(f"version={self.model}")

    def values(self, log: str) -> list[Any]:
        return [float(metrics["vmaf"]) for metrics in _vmaf_frames(log)]

    def compare_together(
        self,
        metrics: Sequence[ClipMetric],
        reference: Sequence[ClipReference],
        frames_hat: Sequence[np.ndarray] | np.ndarray,
    ) -> list[np.ndarray]:
        """One run of the filter with the models of all ``metrics``."""
        models = [metric.model for metric in metrics if isinstance(metric, Vmaf)]
        return list(_VmafModels(models).compare(reference, frames_hat).T)


class VmafNeg(Vmaf):
    """VMAF without enhancement gain (``vmaf_v0.6.1neg``): sharpening is not rewarded."""

    model = "vmaf_v0.6.1neg"


class _VmafModels(Vmaf):
    """Several models in one run: ``compare`` gives [num_frames, num_models]."""

    def __init__(self, models: Sequence[str]):
        self._models = models

    def graph(self) -> str:
        # FFmpeg separates models by | and the options of one model by an escaped colon.
        named = (rf"version={model}\:name=model{i}" for i, model in enumerate(self._models))
        return _vmaf_graph("|".join(named))

    def values(self, log: str) -> list[Any]:
        columns = [f"model{i}" for i in range(len(self._models))]
        return [[float(metrics[c]) for c in columns] for metrics in _vmaf_frames(log)]


def _vmaf_graph(models: str) -> str:
    threads = os.cpu_count() or 1
    options = f"model='{models}':n_threads={threads}:log_fmt=json:log_path={_LOG}"
    return f"[0:v][1:v]libvmaf={options}"


def _vmaf_frames(log: str) -> list[dict[str, Any]]:
    """Values of every frame by name, in the order of the frames."""
    frames = sorted(json.loads(log)["frames"], key=lambda frame: frame["frameNum"])
    return [frame["metrics"] for frame in frames]


class Xpsnr(FilterMetric):
    """Extended perceptually weighted PSNR of luma in dB (Helmrich et al., ICASSP 2020).

    Squared errors of blocks are weighted by the reference's activity in space and in time. In time
    that is the first difference of the reference frames below 32 frames per second, and the second
    difference from there on, so that a value rests on one or two reference frames before. A picture
    of less than 45x45 pixels would get its plain PSNR. Identical frames give 100 dB.

    Parameters: ``fps`` : frames per second of the clips; only on which side of 32 it lies matters.
    """

    filter_name = "xpsnr"
    smallest_side = 45
    #: The filter compares the whole number of frames per second with this.
    second_differences_from: ClassVar[float] = 32.0

    def __init__(self, fps: float = FilterMetric.fps):
        self.fps = fps

    def at_frame_rate(self, fps: float) -> "Xpsnr":
        return Xpsnr(fps) if fps >= self.second_differences_from else Xpsnr()

    def build(self) -> str:
        """The version of FFmpeg, and that second differences are taken."""
        second = ", second differences" if self.fps >= self.second_differences_from else ""
        return super().build() + second

    def graph(self) -> str:
        return f"[1:v][0:v]xpsnr=stats_file={_LOG}"  # the reference first

    def values(self, log: str) -> list[Any]:
        found = re.findall(r"^n: *\d+ +XPSNR y: *(\S+)", log, re.MULTILINE)
        return [min(float(value), PSNR_CAP_DB) for value in found]


def _raw(frames: Iterator[np.ndarray]) -> list[np.ndarray]:
    """Even height and width [2], and samples uint8 [num_frames, bytes of a frame], 4:2:0."""
    size, rows = np.zeros(2, np.int64), []
    for frame in frames:
        planes = yuv420_planes(frame)
        size = np.array(planes[0].shape)
        rows.append(np.concatenate([plane.ravel() for plane in planes]))
    return [size, np.stack(rows)]


def _binary() -> str:
    try:
        return imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise InputError(
            "no FFmpeg for VMAF and XPSNR",
            found=str(error),
            allowed="the one of imageio-ffmpeg, or one that IMAGEIO_FFMPEG_EXE names",
            remedy="Run pip install imageio-ffmpeg, or leave these metrics out.",
        ) from error


@functools.cache
def _filters(binary: str) -> frozenset[str]:
    """Names of the filters that a FFmpeg has."""
    lines = (line.split() for line in _asked(binary, "-filters").splitlines())
    return frozenset(words[1] for words in lines if len(words) > 2)


@functools.cache
def _version(binary: str) -> str:
    words = _asked(binary, "-version").split()
    return words[2] if len(words) > 2 else "unknown"


def _asked(binary: str, question: str) -> str:
    command = [binary, "-hide_banner", question]
    try:
        done = subprocess.run(command, capture_output=True, timeout=_QUERY_TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(
            "FFmpeg does not answer",
            found=f"{binary} ({error})",
            allowed="a program that can be run",
            remedy="Install imageio-ffmpeg again, or correct IMAGEIO_FFMPEG_EXE.",
        ) from error
    return done.stdout.decode(errors="replace")
