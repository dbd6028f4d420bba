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

#: Seconds that the sweep has to end by itself, after which its programs are killed.
PATIENCE_S = 1.2
#: Seconds that it then has to end without its programs, after which the process is ended.
_LAST_PATIENCE_S = 0.5
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
    would delay the exception. A thread therefore kills the programs after ``PATIENCE_S`` seconds,
    and ends the process if that does not end it. Further signals do nothing, because an exception
    in the middle of the sweep's end would leave threads that nobody waits for. What is stored
    stays whole: a store is changed in transactions, and files are renamed when they are complete.

    Parameters: ``told`` : what is printed in that case. Outside the main thread nothing is done.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came, to_watcher = os.pipe()
    os.set_blocking(to_watcher, False)
    done = threading.Event()
    raised: list[int] = []

    def watch() -> None:
        numbers = [n for n in os.read(came, 16) if n in _SIGNALS]
        if not numbers or done.wait(PATIENCE_S):
            return
        _kill_descendants()
        if done.wait(_LAST_PATIENCE_S):
            return
        with suppress(OSError):  # the terminal, or the program behind a pipe, may be gone
            print(told(), file=sys.stderr, flush=True)
        sys.addaudithook(_refuse_programs)
        _kill_descendants()
        os._exit(128 + numbers[0])

    def stop(number: int, frame: FrameType | None) -> None:
        raised.append(number)
        if len(raised) == 1:
            raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in _SIGNALS}
    fd_before = signal.set_wakeup_fd(to_watcher, warn_on_full_buffer=False)
    watcher = threading.Thread(target=watch, daemon=True, name="stop by signal")
    watcher.start()
    try:
        yield
    except BaseException as error:
        if raised and not isinstance(error, Stopped):  # what the end of its programs has caused
            raise Stopped(raised[0]) from error
        raise
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
    """Kill the programs that this process has started, and theirs, where /proc lists them.

    It looks again for those that threads have started meanwhile.
    """
    for _ in range(_MOST_LOOKS):
        below = _descendants()
        for pid in below:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not below:
            return


#: How often programs are looked for.
_MOST_LOOKS = 10
#: What Python announces before it starts a program.
_STARTS = frozenset(("subprocess.Popen", "os.fork", "os.posix_spawn", "os.spawn", "os.system"))


def _refuse_programs(event: str, given: tuple) -> None:
    """Keep threads from starting their next program when one was killed (an audit hook)."""
    if event in _STARTS:
        raise PermissionError("the process is about to end")


def _descendants() -> set[int]:
    """Processes below this one that have not ended."""
    parents: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError, IndexError):
            state, parent, *_ = (folder / "stat").read_text().rpartition(")")[2].split()
            if state not in "ZX":
                parents[int(folder.name)] = int(parent)
    below = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in below} - below:
        below |= more
    return below - {os.getpid()}
