"""An encoder that is a program of its own: time limit, exit status, the end of what it said."""

import contextlib
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from pvsc_link.types import CodecFailure

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
