"""``import pvsc_link``: light, and from a scenario to a DataFrame in two calls."""

import subprocess
import sys

import numpy as np
import pytest

import pvsc_link
from pvsc_link.types import InputError


def test_importing_the_package_loads_no_tensorflow():
    program = (
        "import sys, pvsc_link; pvsc_link.load_results, pvsc_link.Scenario;"
        "print([name for name in ('tensorflow', 'sionna', 'keras') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_thing"):
        _ = pvsc_link.no_such_thing


def test_from_a_scenario_to_a_table(tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    scenario = pvsc_link.Scenario(
        name="tiny",
        media={"clips": ["carphone"], "gop": 2, "num_gops": 1},
        link={"channel": "awgn", "snr_db": 10},
        schemes=[{"scheme": "x264", "rates": [32, 37, 42], "mcs": 10, "preset": "ultrafast"}],
        anchor="x264",
        metrics=["psnr"],
    )
    folder = pvsc_link.run_sweep(scenario, out=tmp_path)
    points = pvsc_link.load_results(folder).sort_values("cbr")
    assert list(points["rate"]) == [42, 37, 32]
    assert np.all(np.diff(points["psnr_db"]) > 0)
    assert "run_sweep" in (folder / "manifest.json").read_text()
    assert list((folder / "figures").glob("*.png"))


def test_a_scenario_that_is_not_there_is_told(tmp_path):
    with pytest.raises(InputError, match="scenario file is missing"):
        pvsc_link.run_sweep(tmp_path / "none.yaml")
