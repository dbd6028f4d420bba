"""``--save-frames``: the frame that the report shows, of every point, also where rows exist."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from pvsc_link.codecs.registry import CODECS
from pvsc_link.codecs.x264_x265 import X264
from pvsc_link.media import load_clip, read_video
from pvsc_link.report.frames import page_comparisons
from pvsc_link.report.results import read_results
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.kept_frames import KeptFrames
from pvsc_link.sweep.store import frame_file, read_points, reference_file, video_file
from pvsc_link.types import CodecFailure, InputError

ONE_MCS = [{"scheme": "x264", "rates": [27, 37], "mcs": 9, "preset": "ultrafast"}]


@pytest.fixture
def run(own_caches, write_scenario, tmp_path):
    """Sweeps one codec over AWGN at 10 dB; returns the results folder."""

    def sweep(*words, **changes):
        link = {"channel": "awgn", "snr_db": 10}
        scenario = write_scenario(**{"schemes": ONE_MCS, "anchor": None, "link": link} | changes)
        assert main([str(scenario), "--out", str(tmp_path / "out"), *words]) == 0
        return tmp_path / "out" / "small"

    return sweep


def test_a_frame_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "frames").write_text("a file in the place of the folder")
    point = SimpleNamespace(seed=1, point_id="a", clip="carphone")
    shown = SimpleNamespace(frames_hat=np.zeros((1, 16, 16, 3), np.uint8))
    with pytest.raises(InputError, match="cannot be written"):
        KeptFrames(tmp_path, 1, ["carphone"]).keep(point, SimpleNamespace(fps=25.0), [shown])


def picture(path):
    return np.asarray(Image.open(path)).astype(float)


def test_the_last_frame_of_every_point_is_kept(run):
    folder = run("--save-frames")
    points = read_points(folder).set_index("rate")
    source = picture(reference_file(folder, "carphone", 3))
    assert (source == load_clip("carphone", num_frames=4).frames[3]).all()
    psnr = {}
    for rate, point in points.iterrows():
        shown = picture(frame_file(folder, point.point_id, 3))
        psnr[rate] = 10 * np.log10(255**2 / np.mean((shown - source) ** 2))
        assert psnr[rate] == pytest.approx(point.psnr_db, abs=1.5), "of one frame, not of four"
        film = read_video(video_file(frame_file(folder, point.point_id, 3))).frames
        assert len(film) == 4
        assert np.mean((film[3] - shown) ** 2) < 30, "H.264, 4:2:0"
    assert psnr[27] > psnr[37] + 3
    assert len(list((folder / "frames").iterdir())) == 2 * (len(points) + 1)
    (comparison,) = page_comparisons(read_results(folder))["comparisons"]
    assert comparison["pictures"][0]["label"] == "Reference"
    assert "frame 3" in comparison["title"]


def test_only_rows_without_a_frame_are_sent_again(run, monkeypatch):
    folder = run()
    assert not (folder / "frames").exists()
    before = read_points(folder)
    run("--save-frames")
    after = read_points(folder)
    assert before.drop(columns="seconds").equals(after.drop(columns="seconds"))
    kept = {path.name: path.stat().st_mtime_ns for path in (folder / "frames").iterdir()}
    gone = frame_file(folder, after.point_id[1], 3)
    video_file(gone).unlink()
    run("--save-frames")
    again = {path.name: path.stat().st_mtime_ns for path in (folder / "frames").iterdir()}
    changed = {name for name in kept if kept[name] != again[name]}
    assert changed == {gone.name, video_file(gone).name}
    # All are there now: nothing is loaded, encoded or sent.
    monkeypatch.setattr("pvsc_link.sweep.runner.load", None)
    run("--save-frames")


def test_one_seed_is_kept_and_a_codec_that_failed_has_no_frame(run, monkeypatch):
    class Fragile(X264):
        def describe(self, *args):
            return super().describe(*args) + " -fragile"

        def encode(self, frames, fps, rate, **place):
            if rate == 37:
                raise CodecFailure("codec_error", "Segmentation fault")
            return super().encode(frames, fps, rate, **place)

    monkeypatch.setitem(CODECS, "x264", replace(CODECS["x264"], implementation=Fragile))
    folder = run("--save-frames", seed=[5, 2])
    points = read_points(folder)
    kept = points[(points.seed == 5) & (points.status == "ok")].point_id
    assert {p.name for p in (folder / "frames").glob("*_0003.png")} == {
        reference_file(folder, "carphone", 3).name,
        *(frame_file(folder, point_id, 3).name for point_id in kept),
    }
    assert len(kept) == 1
    monkeypatch.setattr("pvsc_link.sweep.runner.load", None)
    run("--save-frames", seed=[5, 2])  # what failed lacks no frame


def test_pictures_of_forgotten_rows_go_with_them_and_a_changed_source_is_written_anew(run):
    folder = run("--save-frames")
    reference = reference_file(folder, "carphone", 3)
    source = reference.read_bytes()
    Image.new("RGB", (176, 144)).save(reference)
    frame_file(folder, read_points(folder).point_id[0], 3).unlink()
    run("--save-frames")
    assert (picture(reference) == load_clip("carphone", num_frames=4).frames[3]).all()
    assert reference.read_bytes() == source
    run("--fresh")
    assert not list((folder / "frames").iterdir())
