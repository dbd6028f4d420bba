"""The drift benchmark writes a row per frame of every GOP, and the gate reads them."""

import pandas as pd
import pytest

from pvsc_link.bench.__main__ import main
from pvsc_link.bench.gates import _drift_verdict


@pytest.mark.ci
def test_every_frame_of_every_gop_has_a_row_with_its_quality(micro, tmp_path, capsys):
    options = ["--preset", micro, "--gop", "3", "--gops", "2", "--rates", "2"]
    options += ["--refresh-every", "0", "2"]
    assert main(["drift", *options, "--folder", str(tmp_path)]) == 0
    table = pd.read_csv(tmp_path / "drift.csv")
    runs = table.groupby(["refresh_every", "rate"])
    assert runs["frame"].apply(list).tolist() == [list(range(6))] * 2
    assert (runs["cbr"].nunique() == 1).all()
    assert table["lpips"].between(0, 2).all()
    assert (table["weights"] == "untrained").all()
    assert "lpips" in capsys.readouterr().out
    assert (tmp_path / "drift.manifest.json").is_file()
    assert _drift_verdict(table).holds is None


def test_a_clip_that_is_not_there_is_told(micro, tmp_path, capsys):
    assert main(["drift", "--preset", micro, "--clips", "carfone", "--folder", str(tmp_path)]) == 2
    assert "carphone" in capsys.readouterr().err
