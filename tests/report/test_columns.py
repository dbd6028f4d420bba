"""Every column of the result tables is documented, in one place."""

from pvsc_link.report import __main__ as command
from pvsc_link.report.columns import BD_CBR, POINTS, column
from pvsc_link.sweep.bd_table import BD_COLUMNS
from pvsc_link.sweep.store import POINT_COLUMNS


def test_every_column_has_a_meaning():
    documented = {c.name for c in (*POINTS, *BD_CBR)}
    assert set(POINT_COLUMNS) <= documented
    assert set(BD_COLUMNS) <= documented
    assert {c.name for c in POINTS} == set(POINT_COLUMNS), "and nothing else"
    assert all(c.meaning for c in (*POINTS, *BD_CBR))


def test_parts_of_cbr_explain_themselves():
    assert column("cbr_rate_map").unit == column("cbr").unit


def test_the_command_prints_them(capsys):
    assert command.main(["--columns"]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in (*POINT_COLUMNS, *BD_COLUMNS))
