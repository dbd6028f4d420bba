"""Frames: matched in CBR, boxes where it matters, a page that never grows without bound."""

import numpy as np
import pytest
from PIL import Image

from pvsc_link.media import Mp4Writer, read_video
from pvsc_link.report import frames
from pvsc_link.report.figures import frame_figures, with_zoom
from pvsc_link.report.frames import matched_frames, page_comparisons, zoom_boxes
from pvsc_link.report.notebook import paper_tables, plot_against, plot_bler, plot_rate
from pvsc_link.report.page import page_data
from pvsc_link.report.results import load_results, read_results
from pvsc_link.sweep.store import frame_file, reference_file, video_file
from pvsc_link.types import InputError


@pytest.fixture
def framed(make_results, make_points):
    """Results with a noise frame for every point of seed 1, and its folder."""
    points = make_points(clips=("a/b clip.mp4",), snrs=(6.0,), seeds=(1, 2))
    folder = make_results(points)
    (folder / "frames").mkdir()
    noise = np.random.default_rng(1)
    for point_id in points[points["seed"] == 1]["point_id"]:
        frame = noise.integers(0, 255, (48, 80, 3), np.uint8)
        Image.fromarray(frame).save(frame_file(folder, point_id, 7))
    return folder


def compared(folder):
    found = page_comparisons(read_results(folder))
    return found["comparisons"], found["pictures"], found["frame_remarks"]


def cbr_of(picture):
    return float(picture["caption"].split(",")[0].removeprefix("CBR "))


def test_schemes_are_shown_at_about_the_same_cbr(framed):
    made, _, remarks = compared(framed)
    assert not remarks
    assert len(made) == 3, "one per channel condition"
    for comparison in made:
        assert len(comparison["pictures"]) == 4
        cbrs = [cbr_of(picture) for picture in comparison["pictures"]]
        assert max(cbrs) / min(cbrs) < 1.5, "of rates that span a factor of six"
        assert "frame 7" in comparison["title"]


def test_pictures_of_a_comparison_are_of_one_seed(make_results, make_points):
    """They met the same channel, also where frames of several seeds lie in the folder."""
    points = make_points(clips=("bikes",), snrs=(6.0,), seeds=(2, 1), rates=(27, 32))
    folder = make_results(points)
    for point_id in points["point_id"]:
        path = frame_file(folder, point_id, 7)
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (80, 48)).save(path)
    of_first = {frame_file(folder, name, 7) for name in points[points["seed"] == 1]["point_id"]}
    groups = matched_frames(read_results(folder))
    assert groups
    assert {shown.path for group in groups for shown in group.shown} <= of_first


def test_the_reference_comes_first_where_it_was_kept(framed):
    path = reference_file(framed, "a/b clip.mp4", 7)
    assert path.name == "reference_a-b-clip.mp4_0007.png"
    Image.new("RGB", (80, 48)).save(path)
    made, _, _ = compared(framed)
    assert [comparison["pictures"][0]["label"] for comparison in made] == ["Reference"] * 3


@pytest.mark.parametrize("damage", ["size", "bytes"])
def test_frames_that_cannot_be_compared_are_told_not_shown(framed, damage):
    points = load_results(framed)
    for point_id in points[(points["scheme"] == "x264") & (points["seed"] == 1)]["point_id"]:
        path = frame_file(framed, point_id, 7)
        if damage == "size":
            Image.new("RGB", (8, 8)).save(path)
        else:
            path.write_bytes(b"no picture")
    made, _, remarks = compared(framed)
    assert made == []
    assert sum("cannot be read or differ in size" in remark for remark in remarks) == 3


def test_too_many_bytes_become_jpeg_and_then_fewer(framed, monkeypatch):
    monkeypatch.setattr(frames, "_BUDGET", 100_000)
    made, pictures, remarks = compared(framed)
    assert "JPEG" in remarks[0]
    assert pictures[0].startswith("data:image/jpeg")
    assert sum(map(len, pictures)) <= 100_000
    monkeypatch.setattr(frames, "_BUDGET", 30_000)
    fewer, _, remarks = compared(framed)
    assert len(fewer) < len(made) or not fewer
    assert "comparisons are on the page" in remarks[-1]


def test_a_figure_shows_every_scheme_once_with_its_numbers(framed):
    Image.new("RGB", (80, 48)).save(reference_file(framed, "a/b clip.mp4", 7))
    matched = matched_frames(read_results(framed))
    figures = dict(frame_figures(matched))
    assert len(figures) == 3, "one per channel condition"
    panels = next(iter(figures.values()))().axes
    titles = [panel.get_title() for panel in panels if panel.get_title()]
    assert titles[0].startswith("Reference")
    assert len(titles) == 5
    assert all("CBR 0." in title and "LPIPS" in title for title in titles[1:])
    assert all(name.startswith("frames_b clip_gop4") for name in figures)


def test_no_figure_of_frames_that_cannot_be_compared(framed):
    for path in (framed / "frames").iterdir():
        path.write_bytes(b"no picture")
    assert not list(frame_figures(matched_frames(read_results(framed))))


def test_a_zoom_box_is_repeated_below_the_frame():
    frame = np.zeros((20, 40, 3), np.uint8)
    frame[0:5, 10:20] = 200
    shown = with_zoom(Image.fromarray(frame), [(0.25, 0, 0.25, 0.25), (0.5, 0.5, 0.25, 0.25)])
    assert shown.shape == (30, 40, 3)
    np.testing.assert_array_equal(shown[:20], frame)
    assert (shown[20:, :20] == 200).all()
    assert (shown[20:, 20:] == 0).all()


def test_zoom_boxes_lie_where_schemes_differ_and_do_not_overlap():
    rng = np.random.default_rng(0)
    scene = np.full((100, 200, 3), 128.0)
    scene[60:90, 20:70] += rng.normal(0, 30, (30, 50, 3))  # detail, the same in both
    other = scene.copy()
    other[10:30, 150:190] += 60  # what the schemes disagree about
    images = [np.clip(scene, 0, 255).astype(np.uint8), np.clip(other, 0, 255)]
    (x1, y1, wide, high), (x2, y2, _, _) = zoom_boxes(images)
    assert 0.55 < x1 < 0.95
    assert y1 < 0.3
    assert x2 < 0.35
    assert 0.4 < y2 < 0.9
    assert abs(x1 - x2) >= wide or abs(y1 - y2) >= high


def test_notebooks_draw_what_they_ask_for(make_results, make_points):
    folder = make_results(make_points(clips=("bikes", "carphone"), seeds=(1,)))
    points = load_results(folder)
    figure = plot_rate(points, clip="carphone", channel="awgn")
    assert len(figure.axes) == 2 * 3, "two SNRs, three metrics"
    assert "carphone" in figure.get_suptitle()
    over_snr = plot_against(points, "snr_db", clip="bikes", csi_nmse_db=-20)
    assert "NMSE -20 dB" in over_snr.get_suptitle()
    only_flat = plot_against(points, "snr_db", csi_nmse_db=None)
    assert "AWGN" in only_flat.get_suptitle()
    assert len(plot_bler(folder).axes) == 1
    assert "Table I" in paper_tables(folder)[0]._repr_markdown_()


def test_a_question_without_an_answer_is_told(make_results, make_points):
    points = load_results(make_results(make_points(seeds=(1,), snrs=(6.0,))))
    with pytest.raises(InputError, match="nothing to draw"):
        plot_rate(points, clip="nobody")
    with pytest.raises(InputError, match="nothing to draw"):
        plot_against(points, "snr_db")
    with pytest.raises(InputError, match="axis"):
        plot_against(points, "rate")
    with pytest.raises(InputError, match="column"):
        plot_rate(points, klip="bikes")
    with pytest.raises(InputError, match="Did you mean 'psnr_db'"):
        plot_rate(points, psnr=30)


def test_equal_pictures_take_their_place_once(framed, monkeypatch):
    """Without losses a scheme shows one frame at every condition: the page holds it once."""
    frame = Image.fromarray(np.random.default_rng(2).integers(0, 255, (48, 80, 3), np.uint8))
    for path in (framed / "frames").iterdir():
        frame.save(path)
    data = page_data(read_results(framed))
    assert len(data["comparisons"]) == 3
    assert len(data["pictures"]) == 1
    assert {p["uri"] for c in data["comparisons"] for p in c["pictures"]} == {0}
    # Room for one picture is room for all comparisons.
    monkeypatch.setattr(frames, "_BUDGET", len(data["pictures"][0]) + 10)
    assert len(page_data(read_results(framed))["comparisons"]) == 3


# ---- videos ---------------------------------------------------------------------------------


def film(path, level, num_frames=3):
    """A video that gets brighter from frame to frame."""
    with Mp4Writer(path, 25.0) as writer:
        for number in range(num_frames):
            writer.write(np.full((48, 80, 3), level + 10 * number, np.uint8))


@pytest.fixture
def filmed(framed):
    """The results with a video of every kept point, as bright as its scheme's place."""
    for place, (_, points) in enumerate(load_results(framed).groupby("scheme", sort=False)):
        for point_id in points[points["seed"] == 1]["point_id"]:
            film(video_file(frame_file(framed, point_id, 7)), 40 * (place + 1))
    return framed


def test_videos_of_a_comparison_are_tiles_of_one_file(filmed, tmp_path):
    made = page_comparisons(read_results(filmed), tmp_path / "videos")["comparisons"]
    facts = made[0]["video"]
    assert [facts[name] for name in ("columns", "height", "width", "fps", "frames")] == [
        *(2, 48, 80, 25.0, 3)
    ]
    video = read_video(tmp_path / facts["file"])
    for number, frame in enumerate(video.frames):
        tiles = [frame[y : y + 48, x : x + 80].mean() for y in (0, 48) for x in (0, 80)]
        assert tiles == pytest.approx([40 * (i + 1) + 10 * number for i in range(4)], abs=2)


def test_a_comparison_without_all_videos_has_none_and_stays(filmed, tmp_path):
    points = load_results(filmed)
    of_x264 = points[(points["seed"] == 1) & (points["scheme"] == "x264")]
    for _, point in of_x264.iterrows():
        path = video_file(frame_file(filmed, point["point_id"], 7))
        if point["channel"] == "awgn":
            path.write_bytes(b"no video")
        elif point["csi_nmse_db"] == -20:
            film(path, 40, num_frames=2)
    made = page_comparisons(read_results(filmed), tmp_path / "videos")["comparisons"]
    assert [comparison["video"] is None for comparison in made] == [True, True, False]
    assert len(list((tmp_path / "videos").iterdir())) == 1


def test_videos_end_where_page_and_videos_would_grow_large(filmed, tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "_VIDEO_BUDGET", 1)
    found = page_comparisons(read_results(filmed), tmp_path / "videos")
    assert [comparison["video"] is None for comparison in found["comparisons"]] == [
        *(False, True, True)
    ]
    assert any("Further videos" in remark for remark in found["frame_remarks"])


def test_comparisons_that_differ_in_snr_alone_are_one_series(make_results, make_points):
    points = make_points(clips=("bikes",), snrs=(0.0, 6.0), seeds=(1,))
    folder = make_results(points)
    (folder / "frames").mkdir()
    for point_id in points["point_id"]:
        Image.new("RGB", (80, 48)).save(frame_file(folder, point_id, 7))
    made, _, _ = compared(folder)
    series = {}
    for comparison in made:
        series.setdefault(comparison["series"], []).append(comparison["snr_db"])
    assert list(series.values()) == [[0.0, 6.0]] * 3, "a series per channel"
