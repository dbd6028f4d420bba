"""Bytes from anybody: a refusal or a result, never a crash, a hang, or a file somewhere else."""

import io
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import many
import numpy as np
import pytest
import readers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = list(readers.READERS)


@pytest.mark.parametrize("name", NAMES)
def test_sound_bytes_and_nothing_at_all(name, tmp_path):
    for data in readers.READERS[name].sound():
        readers.call(name, data, tmp_path)
    readers.call(name, b"", tmp_path)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_hostile_bytes_are_refused_or_read(name, data, tmp_path):
    sound = data.draw(st.sampled_from(readers.READERS[name].sound()))
    seed = data.draw(st.integers(0, 2**32 - 1))
    other = data.draw(st.binary(max_size=200))
    readers.call(name, readers.mutated(sound, np.random.default_rng(seed)), tmp_path)
    readers.call(name, other, tmp_path)


def test_a_pickle_names_a_place_far_beyond_its_objects(tmp_path):
    """The unpickler's list of objects would take 16 GiB."""
    assert readers.call("VGG weights", b"\x80\x02]r" + struct.pack("<I", 2**30) + b".", tmp_path)


def test_an_array_in_an_archive_has_an_unfinished_header(tmp_path):
    out = io.BytesIO()
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (3,), } (".ljust(117) + b"\n"
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("kernel_0.npy", b"\x93NUMPY\x01\x00\x76\x00" + header)
    assert readers.call("VGG weights", out.getvalue(), tmp_path)


@pytest.mark.parametrize("name", ["block error record", "reply of a driver"])
def test_json_that_is_nested_deeply(name, tmp_path):
    readers.call(name, b'{"checksum": ' + b"[" * 5000, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_hostile_bytes(name, tmp_path, capsys):
    """10^5 inputs of each parser and 10^4 of each decoder; the memory stays bounded."""
    counts = many.fuzz(name, tmp_path)
    with capsys.disabled():
        print(f"\n{counts}")
    assert counts["faults"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_coverage_leads_to(name):
    """Atheris looks for inputs that reach further code."""
    pytest.importorskip("atheris")
    script = Path(__file__).with_name("with_atheris.py")
    runs = many.MANY[readers.READERS[name].is_decoder]
    command = [sys.executable, str(script), name, f"-runs={runs}", "-max_total_time=120"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
