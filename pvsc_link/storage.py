"""The folder of what is worth keeping between runs: weights, encodes, metric values, BLER."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pvsc_link.types import InputError

try:
    import fcntl
except ImportError:  # not a POSIX system: files are still replaced atomically, only fetched twice
    fcntl = None  # type: ignore[assignment]


def cache_directory() -> Path:
    """The folder ``$PVSC_LINK_CACHE``, by default ``~/.cache/pvsc_link``, made if absent.

    Output: the folder. Raises ``InputError`` if it cannot be made or is a file.
    """
    folder = Path(os.environ.get("PVSC_LINK_CACHE") or "~/.cache/pvsc_link").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    return folder


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file ``path`` against other processes; the system frees it if we are killed.

    Raises ``InputError`` if the folder cannot be written.
    """
    try:
        file = path.open("a")
    except OSError as error:
        raise _unusable(path.parent, error) from error
    with file:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _unusable(folder: Path, error: OSError) -> InputError:
    return InputError(
        "the cache folder cannot be used",
        found=f"{folder} ({error.strerror})",
        allowed="a folder that can be written",
        remedy="Set PVSC_LINK_CACHE to one.",
    )
