"""What the symbols of P frames bring: the benchmark's table, and the verdicts on it."""

import pandas as pd
import pytest

from pvsc_link.bench.__main__ import main
from pvsc_link.bench.gates import p_frame_verdicts


@pytest.mark.ci
def test_shares_of_a_gop_add_up_and_quality_is_measured_three_ways(micro, tmp_path, capsys):
    options = ["--preset", micro, "--gop", "2", "--rates", "1", "2", "--clips", "carphone"]
    assert main(["p_frames", *options, "--folder", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "p_frames.csv")
    assert table["rate"].tolist() == [1, 2]
    shares = table["symbol_share"] + table["side_share"] + table["intra_share"]
    assert (shares - 1).abs().max() < 2e-4
    assert (table["side_share"] > 0).all()
    for column in ("lpips", "lpips_silent", "lpips_frozen"):
        assert table[column].between(0, 2).all()
    assert table["weights"].eq("untrained").all()
    assert "lpips_silent" in capsys.readouterr().out
    assert (tmp_path / "p_frames.manifest.json").is_file()


def rows(share, lpips, silent):
    return pd.DataFrame(
        {"rate": range(5), "symbol_share": share, "lpips": lpips, "lpips_silent": silent}
    )


def test_verdicts_follow_shares_and_quality():
    good = rows([0.0, 0.1, 0.3, 0.4, 0.5], [0.3] * 5, [0.4] * 5)
    assert [v.holds for v in p_frame_verdicts(good)] == [True, True]
    few = good.assign(symbol_share=[0.3, 0.3, 0.3, 0.1, 0.3])
    assert [v.holds for v in p_frame_verdicts(few)] == [False, True]
    useless = good.assign(lpips_silent=[0.2, 0.4, 0.4, 0.4, 0.2])
    assert [v.holds for v in p_frame_verdicts(useless)] == [True, False]
    # Preset 0 sends no symbols, so they need not help there.
    assert next(v for v in p_frame_verdicts(good.assign(lpips_silent=[0.2] + [0.4] * 4))).holds
    nothing = rows([0.0] * 5, [0.3] * 5, [0.4] * 5)
    assert [v.holds for v in p_frame_verdicts(nothing)] == [False, False]
    assert [v.holds for v in p_frame_verdicts(None)] == [None, None]
