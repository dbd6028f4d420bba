"""Tables: best and second, published beside ours, and the same numbers in every format."""

import csv
import dataclasses
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest

from pvsc_link.media.clips import SEQUENCES
from pvsc_link.report import __main__ as command
from pvsc_link.report.page import write_report
from pvsc_link.report.results import read_results
from pvsc_link.report.table_formats import (
    BEST,
    OURS,
    PUBLISHED,
    SECOND,
    Table,
    as_csv,
    as_latex,
    as_markdown,
    latex_width,
    make_row,
)
from pvsc_link.report.tables import (
    DATASET_OF,
    DATASETS,
    _key_text,
    comparison_tables,
    distribution_tables,
    loss_tables,
    model_tables,
    old_and_new_table,
    published,
    terms_of,
)
from pvsc_link.sweep import seed_means
from pvsc_link.types import InputError


def table_of(*rows, **changes):
    options = {"name": "t", "title": "T", "key_names": ("Method", "GOP"), "column_names": ("A",)}
    return Table(**options | {"measures": ("LPIPS", "DISTS"), "rows": list(rows)} | changes)


def ranks(table, column=0, measure=0):
    return [table.ranks.get((row, column, measure), 0) for row in range(len(table.rows))]


def test_lowest_of_ours_is_best_within_its_group_and_published_rows_do_not_compete():
    table = table_of(
        make_row(OURS, ["x", 4], [[-10.0, 3.0]]),
        make_row(PUBLISHED, ["x", 4], [[-99.0, -99.0]]),
        make_row(OURS, ["y", 4], [[5.0, 1.0]]),
        make_row(OURS, ["z", 4], [[0.0, 2.0]]),
        make_row(OURS, ["x", 8], [[1.0, float("nan")]]),
        make_row(OURS, ["y", 8], [[2.0, 7.0]]),
        group_by=(1,),
    )
    assert ranks(table) == [BEST, 0, 0, SECOND, BEST, SECOND]
    assert ranks(table, measure=1) == [0, 0, BEST, SECOND, 0, 0], "one number has no rival"


def test_the_anchor_wins_nothing_by_its_zeros():
    table = table_of(
        make_row(OURS, ["anchor", 4], [[0.0, 0.0]], is_anchor=True),
        make_row(OURS, ["x", 4], [[12.0, 3.0]]),
        make_row(OURS, ["y", 4], [[15.0, 2.0]]),
        group_by=(1,),
    )
    assert ranks(table) == [0, BEST, SECOND]
    assert table.legend[0].endswith("without the anchor.")


def test_the_row_of_the_anchor_is_found_by_its_name(make_results, make_points):
    (table, *_) = comparison_tables(read_results(make_results(make_points())))
    anchors = [row.keys[0] for row in table.rows if row.is_anchor]
    assert anchors
    assert all(name.startswith("VVenC") for name in anchors)
    assert any(not row.is_anchor for row in table.rows if row.source == OURS)


def test_numbers_that_print_alike_share_a_mark():
    table = table_of(
        make_row(OURS, ["x", 4], [[1.01, 0]]),
        make_row(OURS, ["y", 4], [[1.04, 0]]),
        make_row(OURS, ["z", 4], [[9, 0]]),
        group_by=(1,),
    )
    assert ranks(table) == [BEST, BEST, SECOND]


def test_every_format_says_the_same():
    table = table_of(
        make_row(OURS, ["x_1 & co", 4], [[-10.04, 3.0]]),
        make_row(PUBLISHED, ["x_1 & co", 4], [[-20.0, float("nan")]]),
        make_row(OURS, ["y", 4], [[-0.01, 2.0]]),
        notes=["50 % of it."],
        group_by=(1,),
    )
    lines = list(csv.reader(io.StringIO(as_csv(table))))
    assert lines[0] == ["source", "Method", "GOP", "A LPIPS", "A DISTS"]
    assert lines[1] == ["ours", "x_1 & co", "4", "-10.04", "3"], "CSV keeps every digit"
    assert lines[2][3:] == ["-20", ""]
    markdown = as_markdown(table)
    assert "**-10.0** / <u>3.0</u>" in markdown
    assert "| *published* |" in markdown
    assert "<u>0.0</u>" in markdown, "no negative zero"
    latex = as_latex(table)
    assert r"\textbf{$-$10.0} / \underline{3.0}" in latex
    assert r"x\_1 \& co" in latex
    assert r"50 \% of it" in latex
    hostile = as_latex(table_of(make_row(OURS, [r"\input{x}^$1$", 4], [[1.0, 2.0]])))
    assert r"\textbackslash{}input\{x\}\textasciicircum{}\$1\$" in hostile
    for word in (r"\toprule", r"\midrule", r"\bottomrule"):
        assert latex.count(word) == 1
    assert latex.count("{") == latex.count("}")


def test_tables_have_the_form_of_i_ii_and_iii(make_results, make_points):
    points = make_points(clips=("Beauty", "Jockey", "BQMall"), gops=(4, 8), seeds=(1,))
    tables = {table.name: table for table in comparison_tables(read_results(make_results(points)))}
    first = tables["table_1_datasets_gop"]
    assert first.key_names == ("Method", "GOP")
    assert first.column_names[:2] == ("UVG", "HEVC C"), "clips of a test set share a column"
    assert first.column_names[-1] == "Average"
    assert tables["table_2_snr"].key_names == ("Method", "SNR (dB)", "GOP")
    assert tables["table_3_nmse_rayleigh"].key_names[:2] == ("Method", "CSI NMSE (dB)")
    assert tables["table_1_datasets_gop_psnr"].measures == ("PSNR",)
    average = first.column_names.index("Average")
    line = first.rows[0]
    columns = [line.cells[i][0] for i in (0, 1)]
    assert line.cells[average][0] == pytest.approx(sum(columns) / 2)


@pytest.mark.parametrize(("snrs", "chosen"), [((0.0, 6.0), 6), ((2.0, 5.0, 12.0), 5)])
def test_table_i_is_at_the_papers_snr_or_the_nearest(make_results, make_points, snrs, chosen):
    points = make_points(clips=("Beauty",), channels=(("awgn", None, None),), snrs=snrs, seeds=(1,))
    tables = {table.name: table for table in comparison_tables(read_results(make_results(points)))}
    assert f"SNR = {chosen} dB " in tables["table_1_datasets_gop"].title


def test_the_papers_value_stands_below_ours_where_it_has_the_row(make_results, make_points):
    points = make_points(clips=("Beauty",), gops=(4, 5), seeds=(1,), snrs=(6.0,))
    table = comparison_tables(read_results(make_results(points)))[0]
    found = {line.keys: line for line in table.rows if line.source == PUBLISHED}
    assert ("PVSC", "4") in found
    assert ("PVSC", "5") not in found, "the paper has no GOP 5"
    assert not any("VVenC" in keys[0] for keys in found), "nor VVenC"
    uvg = table.column_names.index("UVG")
    assert list(found["PVSC", "4"].cells[uvg]) == [-82.7, -94.3]
    assert any("published" in note for note in table.notes)
    assert len(table.column_names) == 8


def test_no_published_row_where_the_condition_is_not_the_papers(make_results, make_points):
    points = make_points(clips=("Beauty",), seeds=(1,), snrs=(5.0,))
    tables = comparison_tables(read_results(make_results(points)))
    lines = [(table.title, line.source) for table in tables for line in table.rows]
    assert lines, "no table, or tables without rows"
    assert {source for _, source in lines} == {OURS}, lines


def test_without_a_published_row_the_papers_columns_are_left_out(make_results, make_points):
    points = make_points(schemes=("vvenc", "x265"), clips=("bikes",), seeds=(1,), snrs=(6.0,))
    third = next(
        table
        for table in comparison_tables(read_results(make_results(points)))
        if "nmse" in table.name
    )
    assert third.column_names == ("bikes", "Average"), "Table III has no x265"


def test_test_sets_are_those_of_the_media_room():
    expected = {
        name: sequence.dataset.replace("HEVC-", "HEVC ") for name, sequence in SEQUENCES.items()
    }
    assert {name: DATASET_OF.get(name) for name in SEQUENCES} == expected
    assert "bikes" not in DATASET_OF


def test_published_averages_are_the_means_of_their_rows():
    paper = published("bd_cbr")
    keys = ["table", "method", "snr_db", "nmse_db", "gop"]
    places = list(paper.groupby(keys, dropna=False))
    assert len(places) > 10
    for place, rows in places:
        sets = rows[rows["dataset"] != "Average"]
        printed = rows[rows["dataset"] == "Average"]["bd_cbr_lpips_percent"].item()
        assert set(sets["dataset"]) == set(DATASETS)
        assert sets["bd_cbr_lpips_percent"].mean() == pytest.approx(printed, abs=0.2), place


def test_complexity_and_ablation_stand_beside_the_papers(make_results):
    folder = make_results()
    (folder / "complexity.csv").write_text(
        "preset,label,params_m,macs_g,macs_m_per_pixel,tx_ms,rx_ms\n"
        "pvsc_paper,1080p,35.0,800,0.41,900,500\n"
        "pvsc_paper_m_a,table_v,30.0,728,0.35,,\n"
    )
    tables, remarks = model_tables(read_results(folder))
    complexity, ablation = tables
    assert [line.source for line in complexity.rows] == [OURS, *[PUBLISHED] * 3]
    published_pvsc = next(line for line in complexity.rows if line.keys == ("1080p", "PVSC"))
    assert [cell[0] for cell in published_pvsc.cells] == [44.1, 27.0, 0.41, 35.4]
    assert [line.keys[0] for line in ablation.rows] == ["M_A", "M_A", "M_B", "M_C", "M_D", "M_E"]
    assert ablation.rows[0].cells[1][0] == 728
    assert any("Table VI" in remark for remark in remarks)


def test_a_row_of_the_ablation_is_of_one_preset_alone(make_results, make_points):
    """BD-CBR was run for the small models, MACs were counted for the large ones: two rows."""
    points = make_points(schemes=("pvsc", "vvenc"), clips=("bikes",), seeds=(1,))
    points.loc[points["scheme"] == "pvsc", "variant"] = "pvsc_tiny_m_b-range"
    folder = make_results(points)
    (folder / "complexity.csv").write_text(
        "preset,label,params_m,macs_g,tx_ms,rx_ms\n"
        "pvsc_paper_m_b,table_v,33.3,790,,\n"
        "pvsc_paper_m_b,1080p,33.3,800,12,10\n"
    )
    table = next(t for t in model_tables(read_results(folder))[0] if t.name == "table_5_ablation")
    ours = {row.keys: [cell[0] for cell in row.cells] for row in table.rows if row.source == OURS}
    assert set(ours) == {("M_B", "pvsc_paper_m_b"), ("M_B", "pvsc_tiny_m_b")}
    bd_cbr, macs, *_, tx_ms, rx_ms = ours["M_B", "pvsc_paper_m_b"]
    assert pd.isna(bd_cbr)
    assert macs == 790
    assert pd.isna(tx_ms), "the times were measured at another size"
    assert pd.isna(rx_ms)
    bd_cbr, macs, *_ = ours["M_B", "pvsc_tiny_m_b"]
    assert pd.notna(bd_cbr)
    assert pd.isna(macs)


def test_latex_leaves_out_empty_columns_and_compiles_with_booktabs_alone(tmp_path):
    none = float("nan")
    table = dataclasses.replace(
        table_of(
            make_row(OURS, ["x_1", 4], [[-10.0, 3.0], [none, none]]),
            make_row(PUBLISHED, ["y", 4], [[-20.0, none], [none, none]]),
            notes=["50 % of it."],
            group_by=(1,),
        ),
        column_names=("A", "Empty"),
    )
    latex = as_latex(table)
    assert "Empty" not in latex
    assert r"\begin{tabular}{llr}" in latex
    assert r"\textit{y}" in latex
    assert r"\begin{table}" in latex, "one column is enough"
    if can_compile():
        assert "Overfull" not in log_of(latex, tmp_path)


@pytest.fixture
def large():
    """A table of the longest kind: nine columns of two numbers with intervals, 60 rows."""
    label = "PVSC-MC (rayleigh training, biased LMMSE, CSI-aware, float16 receiver)"
    ends = {(column, measure): (-94.1, -93.1) for column in range(9) for measure in range(2)}
    rows = []
    for place in range(60):
        method = label if place % 2 else "x265 (veryslow) + 5G LDPC"
        rows.append(make_row(OURS, [method, -20], [[-93.5, 123.4]] * 9, ends))
    columns = tuple(f"HEVC {letter}" for letter in "ABCDEFGHI")
    return dataclasses.replace(table_of(*rows, group_by=(1,)), column_names=columns)


def test_latex_of_a_large_table_is_no_wider_than_a_page_and_goes_on(large, tmp_path):
    latex = as_latex(large)
    tabulars = re.findall(r"\\begin{tabular}.*?\\end{tabular}", latex, re.S)
    assert latex.count(r"\begin{table*}") == latex.count("(continued)") + 1 > 1
    assert sum(tabular.count("{[}") + tabular.count(" [") for tabular in tabulars) == 60 * 18
    widths = [latex_width(tabular) for tabular in tabulars]
    assert 300 < max(widths) <= 516, "points of both columns of a page"
    assert "+ 5G LDPC" not in latex
    assert "Codecs: behind 5G LDPC." in latex
    if not can_compile():
        return
    measured = r"\setbox0=\hbox{\footnotesize %s}\typeout{wide \the\wd0}"
    boxes = "\n".join(measured.replace("%s", tabular) for tabular in tabulars)
    log = log_of(r"\setlength{\tabcolsep}{3pt}" + boxes + latex, tmp_path)
    assert "Overfull" not in log
    wide = [float(width) for width in re.findall(r"wide ([\d.]+)pt", log)]
    assert wide == pytest.approx(widths, rel=0.03)


def can_compile():
    return shutil.which("pdflatex") and not run_quietly("kpsewhich", "booktabs.sty")


def log_of(latex, folder):
    """What pdflatex says of some LaTeX on pages of the width of two columns of a paper."""
    page = (
        r"\documentclass[twocolumn]{article}\usepackage{booktabs}\textwidth516pt\columnwidth252pt"
    )
    floats = latex.replace(r"\end{table*}", r"\end{table*}\clearpage")  # LaTeX holds 18 back
    (folder / "page.tex").write_text(page + r"\begin{document}" + floats + r"\end{document}")
    command = ("pdflatex", "-interaction=batchmode", "-halt-on-error", "page.tex")
    assert run_quietly(*command, folder=folder) == 0
    return (folder / "page.log").read_text()


def run_quietly(*command, folder=None):
    return subprocess.run(command, cwd=folder, capture_output=True).returncode


def test_printed_tables_carry_intervals_and_what_stands_behind_them(make_results, make_points):
    clips = ("bikes", "carphone", "akiyo")
    points = make_points(clips=clips, snrs=(6.0,), channels=(("awgn", None, None),))
    results = read_results(make_results(points))
    table = comparison_tables(results)[0]
    bd = results.bd[(results.bd["scheme"] == "x265") & (results.bd["metric"] == "lpips")]
    place = next(i for i, row in enumerate(table.rows) if row.keys[0].startswith("x265"))
    of_bikes = bd[bd["clip"] == "bikes"].iloc[0]
    ends = table.rows[place].ends
    expected = (of_bikes["bd_cbr_low"], of_bikes["bd_cbr_high"])
    assert ends[table.column_names.index("bikes"), 0] == pytest.approx(expected)
    mean = bd[bd["clip"] == "mean"].iloc[0]
    expected = (mean["bd_cbr_low"], mean["bd_cbr_high"])
    assert ends[table.column_names.index("Average"), 0] == pytest.approx(expected)
    low, high = (f"{value:.1f}" for value in expected)
    assert f"[{low}, {high}]".replace("-", "$-$") in as_latex(table)
    assert f"[{low}, {high}]" in as_markdown(table)
    line = list(csv.DictReader(io.StringIO(as_csv(table))))[place]
    assert float(line["Average LPIPS low"]) == pytest.approx(mean["bd_cbr_low"])
    assert any("Clips behind the table: 3, of each 9 GOPs, 3 seeds" in n for n in table.notes)


def test_one_clip_and_one_seed_have_no_interval_and_the_table_says_so(make_results, make_points):
    points = make_points(clips=("bikes",), seeds=(1,), snrs=(6.0,))
    table = comparison_tables(read_results(make_results(points)))[0]
    assert not any(row.ends for row in table.rows)
    assert any(note.startswith("No intervals: fewer than 3 clips") for note in table.notes)
    assert " low" not in as_csv(table).splitlines()[0]


def test_complexity_is_found_beside_the_results_too(make_results):
    folder = make_results()
    (folder.parent / "complexity").mkdir()
    for preset in ("pvsc_paper", "pvsc_tiny"):
        path = folder.parent / "complexity" / f"{preset}.csv"
        path.write_text(f"preset,label,params_m,macs_m_per_pixel\n{preset},1080p,35.0,0.41\n")
        path.with_name(f"{preset}_modules.csv").write_text("preset,module\nx,y\n")
    table = model_tables(read_results(folder))[0][0]
    assert [line.keys[1] for line in table.rows][:2] == ["pvsc_paper", "pvsc_tiny"]


@pytest.mark.parametrize(
    ("variant", "terms"),
    [("rec", (1, 0, 0)), ("rec+per", (1, 1, 0)), ("rec+per+adv", (1, 1, 1)), ("psy", None)],
)
def test_a_variant_names_its_loss_terms(variant, terms):
    assert terms_of(variant) == terms


def test_loss_terms_are_averaged_over_what_was_run(make_results, make_points):
    points = make_points(schemes=("pvsc", "vvenc"), clips=("bikes",), seeds=(1,))
    points.loc[points["scheme"] == "pvsc", "variant"] = "rec+per"
    results = read_results(make_results(points))
    table = next(t for t in model_tables(results)[0] if t.name == "table_6_loss_terms")
    ours = next(line for line in table.rows if line.source == OURS)
    bd = results.bd[results.bd["scheme"] == "pvsc"]
    expected = bd[bd["metric"] == "psnr"]["bd_cbr_percent"].mean()
    assert ours.keys == ("PVSC", "yes", "yes", "")
    assert ours.cells[0][0] == pytest.approx(expected)


def test_a_curve_without_overlap_has_an_empty_cell_and_a_reason(make_results, make_points):
    points = make_points(clips=("bikes",), seeds=(1,), snrs=(6.0,))
    points.loc[points["scheme"] == "x264", ["lpips", "dists"]] += 50
    results = read_results(make_results(points))
    table = comparison_tables(results)[0]
    line = next(line for line in table.rows if line.keys[0].startswith("x264"))
    assert pd.isna(line.cells[0][0])
    assert any("share no quality" in problem for problem in results.problems)


def test_conditions_of_ofdm_have_lines_of_their_own(make_points, make_results):
    """Four conditions, each with its own BD-CBR: no two share a line, none claims perfect CSI."""
    points = make_points(
        channels=(("ofdm", None, None),), clips=("bikes",), snrs=(6.0,), seeds=(1,)
    )
    places = [(speed, estimate) for speed in (3.0, 120.0) for estimate in ("ls_linear", "lmmse")]
    every = []
    for number, (speed, estimate) in enumerate(places):
        here = points.assign(speed_kmh=speed, channel_estimation=estimate)
        here.loc[here["scheme"] == "pvsc", "cbr"] *= 1 + number
        every.append(here)
    results = read_results(make_results(pd.concat(every), anchor="x265"))
    table = next(t for t in comparison_tables(results) if t.name == "table_3_ofdm")
    assert table.key_names == ("Method", "Speed (km/h)", "Channel estimation")
    lines = [row.keys[1:] for row in table.rows if row.keys[0].startswith("PVSC")]
    assert sorted(lines) == sorted((f"{speed:g}", estimate) for speed, estimate in places)
    assert len({row.cells[0][0] for row in table.rows if row.keys[0].startswith("PVSC")}) == 4
    assert not any("perfect" in key for row in table.rows for key in row.keys)


def test_old_and_new_results_of_one_scenario_stand_side_by_side(make_results, make_points, capsys):
    """The old rows call the scheme pvsc; half its CBR is what the new ones need."""
    new = make_points(schemes=("pvsc-mc", "vvenc", "x265"), clips=("bikes",), snrs=(6.0,))
    mine = new["scheme"] == "pvsc-mc"
    new.loc[mine, "variant"] = "pvsc_mc_small-range"
    old = new[new["scheme"] != "x265"].copy()
    old.loc[mine, ["scheme", "variant"]] = "pvsc", "pvsc_small-range"
    old.loc[mine, "cbr"] *= 2
    before, after = make_results(old, name="old"), make_results(new, name="new")
    table = old_and_new_table(read_results(before), read_results(after))
    assert table.rows
    for row in table.rows:
        (was,), (now,), (difference,) = row.cells
        assert 1 + was / 100 == pytest.approx(2 * (1 + now / 100))
        assert difference == pytest.approx(now - was)
        assert set(row.ends) == {(0, 0), (1, 0)}
    assert len(table.rows) == 3 * 3, "three channels, three metrics; the anchor is left out"
    assert any("Left out are 9 rows" in note for note in table.notes), "x265 is new"
    assert command.main([str(after), "--old", str(before)]) == 0
    assert "| Old | New | New - old (points) |" in capsys.readouterr().out
    assert not (after / "report.html").exists()


def test_rows_of_the_papers_system_keep_their_name_beside_those_of_its_extension(
    make_results, make_points
):
    points = make_points(schemes=("pvsc-mc", "x265", "vvenc"), clips=("bikes",), snrs=(6.0,))
    paper = points["scheme"] == "x265"
    points.loc[points["scheme"] == "pvsc-mc", "variant"] = "pvsc_mc_small"
    points.loc[paper, ["scheme", "variant"]] = "pvsc", "pvsc_small"
    points.loc[paper, "cbr"] *= 3
    folder = make_results(points, name="both")
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"rules": 2}))
    results = read_results(folder)
    lines = {row.keys[0] for row in old_and_new_table(results, results).rows}
    assert len(lines) == 2, lines


def test_results_without_a_common_row_are_refused(make_results, make_points):
    one = make_results(make_points(schemes=("x265", "vvenc"), clips=("bikes",)), name="one")
    other = make_results(make_points(schemes=("x264", "vvenc"), clips=("bikes",)), name="other")
    with pytest.raises(InputError, match="two results of one scenario"):
        old_and_new_table(read_results(one), read_results(other))


@pytest.mark.parametrize(
    ("key", "value", "text"),
    [
        ("count_headers", False, "False"),
        ("count_headers", np.bool_(True), "True"),
        ("block_length", 1536, "1536"),
        ("harq", float("nan"), "none"),
        ("harq", '{"combining": "chase"}', "chase, 4 rounds, round trip 4 ms"),
    ],
)
def test_cells_say_what_a_key_is(key, value, text):
    assert _key_text(key, value) == text


def test_percentiles_over_gops_stand_in_a_table_of_their_own(make_results, make_points):
    points = make_points(schemes=("x265",), clips=("bikes",), snrs=(6.0,), rates=(27,))
    folder = make_results(points)
    assert distribution_tables(read_results(folder)) == [], "no seed_means.csv"
    lines = [
        {"point_id": point_id, "gop_index": place, "lpips": 0.1 * place}
        for point_id in points["point_id"]
        for place in range(3)
    ]
    seed_means(points, pd.DataFrame(lines)).to_csv(folder / "seed_means.csv", index=False)
    (table,) = distribution_tables(read_results(folder))
    assert table.name == "distribution_lpips"
    assert len(table.rows) == 3, "a row per channel"
    mean, low, high, num_gops, num_seeds = (cell[0] for cell in table.rows[0].cells)
    assert (low, high) == pytest.approx((0.0, 0.2))
    assert (num_gops, num_seeds) == (9, 3)
    assert table.rows[0].ends[0, 0][0] < mean < table.rows[0].ends[0, 0][1]


def with_latency(points):
    """Points whose frames come late by their SNR, and of which x265 loses some at 0 dB."""
    lost = ((points.scheme == "x265") & (points.snr_db == 0)).astype(int)
    return points.assign(
        frames_lost=lost * 2,
        frames_concealed=lost * 3,
        freeze_events=0,
        deadline_misses=0,
        latency_ms_p50=10.0 + points.snr_db,
        latency_ms_p95=20.0 + points.rate,
        latency_ms_max=30.0 + points.seed,
    )


def test_losses_and_latency_are_told_by_scheme_and_condition(make_results, make_points):
    points = with_latency(make_points(schemes=("vvenc", "x265"), rates=(27, 32)))
    (table,) = loss_tables(read_results(make_results(points)))
    assert table.key_names == ("Method", "Channel", "SNR (dB)", "CSI NMSE (dB)")
    assert table.column_names == (
        *("Frames", "Frames lost", "Frames concealed"),
        *("Latency p50 (ms)", "Latency p95 (ms)", "Latency max (ms)"),
    ), "freeze events are 0 everywhere, and all lines have equal numbers of clips and seeds"
    assert len(table.rows) == 2 * 2 * 3
    lines = {line.keys: [cell[0] for cell in line.cells] for line in table.rows}
    num_rows = 2 * 2 * 3  # clips, rates, seeds
    of_vvenc, of_x265 = (
        next(lines[key] for key in lines if name in key[0] and key[1:] == ("AWGN", "0", "perfect"))
        for name in ("VVenC", "x265")
    )
    assert of_x265 == [12 * num_rows, 2 * num_rows, 3 * num_rows, 10.0, 49.5, 33.0]
    assert of_vvenc == [12 * num_rows, 0, 0, 10.0, 49.5, 33.0]
    notes = " ".join(table.notes)
    assert "2 clips, 2 rates, 3 seeds, 36 GOPs" in notes
    assert "left out: freeze events, deadline misses" in notes
    assert "Rayleigh" in notes
    assert "coherence 1" in notes


def test_no_table_of_losses_without_losses_and_latency(make_results, make_points):
    points = make_points(schemes=("vvenc", "x264"), rates=(27,), seeds=(1,))
    assert loss_tables(read_results(make_results(points))) == []
    lost = points.assign(frames_lost=(points.scheme == "x264") * 4)
    (table,) = loss_tables(read_results(make_results(lost, name="lost")))
    assert table.column_names == ("Frames", "Frames lost")
    assert "left out" not in " ".join(table.notes), "what rows do not state is not 0"


def test_the_table_of_losses_is_written_and_on_the_page(make_results, make_points, tmp_path):
    points = with_latency(make_points(schemes=("x265",), seeds=(1,), rates=(27,)))
    report = write_report(make_results(points), tmp_path / "out", most_figures=0)
    written = {path.name for path in report.tables}
    assert {f"losses_and_latency.{ending}" for ending in ("csv", "md", "tex")} <= written
    assert "id='losses_and_latency'" in report.page.read_text()
