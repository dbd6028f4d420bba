"""Whatever state a results folder is in, the report is made and says what is missing and why."""

import json
import sqlite3

import numpy as np
import pandas as pd
import pytest

from pvsc_link.report import __main__ as command
from pvsc_link.report.page import write_report
from pvsc_link.report.results import load_results, read_results
from pvsc_link.sweep.store import SweepStore
from pvsc_link.types import InputError


def report_text(folder, most_figures=0):
    """The remarks of a report that was really written, as one text, and its page.

    Figures are drawn only where a test asks for them: they take most of the time.
    """
    report = write_report(folder, most_figures=most_figures)
    page = report.page.read_text()
    assert page.endswith("</html>\n")
    return " ".join(report.remarks), page


@pytest.fixture
def few_points(make_points):
    """One condition, one clip, one seed: quick to draw."""
    return make_points(clips=("bikes",), snrs=(6.0,), seeds=(1,), channels=(("awgn", None, None),))


def test_a_missing_folder_is_told_with_its_neighbours(make_results, few_points, tmp_path, capsys):
    make_results(few_points, name="rayleigh")
    assert command.main([str(tmp_path / "raileigh")]) == 2
    said = capsys.readouterr().err
    assert "missing" in said
    assert "rayleigh" in said
    assert command.main([]) == 2


def test_an_empty_folder_gives_a_page_that_says_so(tmp_path):
    remarks, page = report_text(tmp_path)
    assert "points.csv is missing" in remarks
    assert "manifest.json is missing" in remarks
    assert "points.csv is missing" in page
    with pytest.raises(InputError, match=r"points\.csv is missing"):
        load_results(tmp_path)


def test_the_command_writes_nothing_for_a_folder_without_results(tmp_path, capsys):
    assert command.main([str(tmp_path)]) == 2
    assert "without results" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_running_sweep_is_shown_as_far_as_it_is(tmp_path, few_points):
    store = SweepStore(tmp_path, version="0")
    store.add(json.loads(few_points.iloc[:5].to_json(orient="records")))
    store.close()
    remarks, _ = report_text(tmp_path)
    assert "5 rows" in remarks
    assert len(load_results(tmp_path)) == 5


def test_a_database_of_something_else_is_no_result(tmp_path):
    sqlite3.connect(tmp_path / "points.sqlite").execute("CREATE TABLE cats (name TEXT)")
    remarks, _ = report_text(tmp_path)
    assert "no readable points.sqlite" in remarks


def test_a_half_written_row_is_left_out_and_told(make_results, few_points):
    folder = make_results(few_points)
    whole = (folder / "points.csv").read_text()
    (folder / "points.csv").write_text(whole[: len(whole) - 120])
    remarks, _ = report_text(folder, most_figures=1)
    assert list((folder / "figures").iterdir()), "the whole rows are drawn"
    assert "half-written" in remarks
    assert len(read_results(folder).points) == len(few_points) - 1


@pytest.mark.parametrize("text", ["", "\x00\x01", 'a,b\n"1,2\n'])
def test_a_broken_table_is_told(make_results, few_points, text):
    folder = make_results(few_points)
    (folder / "points.csv").write_text(text)
    (folder / "bd_cbr.csv").write_text(text)
    (folder / "manifest.json").write_text('{"command": ')
    remarks, _ = report_text(folder)
    assert "points.csv" in remarks
    assert "manifest.json cannot be read" in remarks


def test_a_table_without_a_column_is_read_as_far_as_it_goes(make_results, few_points):
    folder = make_results(few_points)
    few_points.drop(columns=["gop", "lpips"]).to_csv(folder / "points.csv", index=False)
    remarks, _ = report_text(folder, most_figures=1)
    assert "lacks the columns gop, lpips" in remarks


def test_one_scheme_only(make_results, few_points):
    remarks, _ = report_text(make_results(few_points[few_points["scheme"] == "vvenc"]))
    assert "Only one scheme (vvenc)" in remarks


def test_one_scheme_with_two_equalizers_is_a_comparison(make_results, few_points):
    one = few_points[few_points["scheme"] == "vvenc"]
    both = pd.concat([one, one.assign(equalizer="zf")])
    remarks, _ = report_text(make_results(both))
    assert "Only one scheme" not in remarks


def test_all_points_failed(make_results, few_points):
    failed = few_points.assign(
        status="missing_binary", note="vvencapp: not found\nno binary on PATH", cbr=np.nan
    )
    failed[["psnr_db", "lpips", "dists", "cbr_source", "cbr_side"]] = np.nan
    folder = make_results(failed)
    remarks, page = report_text(folder, most_figures=1)
    assert "All points failed" in remarks
    assert "no binary on PATH" in remarks
    assert "missing_binary 16" in page
    assert not list((folder / "figures").iterdir())


def test_untrained_models_stay_out_of_the_curves_unless_asked_for(make_results, few_points):
    few_points.loc[few_points["scheme"] == "pvsc", "status"] = "untrained"
    folder = make_results(few_points)
    results = read_results(folder)
    assert set(results.curves.keyed["scheme"]) == {"vvenc", "x265", "x264"}
    assert any("without trained weights" in problem for problem in results.problems)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["scenario"]["with_untrained"] = True
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert "pvsc" in set(read_results(folder).curves.keyed["scheme"])


def test_missing_metrics_are_counted(make_results, few_points):
    few_points.loc[few_points.index[:3], "lpips"] = np.nan
    few_points["dists"] = np.nan
    remarks, _ = report_text(make_results(few_points))
    assert "lpips is missing (NaN) in 3 of 16" in remarks
    assert "dists was not measured" in remarks
    assert "vmaf" not in remarks, "nobody asked for it"


def test_a_metric_that_was_asked_for_and_is_absent_is_told(make_results, few_points):
    folder = make_results(few_points)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["scenario"]["metrics"] = ["psnr", "vmaf"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    remarks, _ = report_text(folder)
    assert "vmaf was not measured" in remarks
    assert "xpsnr_db was not measured" not in remarks


def test_no_anchor_no_table_but_a_reason(make_results, few_points):
    remarks, page = report_text(make_results(few_points, anchor=None))
    assert "names no anchor" in remarks
    assert "No table could be made" in page


def test_names_from_outside_cannot_break_the_page(make_results, few_points):
    evil = "</script><img src=x onerror=alert(1)>"
    points = few_points.assign(clip=evil, note=evil)
    folder = make_results(points)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["scenario"]["name"] = manifest["command"] = evil
    (folder / "manifest.json").write_text(json.dumps(manifest))
    _, page = report_text(folder, most_figures=1)
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page


def test_the_command_writes_elsewhere_when_told(make_results, few_points, tmp_path, capsys):
    folder = make_results(few_points)
    assert command.main([str(folder), "--out", str(tmp_path / "there"), "--most-figures", "0"]) == 0
    assert (tmp_path / "there" / "report.html").is_file()
    assert not (folder / "report.html").exists()
    endings = {path.suffix for path in (tmp_path / "there" / "tables").iterdir()}
    assert endings == {".csv", ".md", ".tex"}
    assert "report.html" in capsys.readouterr().out


def test_loaded_results_have_numbers_where_numbers_belong(make_results, few_points):
    table = load_results(make_results(few_points))
    assert len(table) == len(few_points)
    assert pd.api.types.is_float_dtype(table["cbr"])
    assert table["variant"].eq("").sum() == 8


def test_a_chosen_mcs_that_loses_most_blocks_is_told(make_results, few_points):
    few_points["mcs_role"] = "chosen"
    few_points["bler"] = 0.1
    few_points.loc[few_points.index[:2], "bler"] = 0.88
    remarks, _ = report_text(make_results(few_points))
    assert "At 2 points the chosen MCS loses more than half of its blocks" in remarks
