"""Files that are kept: the cache folder, atomic writes, locks between processes, and digests.

Every room writes and names its files through this module, so that an interrupted run never leaves
half a file and two processes never write the same one.
"""

import contextlib
import errno
import functools
import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from pvsc_link.types import InputError

try:
    import fcntl
except ImportError:  # Not a POSIX system: writes are still atomic, but nothing is locked.
    fcntl = None  # type: ignore[assignment]


def cache_directory() -> Path:
    """The folder ``$PVSC_LINK_CACHE``, by default ``~/.cache/pvsc_link``; it is made if absent.

    Raises ``InputError`` if the folder cannot be made or is a file.
    """
    folder = Path(os.environ.get("PVSC_LINK_CACHE") or "~/.cache/pvsc_link").expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unusable(folder, error) from error
    return folder


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """A binary file to write, which becomes ``path`` when the block ends without an error.

    Readers see the old file or the new one, never a part of it. The content is written to a
    temporary file in the same folder (made if absent), which is renamed at the end, and removed
    after an error. A power cut can still lose the newest file, because nothing waits for the disk.

    Example::

        with atomic_file("values.npz") as file:
            np.savez(file, values=values)
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with temporary.open("xb") as file:
            yield file
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a whole file as :func:`atomic_file` does; text becomes UTF-8."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def require_writable(folder: str | Path) -> None:
    """Raise ``InputError`` if ``folder`` cannot be made or written into; nothing is made here."""
    if "\0" in str(folder):  # which no file system can take
        raise _unusable(Path(folder), OSError(errno.EINVAL, "a null character"))
    found = Path(folder).absolute()
    while not (found.exists() or found.is_symlink()):
        found = found.parent
    if not found.is_dir():
        raise _unusable(found, NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)))
    if not os.access(found, os.W_OK | os.X_OK):
        raise _unusable(found, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


@contextlib.contextmanager
def exclusive(path: str | Path, *, if_held: Exception | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` (made if absent) against other processes during a block.

    The system frees the lock when the process ends, however it ends. The file itself remains.

    Parameters: ``if_held`` : raised at once if another process holds the lock; None waits for it.
    Raises ``InputError`` if the lock file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a")
    except OSError as error:
        raise _unusable(path.parent, error) from error
    with file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if if_held else 0))
            except BlockingIOError as error:
                raise (if_held or error) from error
        yield


def digest(*parts: str | bytes | np.ndarray) -> str:
    """SHA-256 of the parts joined together, as 64 hexadecimal digits.

    Text counts as UTF-8, an array as its bytes in C order (its shape and type do not count).
    Cut it where fewer digits do: ``digest(text)[:16]``. The first eight digits give a 32-bit
    number: ``int(digest(text)[:8], 16)``.
    """
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            part = part.encode()
        elif isinstance(part, np.ndarray):
            part = part.tobytes()
        total.update(part)
    return total.hexdigest()


def json_digest(content: Any) -> str:
    """:func:`digest` of a value written as JSON with sorted keys.

    Raises ``ValueError`` for NaN or an infinity, and ``TypeError`` for what JSON cannot hold.
    """
    return digest(json.dumps(content, sort_keys=True, allow_nan=False))


def file_digest(path: str | Path) -> str:
    """:func:`digest` of a file's bytes, read in pieces; raises ``OSError`` as ``open`` does."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_file_digest(path: str | Path) -> str:
    """:func:`file_digest`, computed again only if the file's size or date has changed.

    For weights, which have hundreds of megabytes and are asked for with every GOP or clip.
    """
    status = Path(path).stat()
    return _digest_once(Path(path), status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=4096)
def _digest_once(path: Path, size: int, changed: int) -> str:
    return file_digest(path)


def _unusable(folder: Path, error: OSError) -> InputError:
    return InputError(
        "the folder cannot be used",
        found=f"{folder} ({error.strerror})",
        allowed="a folder that can be written",
        remedy="Choose another; the environment variable PVSC_LINK_CACHE names the cache folder.",
    )
