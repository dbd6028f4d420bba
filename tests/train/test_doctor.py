"""``train doctor``: every phase is tried, and what does not work names the key to change."""

import re

import pytest
import tensorflow as tf

from pvsc_link.commands import main
from pvsc_link.train import doctor
from pvsc_link.train.data import open_cache
from pvsc_link.train.doctor import examined, shrunk, with_made_up_clips
from pvsc_link.train.phase import enough_memory
from pvsc_link.train.step import uncompiled
from pvsc_link.types import InputError

PHASES = (
    {"model": "intra", "steps": 100},
    {"model": "inter", "gop": [2, 4], "steps": 300, "batch": 4, "accumulate": 2},
)


@pytest.mark.usefixtures("eager")
def test_every_phase_is_tried_and_the_run_estimated(micro_run):
    lines = list(examined(micro_run(*PHASES)))
    rows = [re.split(r" +", line) for line in lines if line.startswith("phase_")]
    assert [row[:4] for row in rows] == [["phase_0", "1", "64", "2"], ["phase_1", "4", "64", "4"]]
    step, hours = float(rows[1][6]), float(rows[1][8])
    # 150 steps of two frames and 150 of four.
    assert hours == pytest.approx(step * (150 * 2 / 4 + 150) / 3600, abs=0.06)
    assert lines[-1].startswith("the whole run: 400 steps, about ")


@pytest.mark.usefixtures("eager")
def test_small_needs_no_data(micro_run, tmp_path):
    config = micro_run(*PHASES, data={"clips": [str(tmp_path / "absent")]})
    with pytest.raises(InputError, match="absent"):
        list(examined(config))
    lines = list(examined(config, small=True))
    assert "data: missing, so pictures are made up" in lines
    rows = [line.split() for line in lines if line.startswith("phase_")]
    assert [(row[0], row[5], row[8]) for row in rows] == [
        ("phase_0", "-", "-"),
        ("phase_1", "-", "-"),
    ], "times of small shapes are no estimate"
    assert lines[-1].startswith("all phases work")


def test_clips_are_made_up_for_i_frames_alone(micro_run, tmp_path):
    config = with_made_up_clips(micro_run(PHASES[0]), tmp_path)
    assert len(open_cache(config.data).clips) > 0


@pytest.mark.usefixtures("eager")
def test_some_phases_are_tried_alone(micro_run):
    lines = list(examined(micro_run(*PHASES), only=["phase_1"], small=True))
    assert [line[:7] for line in lines if line.startswith("phase_")] == ["phase_1"]
    assert lines[-1].startswith("these phases work")
    with pytest.raises(InputError, match="phase_1"):
        list(examined(micro_run(*PHASES), only=["phase_2"]))


@pytest.mark.usefixtures("eager")
def test_small_needs_no_weights_of_an_earlier_run(micro_run, tmp_path):
    absent = str(tmp_path / "runs" / "weights")
    config = micro_run(PHASES[0], initial_weights=absent)
    with pytest.raises(InputError, match="initial_weights"):
        list(examined(config))
    lines = list(examined(config, small=True))
    assert any(f"{absent} is missing" in line for line in lines)
    assert lines[-1].startswith("all phases work")


@pytest.mark.parametrize("before", [False, True])
def test_steps_are_not_compiled_within_small_and_behind_it_as_before(before):
    kept = tf.config.functions_run_eagerly()
    tf.config.run_functions_eagerly(before)
    try:
        with uncompiled():
            assert tf.config.functions_run_eagerly()
        assert tf.config.functions_run_eagerly() == before
    finally:
        tf.config.run_functions_eagerly(kept)


def test_small_takes_the_smallest_shapes_that_the_file_allows(micro_run):
    first, second = shrunk(micro_run(*PHASES)).phases
    assert (first.crop, first.batch, first.gop) == (64, 1, [1])
    assert (second.crop, second.batch, second.gop) == (64, 2, [3])


def test_a_device_that_is_too_small_is_an_error_that_says_what_helps(micro_run, monkeypatch):
    monkeypatch.setattr(doctor, "_room", lambda: 2**30)
    entry = micro_run(*PHASES).phases[1]
    with pytest.raises(InputError, match=r"found '2\.0 GiB'; .*1\.0 GiB.* rematerialise: true"):
        doctor._check_room(entry, 2**31)
    with pytest.raises(InputError, match="accumulate"), enough_memory(entry):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
    with pytest.raises(InputError, match="OOM when allocating"), enough_memory(entry):
        raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["doctor"], "training files"),
        (["a.yaml", "--small"], "--small"),
        (["a.yaml", "--phases", "joint"], "--phases"),
        (["a.yaml", "--threads", "0"], "--threads: found 0"),
        (["a.yaml", "--devices", "-1"], "--devices: found -1"),
    ],
)
def test_wrong_words_are_refused(words, found, capsys):
    assert main(["train", *words]) == 2
    assert found in capsys.readouterr().err
