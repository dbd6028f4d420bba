"""The contract of a separated source codec, and the checks that all of them share.

An encoder that is a program of its own: time limit, exit status, the end of what it said.
"""

import contextlib
import difflib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from pvsc_link.types import CodecFailure, EncodedGop, InputError

__all__ = [
    "Codec",
    "CodecFailure",
    "check_frames",
    "check_option",
    "check_rate",
    "history_argument",
]


class Codec(Protocol):
    """Turns one GOP into a closed, self-contained bitstream and its error-free reconstruction."""

    @property
    def name(self) -> str:
        """Scheme name in the results table, e.g. ``x265``."""

    @property
    def variant(self) -> str:
        """Labelled setting, e.g. ``psy``; rows of different variants are different systems."""

    @property
    def version(self) -> str:
        """Versions of encoder and libraries, for the manifest and the cache."""

    @property
    def allowed_rates(self) -> Sequence[int]:
        """Rates (QP) that :meth:`encode` takes."""

    def describe(self, rate: int) -> str:
        """Literal codec options at ``rate``, as one would type them."""

    def check(self) -> None:
        """Raise ``CodecFailure`` (missing_binary) or ``InputError`` before any work is done."""

    def encode(
        self, frames: np.ndarray, fps: float, rate: int, *, clip: str = "", first_frame: int = 0
    ) -> EncodedGop:
        """Code ONE closed GOP.

        Parameters: ``fps`` : frames per second; ``rate`` : QP, one of ``allowed_rates``;
        ``clip``, ``first_frame`` : name of the clip and index of the GOP's first frame, which
        only codecs that look streams up use.
        Input: ``frames`` : [num_frames, height, width, 3], uint8 RGB.
        Output: ``EncodedGop``, deterministic for equal input.
        Raises ``CodecFailure``, or ``InputError`` for a rate that the codec does not have.
        """


def history_argument(codec: Codec, history: np.ndarray | None) -> dict[str, np.ndarray]:
    """Keyword ``history`` of ``encode`` for a codec that asks for it, else nothing.

    A codec whose prefilter looks at source frames before the GOP (VTM, HM) has an attribute
    ``history_frames``, their number, and takes them as ``history``; the GOP stays closed.
    Input: ``history`` : [any, height, width, 3], uint8, all frames known before the GOP, or None.
    """
    wanted = getattr(codec, "history_frames", 0)
    if not wanted or history is None or not len(history):
        return {}
    return {"history": history[-wanted:]}


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


def check_option(what: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ``InputError`` with the nearest allowed word for an unknown option value."""
    if value in allowed:
        return
    near = difflib.get_close_matches(str(value), allowed, n=1)
    remedy = f"Did you mean {near[0]!r}?" if near else "Choose one of these."
    raise InputError(what, found=value, allowed=", ".join(allowed), remedy=remedy)


_END_CHARS = 800


def run_program(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes = b"",
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> tuple[bytes, str]:
    """Run to the end and return (stdout, stderr).

    The program leads a process group of its own, which is killed as a whole at the time limit and
    when the caller is interrupted: a codec's workers would otherwise go on, and hold the pipes.
    Parameters: ``env`` : the program's environment (default: the caller's).
    Raises ``CodecFailure``: ``missing_binary`` when the program does not start, ``codec_timeout``
    after ``timeout_s`` seconds (it is killed), ``codec_error`` for any exit status but 0, with the
    end of its output.
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
