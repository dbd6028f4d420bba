"""Distinct clips and conditions never share a file, a title or a column of a table."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.report import __main__ as command
from pvsc_link.report.curves import condition_words, file_names, short_clip_names
from pvsc_link.report.figures import bler_figures, draw_figures, frame_figures, grid_figures
from pvsc_link.report.frames import matched_frames
from pvsc_link.report.page import page_data
from pvsc_link.report.results import read_results
from pvsc_link.report.tables import comparison_tables
from pvsc_link.sweep.store import find_reference, frame_file, reference_file

TAKES = ("a/take.mp4", "b/take.mp4")


def test_titles_tell_conditions_apart_that_differ_in_keys_of_a_channel_or_impairments():
    ofdm = {"channel": "ofdm", "snr_db": 6.0, "channel_model": "tdl_c", "num_rx": 1}
    assert condition_words(ofdm | {"speed_kmh": 3.0}) == "OFDM, SNR 6 dB"
    assert condition_words(ofdm | {"speed_kmh": 60.0}) == "OFDM, SNR 6 dB, speed 60 km/h"
    clipped = {"channel": "awgn", "snr_db": 6.0, "clip_papr_db": 3.0}
    assert condition_words(clipped) == "AWGN, SNR 6 dB, clip PAPR 3 dB"
    assert condition_words(clipped | {"clip_papr_db": None}) == "AWGN, SNR 6 dB"


@pytest.fixture
def takes(make_points, make_results):
    """Results of two clips of one stem."""
    few = {"snrs": (6.0,), "seeds": (1,), "channels": (("awgn", None, None),)}
    return make_results(make_points(clips=TAKES, **few))


def test_two_clips_of_one_stem_have_figures_of_their_own(takes, tmp_path):
    results = read_results(takes)
    written = draw_figures(results, tmp_path / "figures", ["png"], most=10)
    assert (
        len(set(written.files)) == len(written.files) == len(list((tmp_path / "figures").iterdir()))
    )
    grids = [path for path in written.files if path.name.startswith("rate_grid_take_gop4-")]
    assert len(grids) == 2
    assert grids[0].read_bytes() != grids[1].read_bytes()
    again = [name for name, _ in grid_figures(results.curves.means[::-1], results.curves.styles)]
    assert set(again) == {path.stem for path in grids}, "a name does not depend on the order"


def test_a_clip_without_a_namesake_keeps_its_plain_names(make_points, make_results, tmp_path):
    few = {"snrs": (6.0,), "seeds": (1,), "channels": (("awgn", None, None),)}
    results = read_results(make_results(make_points(clips=("a/take.mp4", "bikes"), **few)))
    names = [name for name, _ in grid_figures(results.curves.means, results.curves.styles)]
    assert names == ["rate_grid_take_gop4", "rate_grid_bikes_gop4"]


def test_conditions_that_print_alike_have_figures_of_their_own(make_points, make_results, tmp_path):
    points = make_points(
        clips=("bikes",),
        snrs=(6.0, 6.0000001),
        seeds=(1,),
        channels=(("awgn", None, None),),
        schemes=("x264",),
    )
    written = draw_figures(read_results(make_results(points)), tmp_path, ["png"], most=10)
    assert len([p for p in written.files if p.name.startswith("rate_bikes_gop4_awgn_snr6-")]) == 2
    assert len(set(written.files)) == len(written.files)


def test_receivers_at_one_channel_have_figures_of_their_own(takes):
    bler = read_results(takes).bler
    rows = bler.assign(csi_nmse_db=-10.0, channel="rayleigh")
    both = pd.concat([rows, rows.assign(csi_nmse_db=-10.0000001)], ignore_index=True)
    names = [name for name, _ in bler_figures(both)]
    assert len(set(names)) == len(names) == 2


def test_two_clips_of_one_stem_are_two_columns_of_a_table(takes):
    for table in comparison_tables(read_results(takes)):
        assert set(TAKES) < set(table.column_names)


def test_titles_and_page_say_the_whole_name_where_the_stem_is_shared(takes):
    data = page_data(read_results(takes))
    assert data["clip_names"] == {clip: clip for clip in TAKES}
    assert short_clip_names(["a/take.mp4", "bikes"]) == {"a/take.mp4": "take", "bikes": "bikes"}
    assert short_clip_names(["a/UVG.mp4"], taken=["UVG"]) == {"a/UVG.mp4": "a/UVG.mp4"}


def test_names_that_a_file_system_takes_for_one_or_does_not_take():
    assert len({n.lower() for n in file_names({1: "Take", 2: "take"}).values()}) == 2
    long = file_names({1: "é" * 300, 2: "é" * 299 + "e"})
    assert len(set(long.values())) == 2
    assert all(len(name.encode()) <= 200 for name in long.values())


def picture(level):
    return Image.fromarray(np.full((32, 32, 3), level, np.uint8))


def test_kept_frames_of_namesakes_are_apart(takes, tmp_path):
    frames = takes / "frames"
    frames.mkdir()
    results = read_results(takes)
    for level, clip in enumerate(TAKES):
        picture(level).save(reference_file(takes, clip, 11, TAKES))
        for point_id in results.points[results.points["clip"] == clip].point_id:
            picture(100 + level).save(frame_file(takes, point_id, 11))
    matched = matched_frames(results)
    assert [group.shown[0].path for group in matched] == [
        reference_file(takes, clip, 11, TAKES) for clip in TAKES
    ]
    names = [name for name, _ in frame_figures(matched)]
    assert len(set(names)) == 2


def test_source_frames_never_share_a_file_and_those_of_one_clip_are_found(tmp_path):
    (tmp_path / "frames").mkdir()
    clips = ["takes/a.mp4", "takes-a.mp4", "Takes a.mp4", "x" * 300, "x" * 299 + "y", "b/c.mp4"]
    files = [reference_file(tmp_path, clip, 3, clips) for clip in clips]
    assert len({file.name.lower() for file in files}) == len(clips)
    assert files[-1].name == "reference_b-c.mp4_0003.png", "a name without a clash stays"
    alone = reference_file(tmp_path, clips[0], 3)
    assert alone.name == "reference_takes-a.mp4_0003.png"
    picture(0).save(alone)
    assert find_reference(tmp_path, clips[0], 3, clips[:1]) == alone
    assert find_reference(tmp_path, clips[0], 3, clips) is None, "it is of another clip, perhaps"
    picture(0).save(files[0])
    assert find_reference(tmp_path, clips[0], 3, clips) == files[0]
    assert find_reference(tmp_path, clips[3], 3, clips) is None


@pytest.mark.parametrize("files", [{"points.csv": "\x00"}, {"points.sqlite": "no database"}])
def test_the_command_fails_where_no_row_can_be_read(files, tmp_path, capsys):
    for name, content in files.items():
        (tmp_path / name).write_text(content)
    assert command.main([str(tmp_path)]) == 1
    assert "not one row of results can be read" in capsys.readouterr().err
    assert (tmp_path / "report.html").is_file()


def test_a_folder_that_cannot_be_opened_is_bad_input(tmp_path, capsys, monkeypatch):
    def denied(*_):
        raise PermissionError(13, "Permission denied")

    (tmp_path / "points.csv").write_text("point_id\n")
    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    assert command.main([str(tmp_path)]) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_a_target_that_is_a_file_is_bad_input(takes, tmp_path, capsys):
    (tmp_path / "target").write_text("a file")
    assert command.main([str(takes), "--out", str(tmp_path / "target")]) == 2
    assert "Not a directory" in capsys.readouterr().err
