"""Every column of the result tables is documented, in one place."""

import numpy as np
import pandas as pd

from pvsc_link.report import __main__ as command
from pvsc_link.report.figures import finest_parts, parts_of
from pvsc_link.report.results import BD_CBR, GOPS, POINTS, SEED_MEANS, column
from pvsc_link.sweep.store import gop_columns, point_columns
from pvsc_link.sweep.tables import bd_columns, seed_means_columns


def test_every_column_has_a_meaning():
    documented = {c.name for c in (*POINTS, *BD_CBR)}
    assert set(point_columns()) <= documented
    assert set(bd_columns()) <= documented
    assert {c.name for c in POINTS} == set(point_columns()), "and nothing else"
    assert all(c.meaning for c in (*POINTS, *BD_CBR))


def test_every_column_of_gops_has_a_meaning():
    documented = {c.name for c in GOPS}
    assert set(gop_columns()) <= documented | {c.name for c in POINTS}
    assert documented <= set(gop_columns()), "and nothing else"


def test_every_column_of_means_over_seeds_has_a_meaning():
    documented = [c.name for c in SEED_MEANS]
    assert len(set(documented)) == len(documented)
    assert set(seed_means_columns()) <= {*documented, *(c.name for c in POINTS)}
    assert set(documented) <= set(seed_means_columns()), "and nothing else"
    assert "interval" in column("cbr_low").meaning, "not a part of cbr"


def test_finer_parts_are_not_drawn_beside_what_they_divide():
    """A scheme with finer parts and one without, stacked in one figure: both reach their cbr."""
    rows = pd.DataFrame(
        {
            "cbr": [0.5, 0.3],
            "cbr_source": [0.4, 0.3],
            "cbr_side": [0.1, 0.0],
            "cbr_y": [0.3, np.nan],
            "cbr_intra": [0.1, np.nan],
            "cbr_z": [0.04, np.nan],
            "cbr_k": [0.06, np.nan],
            "cbr_motion": [0.01, np.nan],
        }
    )
    drawn = finest_parts(rows)
    np.testing.assert_allclose(drawn[parts_of(drawn)].sum(axis=1), rows.cbr)
    assert set(parts_of(drawn)) == {"cbr_source", "cbr_y", "cbr_intra", "cbr_z", "cbr_k"}


def test_parts_of_cbr_explain_themselves():
    assert column("cbr_rate_map").unit == column("cbr").unit


def test_the_command_prints_them(capsys):
    assert command.main(["--columns"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*point_columns(), *bd_columns(), *seed_means_columns()))
