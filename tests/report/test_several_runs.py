"""Several results folders on one page: curves, tables and frames keep the name of their run."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.report.__main__ import main
from pvsc_link.report.frames import matched_frames
from pvsc_link.report.page import page_data, write_comparison
from pvsc_link.report.results import read_runs
from pvsc_link.sweep.store import frame_file, read_points
from pvsc_link.types import InputError


@pytest.fixture
def two(make_results, make_points):
    """Two runs of one scenario, the second with a better PVSC."""
    rayleigh = ("rayleigh", -20.0, 1), ("rayleigh", -10.0, 1)
    small = {"clips": ("bikes",), "snrs": (6.0,), "seeds": (1,)}
    points = make_points(schemes=("pvsc", "x265"), channels=rayleigh, **small)
    before = make_results(points, name="before", anchor="x265")
    is_pvsc = points["scheme"] == "pvsc"
    better = points.assign(cbr=points["cbr"].where(~is_pvsc, points["cbr"] / 2))
    return before, make_results(better, name="after", anchor="x265")


def test_a_scheme_keeps_its_colour_and_says_its_run(two):
    styles = read_runs(two).curves.styles.values()
    assert [style.label for style in styles] == [
        *("PVSC (before)", "x265 (veryslow) + 5G LDPC (before)"),
        *("PVSC (after)", "x265 (veryslow) + 5G LDPC (after)"),
    ]
    assert len({style.colour for style in styles}) == 2
    assert len({(style.colour, style.linestyle) for style in styles}) == 4


def test_curves_of_all_runs_stand_under_one_condition(two):
    data = page_data(read_runs(two))
    assert len(data["conditions"]) == 2, "of the NMSE"
    assert len(data["curves"]) == 4 * 2
    rows = [column for column in data["points"]["columns"] if column["name"] == "run"]
    assert rows[0]["texts"] == ["before", "after"]
    json.dumps(data, allow_nan=False)


def test_one_table_holds_both_runs_against_an_equal_anchor(two, capsys):
    before, _ = two
    assert main([*map(str, two), "--compare"]) == 0
    out = before.parent / "before+after"
    assert (out / "report.html").is_file()
    table = pd.read_csv(out / "tables" / "table_3_nmse_rayleigh.csv")
    rows = table[table["CSI NMSE (dB)"] == -20].set_index("Method")["bikes LPIPS"]
    numbers = {run: rows[f"PVSC ({run})"] for run in ("before", "after")}
    assert 1 + numbers["after"] / 100 == pytest.approx((1 + numbers["before"] / 100) / 2, abs=0.01)


def test_runs_with_other_anchors_have_tables_of_their_own(two, make_results):
    before, _ = two
    other = make_results(read_points(before), name="other", anchor="pvsc")
    report = write_comparison([before, other])
    names = {path.stem for path in report.tables}
    assert {"table_3_nmse_rayleigh_before", "table_3_nmse_rayleigh_other"} <= names


def test_frames_of_both_runs_stand_side_by_side(two):
    for level, folder in enumerate(two):
        (folder / "frames").mkdir()
        for point_id in read_points(folder)["point_id"]:
            frame = np.full((32, 32, 3), 100 + level, np.uint8)
            Image.fromarray(frame).save(frame_file(folder, point_id, 3))
    group = matched_frames(read_runs(two))[0]
    levels = {shown.label: np.asarray(Image.open(shown.path))[0, 0, 0] for shown in group.shown}
    assert len(levels) == 4
    assert all(level == 100 + ("(after)" in label) for label, level in levels.items())


def test_namesakes_are_told_apart_by_the_folder_above_and_no_folder_comes_twice(
    make_results, make_points
):
    points = make_points(clips=("bikes",), schemes=("x265",), snrs=(6.0,), seeds=(1,))
    folders = [make_results(points, name=f"{day}/cliff", anchor="x265") for day in ("a", "b")]
    assert list(read_runs(folders).runs) == ["a/cliff", "b/cliff"]
    with pytest.raises(InputError, match="once"):
        read_runs([folders[0], folders[0]])


@pytest.mark.parametrize("words", [("before", "after"), ("before", "--compare")])
def test_the_number_of_folders_must_suit_the_option(two, words, capsys):
    before, _ = two
    folders = [word if word.startswith("-") else str(before.parent / word) for word in words]
    assert main(folders) == 2
    assert "several with --compare" in capsys.readouterr().err
