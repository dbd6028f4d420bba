"""One clip that cannot be sent does not stop the others, and is told; no folder, no work."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.report.results import read_results
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.store import read_points

ENTRIES = [{"scheme": "x264", "rates": [27, 37], "mcs": 9, "preset": "ultrafast"}]
LINK = {"channel": "awgn", "snr_db": 10}


def write_frames(folder, size):
    folder.mkdir()
    noise = np.random.default_rng(1)
    for t in range(4):
        Image.fromarray(noise.integers(0, 256, (size, size, 3), np.uint8)).save(folder / f"{t}.png")


@pytest.fixture
def clips(tmp_path):
    """A good clip between one that is cut and one that is too small for SSIM."""
    (tmp_path / "cut.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    write_frames(tmp_path / "tiny", 8)
    return [str(tmp_path / "cut.mp4"), "carphone", str(tmp_path / "tiny")]


@pytest.fixture
def scenario(own_caches, clips, write_scenario):
    def write(*names):
        media = {"clips": list(names or clips), "gop": 2, "num_gops": 2}
        return write_scenario(
            media=media, link=LINK, schemes=ENTRIES, anchor="x264", metrics=["psnr", "ssim"]
        )

    return write


def test_the_others_are_sent_and_the_bad_ones_are_told(scenario, clips, tmp_path, capsys):
    words = [str(scenario()), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    cut, good, tiny = clips
    said = capsys.readouterr().err
    assert said.count(f"clip {cut} is left out") == 2, "at the start and at the end"
    assert said.splitlines()[-1].startswith(f"error: clip {tiny} is left out: frames of")
    points = read_points(tmp_path / "out" / "small").set_index("clip")
    assert points.status.groupby("clip").unique().map(list).to_dict() == {
        cut: ["bad_clip"],
        good: ["ok"],
        tiny: ["bad_clip"],
    }
    assert len(points) == 6
    assert points.loc[tiny].note.str.contains("too small for the metric ssim").all()
    assert points.loc[[cut, tiny]].psnr_db.isna().all()
    manifest = json.loads((tmp_path / "out" / "small" / "manifest.json").read_text())
    assert list(manifest["bad_clips"]) == [cut, tiny]
    remarks = read_results(tmp_path / "out" / "small").problems
    assert any("status bad_clip" in remark for remark in remarks)


def test_a_clip_that_is_repaired_is_sent_in_the_next_run(scenario, clips, tmp_path):
    words = [str(scenario(*clips[1:])), "--out", str(tmp_path / "out")]
    assert main(words) == 1
    for file in (tmp_path / "tiny").iterdir():
        file.unlink()
    (tmp_path / "tiny").rmdir()
    write_frames(tmp_path / "tiny", 32)
    before = read_points(tmp_path / "out" / "small")
    assert main(words) == 0
    points = read_points(tmp_path / "out" / "small")
    assert set(points.status) == {"ok"}
    good = [table[table["clip"] == "carphone"] for table in (before, points)]
    pd.testing.assert_frame_equal(*good, check_dtype=False)  # a failed row has no MCS


def test_the_grid_without_a_run_tells_them_too(scenario, tmp_path, capsys):
    assert main([str(scenario()), "--out", str(tmp_path / "out"), "--dry-run"]) == 1
    assert "is left out" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_where_every_clip_is_bad_nothing_is_written(scenario, clips, tmp_path):
    words = [str(scenario(clips[0], clips[2])), "--out", str(tmp_path / "out")]
    assert main(words) == 2
    assert not (tmp_path / "out").exists()


def refuse(*_, **__):
    raise AssertionError("a clip was read before the folder was looked at")


def test_a_folder_of_results_that_is_a_file_is_told_first(scenario, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pvsc_link.sweep.plan.build", refuse)
    (tmp_path / "out").write_text("a file")
    assert main([str(scenario()), "--out", str(tmp_path / "out")]) == 2
    assert main([str(scenario()), "--out", str(tmp_path / "out" / "below")]) == 2
    assert "Not a directory" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_told_first(scenario, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("pvsc_link.sweep.plan.build", refuse)
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    assert main([str(scenario()), "--out", str(tmp_path / "out")]) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_a_database_that_cannot_be_opened_is_told(scenario, tmp_path, capsys):
    (tmp_path / "out" / "small" / "points.sqlite").mkdir(parents=True)
    for words in ([], ["--fresh"]):
        assert main([str(scenario("carphone")), "--out", str(tmp_path / "out"), *words]) == 2
    assert "points.sqlite cannot be used" in capsys.readouterr().err


def test_weights_that_cannot_be_had_are_told_before_any_work(
    scenario, write_scenario, tmp_path, capsys, monkeypatch
):
    from pvsc_link.metrics import perceptual

    def offline():
        raise RuntimeError("no index can be reached")

    monkeypatch.setattr(perceptual, "vgg16_weights", offline)
    monkeypatch.setattr("pvsc_link.sweep.runner.SweepRunner.run", refuse)
    path = write_scenario(link=LINK, schemes=ENTRIES, anchor=None, metrics=["lpips"])
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    assert "no index can be reached" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
