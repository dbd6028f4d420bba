"""The figure of the floating-point mismatch: each receiver against one like its sender."""

import pandas as pd
import pytest

from pvsc_link.report.figures import arithmetic_figures, changes_by_arithmetic


def points():
    """Two systems at two rates; lvc loses half its frames in float16, PVSC nothing."""
    rows = []
    for scheme, variant in (("lvc", "lvc-l1"), ("pvsc", "pvsc_tiny")):
        for rate in (0, 1):
            for name in ("same", "float16"):
                hit = scheme == "lvc" and name != "same"
                rows.append(
                    {
                        "scheme": scheme,
                        "variant": variant + ("" if name == "same" else f", receiver {name}"),
                        "rate": rate,
                        "seed": 1,
                        "receiver_arithmetic": name,
                        "clip": "bikes",
                        "gop": 4,
                        "channel": "awgn",
                        "snr_db": 6.0,
                        "csi_nmse_db": None,
                        "coherence_length": None,
                        "num_frames": 12,
                        "frames_lost": 6 if hit else 0,
                        "psnr_db": 30.0 + rate - (10.0 if hit else 0.0),
                    }
                )
    return pd.DataFrame(rows)


def test_changes_are_against_the_same_system_and_rate_in_equal_arithmetic():
    changes = changes_by_arithmetic(points()).set_index(["scheme", "rate", "receiver_arithmetic"])
    for rate in (0, 1):
        assert changes.loc[("lvc", rate, "float16"), "psnr_db"] == -10.0
        assert changes.loc[("lvc", rate, "float16"), "frames_lost_percent"] == 50.0
        assert changes.loc[("pvsc", rate, "float16"), "psnr_db"] == 0.0
    assert set(changes["system"]) == {"lvc-l1", "pvsc_tiny"}


def test_rows_without_a_partner_in_equal_arithmetic_are_left_out():
    table = points().query("not (scheme == 'pvsc' and receiver_arithmetic == 'same')")
    assert set(changes_by_arithmetic(table)["scheme"]) == {"lvc"}


def test_one_figure_per_place_with_a_panel_per_quantity():
    ((name, draw),) = arithmetic_figures(points())
    assert name == "arithmetic_bikes_gop4_awgn_snr6"
    panels = draw().axes
    assert [panel.get_ylabel() for panel in panels] == ["Frames lost (%)", "Change of PSNR (dB)"]
    marks = [list(bars.lines[0].get_ydata()) for bars in panels[0].containers]
    assert sorted(marks) == [[0.0, 0.0], [0.0, 50.0]]
    assert [text.get_text() for text in panels[-1].get_xticklabels()] == ["as sent", "float16"]


@pytest.mark.parametrize("kept", ["same", "float16"])
def test_without_a_mismatch_there_is_no_figure(kept):
    table = points()
    assert not list(arithmetic_figures(table[table["receiver_arithmetic"] == kept]))
    assert not list(arithmetic_figures(table.drop(columns="receiver_arithmetic")))
