"""What runs in a Python of the user's own: where it is stated, and the environment that it gets.

Learned codecs and some metrics need frameworks that this package does not bring. For each of them
an environment variable names a folder, and a file ``pvsc_link.json`` in it states the interpreter
and what else is needed::

    {"python": "/envs/clip/bin/python", "weights": "ViT-B-32.pt"}

Paths in the file are relative to its folder.

``AnsweringProcess`` is a program in such a Python that is started once and asked many times.
"""

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pvsc_link.options import StrictModel, validated
from pvsc_link.types import CodecFailure, InputError

SETTINGS_FILE = "pvsc_link.json"
#: Variables that would lead the other Python to modules of this one.
_OF_THIS_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")

#: Characters at the end of a program's output that go into a message.
END_CHARS = 800

Settings = TypeVar("Settings", bound=StrictModel)


def read_settings(folder: Path, model: type[Settings]) -> Settings:
    """The settings file of a folder as a ``model``; the model's defaults where there is no file.

    Raises ``InputError`` for a file that cannot be read, or has keys that the model does not have.
    """
    path = folder / SETTINGS_FILE
    try:
        content = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return model()
    except (OSError, ValueError) as error:
        raise InputError(
            str(path), found=str(error), allowed="a JSON object", remedy="Correct the file."
        ) from error
    return validated(content, model, str(path), '{"python": "/path/of/python"}')


def path_below(folder: Path, path: str) -> Path:
    """A path as a settings file of ``folder`` writes it; ``~`` is the user's home."""
    return folder / Path(path).expanduser()


def program_below(folder: Path, word: str | None) -> Path | None:
    """Path of a program as a settings file of ``folder`` names it; a bare name is sought in PATH.

    Links are kept, because the interpreter of a virtual environment is one.
    """
    if word is None:
        return None
    if os.sep not in word:
        return Path(shutil.which(word) or folder / word)
    return path_below(folder, word)


def environment_of_other_python() -> dict[str, str]:
    """The environment of this process without what leads to modules of its own Python."""
    return {key: value for key, value in os.environ.items() if key not in _OF_THIS_PYTHON}


class AnsweringProcess:
    """A program that answers requests one after another, each a line of JSON, until it is closed.

    It gets two more arguments, the descriptors that it reads requests from and writes replies to.
    What it prints is read however much it is, and the end of it goes into messages. It leads a
    process group, which is killed by ``close``, when a request fails, and when nothing refers to
    this object any more.

    Parameters: ``argv`` : the command; ``who`` : first word of messages; ``environment`` : default
    that of this process without its Python; ``folder`` : kept as long as the process.
    Raises ``CodecFailure`` (missing_binary) where the program does not start.
    """

    def __init__(
        self,
        argv: Sequence[str],
        who: str,
        *,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        folder: tempfile.TemporaryDirectory | None = None,
    ):
        self._who = who
        request_fd, self._requests = os.pipe()
        self._replies, reply_fd = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*argv, str(request_fd), str(reply_fd)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                pass_fds=(request_fd, reply_fd),
                cwd=cwd,
                env=environment_of_other_python() if environment is None else environment,
                start_new_session=True,
            )
        except OSError as error:
            os.close(self._requests)
            os.close(self._replies)
            raise CodecFailure("missing_binary", f"{argv[0]} does not start: {error}") from error
        finally:
            os.close(request_fd)
            os.close(reply_fd)
        self._end = bytearray()
        drained = self._process.stdout, self._end
        self._reader = threading.Thread(target=_keep_the_end, args=drained, daemon=True)
        self._reader.start()
        self._buffer = b""
        fds = self._requests, self._replies
        self.close = weakref.finalize(self, _stop, self._process, fds, folder)

    def is_running(self) -> bool:
        """Whether the process has not ended."""
        return self._process.poll() is None

    def said(self) -> str:
        """The end of what the process has printed, once the reader has taken it from the pipe."""
        stream, deadline = self._process.stdout, time.monotonic() + 1.0
        while stream and self._reader.is_alive() and time.monotonic() < deadline:
            if not select.select([stream], [], [], 0)[0]:
                time.sleep(0.01)  # for the last piece that it took
                break
            time.sleep(0.005)
        return self._end.decode(errors="replace").strip()[-END_CHARS:]

    def ask(self, request: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The reply to a request.

        Where none comes within ``timeout_s`` seconds, ``CodecFailure`` is raised and the process
        is ended; it is ended as well where the caller is interrupted.
        """
        deadline = time.monotonic() + timeout_s
        try:
            os.write(self._requests, (json.dumps(request) + "\n").encode())
            while b"\n" not in self._buffer:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._replies], [], [], left)[0]:
                    raise self._failure("codec_timeout", f"killed after {timeout_s:g} s")
                chunk = os.read(self._replies, 65536)
                if not chunk:
                    raise self._failure("codec_error", self._exit_status())
                self._buffer += chunk
        except BrokenPipeError:
            raise self._failure("codec_error", self._exit_status()) from None
        except BaseException:
            self.close()
            raise
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            return json.loads(line)  # type: ignore[no-any-return]
        except (ValueError, RecursionError) as error:
            raise self._failure("codec_error", f"the reply is no JSON: {error!r:.200}") from error

    def _exit_status(self) -> str:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return f"its Python ended with exit status {self._process.wait(5)}"
        return "its Python closed the connection"

    def _failure(self, status: str, what: str) -> CodecFailure:
        self.close()
        self._reader.join(5)
        said = self.said()
        return CodecFailure(status, f"{self._who}: {what}" + (f": {said}" if said else ""))


class IdleProcesses:
    """Processes that wait for their next request; one that has waited too long is closed.

    Parameters: ``most_idle_s`` : seconds; a process holds weights, and memory of a GPU.
    """

    def __init__(self, most_idle_s: float = 30.0):
        self._most_idle_s = most_idle_s
        self._waiting: dict[AnsweringProcess, threading.Timer] = {}
        self._lock = threading.Lock()

    def take(self) -> AnsweringProcess | None:
        """A process that still runs, for the caller alone; None where none waits."""
        while True:
            with self._lock:
                if not self._waiting:
                    return None
                process, timer = self._waiting.popitem()
            timer.cancel()
            if process.is_running():
                return process
            process.close()

    def keep(self, process: AnsweringProcess) -> None:
        """Let a process wait for the next ``take``."""
        weak = weakref.ref(self), weakref.ref(process)  # a timer keeps neither of them
        timer = threading.Timer(self._most_idle_s, _end_if_idle, weak)
        timer.daemon = True
        with self._lock:
            self._waiting[process] = timer
        timer.start()

    def end(self, process: AnsweringProcess) -> None:
        """Close a process if it still waits."""
        with self._lock:
            waited = self._waiting.pop(process, None)
        if waited is not None:
            process.close()


def _end_if_idle(idle: weakref.ref[IdleProcesses], process: weakref.ref[AnsweringProcess]) -> None:
    waiting, one = idle(), process()
    if waiting is not None and one is not None:
        waiting.end(one)


def _keep_the_end(stream: Any, end: bytearray) -> None:
    """Read to the end of a stream, of which ``end`` holds the last bytes, however much it is."""
    while chunk := os.read(stream.fileno(), 65536):
        end += chunk
        del end[: -4 * END_CHARS]


def _stop(
    process: subprocess.Popen, fds: tuple[int, int], folder: tempfile.TemporaryDirectory | None
) -> None:
    for fd in fds:
        os.close(fd)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if folder is not None:
        folder.cleanup()
