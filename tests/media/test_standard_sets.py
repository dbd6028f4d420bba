"""Registered sequences: sizes of the test conditions, found by their usual or a similar name."""

import numpy as np
import pytest

from pvsc_link.media.clips import DATASETS_VARIABLE, SEQUENCES, clip_names, find_sequence, load_clip
from pvsc_link.types import InputError


def test_the_three_sets_are_complete():
    count = {name: 0 for name in ("HEVC-A", "HEVC-B", "HEVC-C", "HEVC-D", "HEVC-E")}
    for sequence in SEQUENCES.values():
        count[sequence.dataset] = count.get(sequence.dataset, 0) + 1
    assert count == {
        "HEVC-A": 4, "HEVC-B": 5, "HEVC-C": 4, "HEVC-D": 4, "HEVC-E": 3, "UVG": 7, "MCL-JCV": 30,
    }  # fmt: skip
    assert {"bikes", "carphone", "BQMall", "videoSRC30"} <= set(clip_names())


def test_mcl_jcv_clips_last_five_seconds():
    clips = [s for s in SEQUENCES.values() if s.dataset == "MCL-JCV"]
    assert {s.num_frames / s.fps for s in clips} == {5.0}


def write_sequence(path, sequence, num_frames=2):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = sequence.width * sequence.height * 3 // 2 * num_frames
    path.write_bytes(bytes([128]) * samples)


def test_a_sequence_is_read_from_its_usual_file_in_a_sub_folder(tmp_path, monkeypatch):
    sequence = SEQUENCES["BasketballPass"]
    write_sequence(tmp_path / "ClassD" / sequence.file, sequence)
    monkeypatch.setenv(DATASETS_VARIABLE, str(tmp_path))
    video = load_clip("BasketballPass", 1, 1)
    assert video.frames.shape == (1, 240, 416, 3)
    assert video.fps == 50
    assert video.name == "BasketballPass"
    assert np.ptp(video.frames) == 0


def test_any_file_that_begins_with_the_name_is_found(tmp_path):
    sequence = SEQUENCES["Beauty"]
    (tmp_path / "beauty_1080p.mp4").touch()
    (tmp_path / "Bosphorus_1080p.mp4").touch()
    assert find_sequence(sequence, tmp_path).name == "beauty_1080p.mp4"


def test_the_two_race_horses_are_told_apart_by_size(tmp_path):
    for name in ("RaceHorses", "RaceHorsesC"):
        (tmp_path / SEQUENCES[name].file).touch()
    assert "416x240" in find_sequence(SEQUENCES["RaceHorses"], tmp_path).name
    assert "832x480" in find_sequence(SEQUENCES["RaceHorsesC"], tmp_path).name


def test_an_ambiguous_or_absent_sequence_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="nothing"):
        find_sequence(SEQUENCES["Cactus"], tmp_path)
    for name in ("Cactus_a.mp4", "Cactus_b.mp4"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"Cactus_a\.mp4"):
        find_sequence(SEQUENCES["Cactus"], tmp_path)


def test_without_a_folder_the_variable_is_named(monkeypatch):
    monkeypatch.delenv(DATASETS_VARIABLE, raising=False)
    with pytest.raises(InputError, match=DATASETS_VARIABLE):
        load_clip("Johnny")
