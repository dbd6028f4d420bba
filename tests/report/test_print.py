"""Figures for print: nothing is cut, also with the longest labels; formats on request."""

import matplotlib.style
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.report.__main__ import can_measure_text, main
from pvsc_link.report.curves import curve_set
from pvsc_link.report.figures import cbr_figures, grid_figures, rate_figures
from pvsc_link.report.style import COLUMN_WIDTH, PAGE_WIDTH, STYLE_FILE, scheme_style

LONG = "pvsc_mc_small-range, weights a_training_with_quite_a_long_name, receiver float16"


@pytest.fixture
def long_labels(make_points):
    """Curves whose labels name training, equaliser, knowledge of the CSI error and receiver."""
    points = make_points(clips=("a_clip_with_a_long_name_1920x1080_30fps_8bit_420",))
    points["clip"] = "a_clip_with_a_long_name_and_more_of_it_1920x1080_30fps_8bit_420_original.mp4"
    is_semantic = points["scheme"] == "pvsc"
    twice = points[is_semantic].assign(variant=LONG, equalizer="biased_lmmse", csi_aware=True)
    points.loc[is_semantic, "variant"] = "pvsc_mc_small-range"
    points.loc[is_semantic, "csi_aware"] = False
    return curve_set(pd.concat([points, twice]))


def border(figure, tmp_path):
    """The pixels of the outermost two rows and columns of a figure."""
    with matplotlib.rc_context(fname=STYLE_FILE):
        figure.savefig(tmp_path / "one.png", dpi=150)
    pixels = np.asarray(Image.open(tmp_path / "one.png").convert("L"))
    return np.concatenate([pixels[:2].ravel(), pixels[-2:].ravel(), *pixels[:, [0, 1, -2, -1]].T])


def test_no_figure_with_the_longest_labels_touches_its_border(long_labels, tmp_path):
    assert max(len(style.printed) for style in long_labels.styles.values()) > 60
    kinds = (grid_figures, rate_figures, cbr_figures)
    for kind in kinds:
        (_, draw), *_ = kind(long_labels.means, long_labels.styles)
        with matplotlib.rc_context(fname=STYLE_FILE):
            figure = draw()
        assert figure.get_figwidth() in (pytest.approx(COLUMN_WIDTH), pytest.approx(PAGE_WIDTH))
        assert (border(figure, tmp_path) == 255).all(), kind.__name__


def test_labels_are_in_a_papers_words(long_labels):
    labels = [style.label for style in long_labels.styles.values()]
    assert not [label for label in labels if "unknown" in label or "-range" in label]
    assert any("CSI-aware" in label and "biased LMMSE" in label for label in labels)


def test_streams_that_were_coded_elsewhere_are_named_by_their_codec():
    coded, run = scheme_style("precoded", "", 0, "VTM-17.0"), scheme_style("vtm")
    assert coded.label.startswith("VTM-17.0")
    assert (coded.colour, coded.marker) == (run.colour, run.marker)


def test_the_style_of_the_figures_can_be_used_by_name():
    with matplotlib.style.context("pvsc_link.report.paper"):
        assert matplotlib.rcParams["font.size"] == 8
        assert matplotlib.rcParams["pdf.fonttype"] == 42


@pytest.mark.parametrize("ending", ["pdf", "pgf"])
def test_a_format_is_written_on_request_alone(make_results, make_points, ending, capsys):
    folder = make_results(make_points(clips=("bikes",)))
    status = main([str(folder), "--format", ending, "--most-figures", "1"])
    if ending == "pgf" and not can_measure_text():
        assert status == 2
        assert "LaTeX" in capsys.readouterr().err
        return
    assert status == 0
    assert {path.suffix for path in (folder / "figures").iterdir()} == {f".{ending}"}
