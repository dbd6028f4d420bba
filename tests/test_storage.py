"""Files are written whole or not at all, locks exclude, digests are the published SHA-256."""

import hashlib
import os
import stat
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.storage import (
    atomic_file,
    cache_directory,
    digest,
    exclusive,
    file_digest,
    json_digest,
    known_file_digest,
    read_arrays,
    write_atomically,
)
from pvsc_link.types import InputError


def test_the_cache_folder_is_the_one_of_the_environment_and_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "new" / "folder"))
    assert cache_directory() == tmp_path / "new" / "folder"
    assert cache_directory().is_dir()


def test_without_the_variable_the_cache_folder_lies_in_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("PVSC_LINK_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_directory() == tmp_path / ".cache" / "pvsc_link"


def test_a_file_in_place_of_the_cache_folder_is_reported_with_the_remedy(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="PVSC_LINK_CACHE"):
        cache_directory()


@pytest.mark.parametrize(("content", "stored"), [("µ\n", b"\xc2\xb5\n"), (b"\0\r\n", b"\0\r\n")])
def test_text_and_bytes_are_written_as_they_are_and_replace_what_was_there(
    tmp_path, content, stored
):
    path = tmp_path / "new" / "file"
    for _ in range(2):
        write_atomically(path, content)
        assert path.read_bytes() == stored
    assert list(path.parent.iterdir()) == [path]


def test_others_may_read_a_file_that_was_written_atomically(tmp_path):
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "atomic", "")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("plain", "atomic")}
    assert len(modes) == 1


def test_an_error_while_writing_keeps_the_old_file_and_leaves_no_other(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"new", "no bytes"])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")
    with atomic_file(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_text() == "old"
    assert path.read_text() == "new"


@pytest.fixture
def held_lock(tmp_path):
    """A lock file that another process holds until it is stopped."""
    lock = tmp_path / "lock"
    code = f"""
import time
from pvsc_link.storage import exclusive
with exclusive({str(lock)!r}):
    print("held", flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        yield lock, holder
        holder.kill()


def test_a_held_lock_raises_what_the_caller_asked_for(held_lock):
    with (
        pytest.raises(RuntimeError, match="in use"),
        exclusive(held_lock[0], if_held=RuntimeError("in use")),
    ):
        pytest.fail("the lock was held twice")


def test_a_lock_is_free_again_when_its_process_was_killed(held_lock):
    lock, holder = held_lock
    holder.kill()
    holder.wait()
    with exclusive(lock, if_held=RuntimeError("in use")):
        assert lock.exists()


def test_waiting_for_a_lock_ends_when_the_holder_lets_go(held_lock):
    lock, holder = held_lock
    code = f"from pvsc_link.storage import exclusive\nwith exclusive({str(lock)!r}): print('mine')"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as waiting:
        time.sleep(1.0)
        assert waiting.poll() is None
        holder.kill()
        assert waiting.communicate(timeout=60)[0] == b"mine\n"


def test_a_lock_in_a_folder_that_cannot_be_made_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="folder"), exclusive(tmp_path / "file" / "lock"):
        pytest.fail("no lock can lie below a file")


def test_digests_are_sha256_of_the_joined_parts():
    array = np.arange(6, dtype="<u2").reshape(2, 3)
    whole = hashlib.sha256("aµ".encode() + b"b" + array.tobytes()).hexdigest()
    assert digest("aµ", b"b", array) == digest("aµb", array.T.copy().T) == whole
    assert digest() == hashlib.sha256().hexdigest()


def test_the_digest_of_a_value_does_not_depend_on_the_order_of_its_keys():
    assert json_digest({"a": 1, "b": None}) == json_digest({"b": None, "a": 1})
    assert json_digest([1, "x"]) == digest('[1, "x"]')
    with pytest.raises(ValueError, match="JSON"):
        json_digest(float("nan"))


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path):
    path = Path(tmp_path / "file")
    path.write_bytes(bytes(range(256)) * 5000)
    assert file_digest(path) == digest(path.read_bytes())


def test_a_file_that_changes_within_its_size_has_another_known_digest(tmp_path):
    path = Path(tmp_path / "weights")
    path.write_bytes(b"first")
    first = known_file_digest(path)
    assert first == known_file_digest(path) == file_digest(path)
    path.write_bytes(b"other")
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert known_file_digest(path) == file_digest(path) != first


def test_arrays_are_read_by_name_and_by_one_thread_at_a_time(tmp_path, monkeypatch):
    """Two threads that parse headers at once can fail under Python 3.11 (``storage``)."""
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(3), b=np.ones((2, 2), np.complex64))
    alone, load = threading.Lock(), np.load

    def watched(*args, **kwargs):
        assert alone.acquire(blocking=False), "two threads at once"
        time.sleep(0.01)
        try:
            return load(*args, **kwargs)
        finally:
            alone.release()

    monkeypatch.setattr(np, "load", watched)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_arrays, [path] * 8))
    assert all(list(arrays) == ["a", "b"] for arrays in found)
    assert found[0]["a"].tolist() == [0, 1, 2]
    assert found[0]["b"].dtype == np.complex64
    assert list(read_arrays(path, "b")) == ["b"]
    with pytest.raises(KeyError):
        read_arrays(path, "c")
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(ValueError, match="single array"):
        read_arrays(tmp_path / "one.npy")
    with zipfile.ZipFile(tmp_path / "foreign.npz", "w") as archive:
        archive.writestr("a.npy", "no array")
    with pytest.raises(ValueError, match="entry a is no array"):
        read_arrays(tmp_path / "foreign.npz")
