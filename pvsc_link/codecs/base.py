"""The contract of a separated source codec, its checks, and the running of encoders as programs."""

import abc
import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np

from pvsc_link.codecs.session_facts import parameter_sets
from pvsc_link.types import CodecFailure, EncodedGop, InputError

__all__ = ["Codec", "CodecFailure", "check_frames", "check_rate", "run_program"]


class Codec(abc.ABC):
    """Turns one GOP into a closed, self-contained bitstream and its error-free reconstruction.

    A codec of one's own states the first three attributes, and those of the others that differ
    from the default.

    Attributes
    ----------
    name : scheme name in the results table, e.g. ``x265``
    variant : labelled setting, e.g. ``psy``; rows of different variants are different systems
    allowed_rates : rates (QP) that :meth:`encode` takes
    default_rates : rates of ``rates: all`` in a scenario; None: the common ones that are allowed
    stream_format : ``h264``, ``hevc`` or ``vvc`` if libav decodes the bitstream, else None
    history_frames : number of source frames before the GOP that :meth:`encode` takes as
        ``history``, for a codec whose prefilter looks at them; the GOP is closed all the same
    weights_id : digest of trained weights, or None
    content : of bitstreams that the codec looks up instead of making them, a digest by the name
        of each; a sweep refuses to mix rows of two bitstreams of one name
    status : what stands in the rows of this codec: ``ok``, or ``untrained``
    """

    name: str
    variant: str
    allowed_rates: Sequence[int]
    default_rates: Sequence[int] | None = None
    stream_format: str | None = None
    history_frames: int = 0
    weights_id: str | None = None
    content: Mapping[str, str] = MappingProxyType({})
    status: str = "ok"

    @property
    @abc.abstractmethod
    def version(self) -> str:
        """Versions of encoder and libraries, for the manifest and the cache."""

    @abc.abstractmethod
    def describe(self, rate: int) -> str:
        """Literal codec options at ``rate``, as one would type them."""

    @abc.abstractmethod
    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) or ``InputError`` before any work is done."""

    @abc.abstractmethod
    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """Code one closed GOP.

        Parameters: ``fps`` : frames per second; ``rate`` : QP, one of ``allowed_rates``;
        ``clip``, ``first_frame`` : name of the clip and index of the GOP's first frame, which
        only codecs that look streams up use.
        Input: ``frames`` : [num_frames, height, width, 3], uint8 RGB.
        Output: ``EncodedGop``, deterministic for equal input.
        Raises ``CodecFailure``, or ``InputError`` for a rate that the codec does not have.
        """

    def fact_spans(self, payload: bytes) -> tuple[tuple[int, int], ...]:
        """Which bytes of a GOP's bitstream are session facts, as pairs of first byte and end.

        Here: the parameter sets of the formats of ``stream_format`` (``session_facts``). They are
        all in the first frame.
        """
        return parameter_sets(payload, self.stream_format)


def check_rate(codec: Codec, rate: int) -> None:
    """Raise ``InputError`` for a rate outside the codec's ``allowed_rates``."""
    if rate in codec.allowed_rates:
        return
    rates = codec.allowed_rates
    span = f"{rates[0]} to {rates[-1]}" if isinstance(rates, range) else str(list(rates))
    raise InputError(
        f"rate of {codec.name}", found=rate, allowed=span, remedy="Choose QPs that it has."
    )


def check_frames(frames: np.ndarray) -> None:
    """Raise ``InputError`` unless ``frames`` is [num_frames, height, width, 3], uint8."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or not frames.size:
        raise InputError(
            "frames of one GOP",
            found=f"{frames.dtype} {frames.shape}",
            allowed="uint8 [num_frames, height, width, 3], not empty",
            remedy="Pass 8-bit RGB frames, for example Video.frames.",
        )


#: Characters at the end of a failed program's output that go into the error message.
_END_CHARS = 800


def run_program(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """Run a program to its end and return (stdout, stderr).

    The program leads a process group of its own. The whole group is killed at the time limit and
    when the caller is interrupted; otherwise worker processes of the program would go on.
    Parameters: ``env`` : the program's environment (default: the caller's).
    Raises ``CodecFailure``: ``missing_binary`` when the program does not start, ``codec_timeout``
    after ``timeout_s`` seconds, ``codec_error`` for any exit status but 0, with the end of its
    output.
    """
    program = Path(argv[0]).name
    pipe = subprocess.PIPE
    try:
        process = subprocess.Popen(
            argv, stdin=pipe, stdout=pipe, stderr=pipe, cwd=cwd, env=env, start_new_session=True
        )
    except OSError as error:
        raise CodecFailure("missing_binary", f"{program} does not start: {error}") from error
    with process:
        try:
            stdout, stderr = process.communicate(stdin, timeout=timeout_s)
        except subprocess.TimeoutExpired as error:
            _kill_group(process)
            said = _end_of(*process.communicate())
            detail = f"{program}: killed after {timeout_s} s" + (f": {said}" if said else "")
            raise CodecFailure("codec_timeout", detail) from error
        except BaseException:
            _kill_group(process)
            raise
    if process.returncode:
        said = _end_of(stdout, stderr)
        raise CodecFailure("codec_error", f"{program}: exit status {process.returncode}: {said}")
    return stdout, stderr.decode(errors="replace")


def _kill_group(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _end_of(stdout: bytes, stderr: bytes) -> str:
    return (stdout + stderr).decode(errors="replace").strip()[-_END_CHARS:]
