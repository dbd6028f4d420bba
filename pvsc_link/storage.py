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
import platform
import re
import threading
import time
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, BinaryIO

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


#: Age in seconds from which a temporary file belongs to no process that still writes it.
_ABANDONED_S = 86_400


def remove_abandoned(folder: str | Path) -> int:
    """Remove temporary files of :func:`atomic_file` that killed processes left; returns how many.

    Files younger than a day stay, because somebody may be writing them.
    """
    removed = 0
    for path in Path(folder).rglob(".*.part"):
        with contextlib.suppress(OSError):
            if (
                _TEMPORARY.fullmatch(path.name)
                and time.time() - path.stat().st_mtime > _ABANDONED_S
            ):
                path.unlink()
                removed += 1
    return removed


_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.part")


def write_atomically(path: str | Path, content: str | bytes) -> None:
    """Write a whole file as :func:`atomic_file` does; text becomes UTF-8."""
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


#: Two threads of Python 3.11 that both turn text into a syntax tree, which numpy does with the
#: header of every array, fail with a ``SystemError`` if the garbage collector, which runs
#: callbacks of JAX, lets the other thread run in between.
_ONE_HEADER_AT_A_TIME = threading.Lock()


def read_arrays(path: str | Path | IO[bytes], *names: str) -> dict[str, np.ndarray]:
    """Arrays of an NPZ file by name: those of ``names``, or all; safe in several threads.

    Raises what ``numpy.load`` raises for a file that is missing, damaged or holds objects,
    ``KeyError`` for a name that it lacks, and ``ValueError`` for a file of a single array or an
    entry that is no array.
    """
    with _ONE_HEADER_AT_A_TIME:
        opened = np.load(path, allow_pickle=False)
        if isinstance(opened, np.ndarray):
            raise ValueError("a single array where a file of named arrays (.npz) is expected")
        with opened as file:
            arrays = {name: file[name] for name in names or file.files}
    for name, array in arrays.items():
        if not isinstance(array, np.ndarray):  # numpy hands out the bytes of a foreign entry
            raise ValueError(f"the entry {name} is no array")
    return arrays


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


#: What ``flock`` answers on a file system that has no locks.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


@contextlib.contextmanager
def exclusive(path: str | Path, *, if_held: Exception | None = None) -> Iterator[None]:
    """Hold the lock file ``path`` (made if absent) against other processes during a block.

    The system frees the lock when the process ends, however it ends. The file itself remains: a
    process could hold a file that another one had removed. A file system without locks (Lustre
    mounted without ``flock``) gives a warning, and the block runs unlocked.

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
            except OSError as error:
                if error.errno not in _NO_LOCKS:
                    raise
                warnings.warn(f"{path.parent} cannot be locked: {error.strerror}", stacklevel=3)
        yield


#: File systems of several machines, on which SQLite's write-ahead log cannot work and locks may be
#: missing. Names of FUSE file systems (sshfs, glusterfs) begin with ``fuse.``.
_SHARED = frozenset(
    "nfs nfs4 lustre cifs smb3 smbfs gpfs beegfs ceph 9p afs orangefs pvfs2 panfs".split()
)


def file_system(folder: str | Path) -> str:
    """Kind of the file system that holds ``folder``, as Linux names it: ``ext4``, ``nfs4``.

    The folder need not exist yet. ``unknown`` where the system has no list of its mounts.
    """
    path = os.path.realpath(folder)
    try:
        lines = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return "unknown"
    kind, longest = "unknown", -1
    for line in lines:
        _, mount, of_mount, *_ = line.split(" ")
        mount = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), mount)
        inside = path == mount or path.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= longest:  # of two mounts in one place the later one counts
            kind, longest = of_mount, len(mount)
    return kind


def is_shared(kind: str) -> bool:
    """Whether a file system of this kind is one of several machines (``file_system``)."""
    return kind in _SHARED or kind.startswith("fuse.")


def num_threads() -> int:
    """Threads that this process may use: ``PVSC_LINK_THREADS``, else those of its processors.

    The processors are those that the system gives the process, which on a cluster are fewer than
    the machine has.
    """
    stated = os.environ.get("PVSC_LINK_THREADS", "")
    if stated.isdigit() and int(stated):
        return int(stated)
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def processor() -> str:
    """Name of the processor as Linux tells it; elsewhere its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


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
