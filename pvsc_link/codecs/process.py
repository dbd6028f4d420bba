"""An encoder that is a program of its own: time limit, exit status, the end of what it said."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

from pvsc_link.types import CodecFailure

_END_CHARS = 800


def run_program(
    argv: Sequence[str], *, timeout_s: float, stdin: bytes = b"", cwd: Path | None = None
) -> tuple[bytes, str]:
    """Run to the end and return (stdout, stderr).

    Raises ``CodecFailure``: ``missing_binary`` when the program does not start, ``codec_timeout``
    after ``timeout_s`` seconds (it is killed), ``codec_error`` for any exit status but 0, with the
    end of its output.
    """
    program = Path(argv[0]).name
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=timeout_s, cwd=cwd)
    except subprocess.TimeoutExpired as error:
        raise CodecFailure("codec_timeout", f"{program}: killed after {timeout_s} s") from error
    except OSError as error:
        raise CodecFailure("missing_binary", f"{program} does not start: {error}") from error
    stderr = done.stderr.decode(errors="replace")
    if done.returncode:
        said = (done.stdout.decode(errors="replace") + stderr).strip()[-_END_CHARS:]
        raise CodecFailure("codec_error", f"{program}: exit status {done.returncode}: {said}")
    return done.stdout, stderr
