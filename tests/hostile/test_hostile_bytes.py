"""Bytes from anybody: a refusal or a result, never a crash, a hang, or a file somewhere else."""

import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import readers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

NAMES = list(readers.READERS)
#: Inputs of the slow test, and seconds that one may take.
MANY = {False: 100_000, True: 10_000}
LONGEST_S = 10.0


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


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_many_hostile_bytes(name, tmp_path, capsys):
    """10^5 inputs of each parser and 10^4 of each decoder; the memory stays bounded."""
    rng, refused = np.random.default_rng(1), 0
    inside = tmp_path / "inside"
    inside.mkdir()
    sound = readers.READERS[name].sound()
    number = MANY[readers.READERS[name].is_decoder]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for index in range(number):
        data = readers.mutated(sound[index % len(sound)], rng)
        start = time.perf_counter()
        refused += readers.call(name, data, inside)
        assert time.perf_counter() - start < LONGEST_S, f"input {index} takes too long"
    assert list(tmp_path.iterdir()) == [inside]
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 1024, f"{grown:.0f} MiB"
    with capsys.disabled():
        print(f"\n{name}: {number} inputs, {refused} refused, 0 faults, {grown:.0f} MiB more")


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_coverage_leads_to(name):
    """Atheris looks for inputs that reach further code."""
    pytest.importorskip("atheris")
    script = Path(__file__).with_name("with_atheris.py")
    runs = MANY[readers.READERS[name].is_decoder]
    command = [sys.executable, str(script), name, f"-runs={runs}", "-max_total_time=120"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
