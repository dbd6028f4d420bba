"""``python -m pvsc_link.bler``: fills, lists, merges and plots."""

import csv

import pytest

from pvsc_link import bler as command
from pvsc_link.link import bler


@pytest.fixture(autouse=True)
def steep_curves(monkeypatch):
    """All blocks fail below 4 dB, one in ten at 4 dB, none above."""

    def count(mcs, point, num_blocks, seed, **options):
        return int(num_blocks * max(0.0, min(1.0, 0.1 + 4.0 - point.snr_db)))

    monkeypatch.setattr(bler, "_count_errors", count)


def fill(folder, *more):
    arguments = ["--channel", "rayleigh", "--snr-db", "2:6:2", "--mcs", "3:4"]
    return command.main([*arguments, "--max-blocks", "2000", "--cache", str(folder), *more])


def test_filling_writes_every_point_and_draws_certain_failure_and_no_failure(tmp_path):
    table, picture = tmp_path / "out" / "a.csv", tmp_path / "out" / "a.png"
    assert fill(tmp_path / "cache", "--csv", str(table), "--plot", str(picture)) == 0
    rows = list(csv.DictReader(table.open()))
    assert [(row["mcs"], row["snr_db"]) for row in rows] == [
        (mcs, snr) for mcs in "34" for snr in ("2.0", "4.0", "6.0")
    ]
    assert [float(row["bler"]) for row in rows[:3]] == pytest.approx([1.0, 0.1, 0.0], abs=0.01)
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_merge_takes_over_another_folder_and_list_shows_it(tmp_path, capsys):
    fill(tmp_path / "theirs", "--seed", "1")
    capsys.readouterr()
    arguments = ["--cache", str(tmp_path / "ours"), "--merge", str(tmp_path / "theirs"), "--list"]
    assert command.main(arguments) == 0
    printed = capsys.readouterr().out
    assert "new runs" in printed
    assert printed.count("channel=rayleigh") == 6


@pytest.mark.parametrize(
    ("text", "values"),
    [("0:6:2", [0, 2, 4, 6]), ("0:1:0.25", [0, 0.25, 0.5, 0.75, 1]), ("3,-1", [3, -1])],
)
def test_ranges_include_both_ends(text, values):
    assert command.numbers(text) == pytest.approx(values)


def test_an_unknown_name_is_an_error_message_not_a_traceback(tmp_path, capsys):
    assert fill(tmp_path, "--decoder", "turbo") == 2
    assert "layered" in capsys.readouterr().err


def test_without_anything_to_do_the_command_explains_itself(capsys):
    assert command.main([]) == 2
    assert "--snr-db" in capsys.readouterr().err
