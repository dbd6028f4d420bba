"""SIGTERM and Ctrl-C end a sweep within two seconds, with every finished row stored."""

import os
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from types import FrameType

#: Seconds that the sweep has to end by itself, after which the process is ended.
PATIENCE_S = 1.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """The sweep was asked to stop by the signal ``number``."""

    def __init__(self, number: int):
        self.number = number
        super().__init__(signal.Signals(number).name)

    @property
    def status(self) -> int:
        """Exit status by which shells name the signal: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + self.number


@contextmanager
def stoppable(told: Callable[[], str]) -> Iterator[None]:
    """Raise ``Stopped`` in the block at SIGTERM or Ctrl-C, and end the process where that is slow.

    Work that does not come back to Python for long, such as a step of TensorFlow or an encoder,
    would delay the exception. A thread therefore ends the process after ``PATIENCE_S`` seconds,
    with its programs. What is stored stays whole: a store is changed in transactions, and files are
    renamed when they are complete.

    Parameters: ``told`` : what is printed in that case. Outside the main thread nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came, to_watcher = os.pipe()
    os.set_blocking(to_watcher, False)
    done = threading.Event()

    def watch() -> None:
        with suppress(OSError):
            numbers = [n for n in os.read(came, 16) if n in _SIGNALS]
            if not numbers or done.wait(PATIENCE_S):
                return
            print(told(), file=sys.stderr, flush=True)
            _kill_descendants()
            os._exit(128 + numbers[0])

    def stop(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    fd_before = signal.set_wakeup_fd(to_watcher, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True, name="stop by signal")
    watcher.start()
    try:
        yield
    finally:
        done.set()
        signal.set_wakeup_fd(fd_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        os.write(to_watcher, b"\0")
        watcher.join()
        os.close(came)
        os.close(to_watcher)


def stored_text(folder: Path, command: str) -> str:
    """How many rows a folder holds, and how the sweep goes on."""
    number = 0
    with suppress(sqlite3.Error, OSError):
        path = folder.resolve() / "points.sqlite"
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=0.3)) as rows:
            number = rows.execute("SELECT COUNT(*) FROM points").fetchone()[0]
    return f"stopped: {number} rows are stored in {folder}; the same command goes on: {command}"


def _kill_descendants() -> None:
    """Kill the programs that this process has started, and theirs, where /proc lists them."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
            parents[int(folder.name)] = int(fields[1])
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    for pid in below - {os.getpid()}:
        with suppress(OSError):
            os.kill(pid, signal.SIGKILL)
