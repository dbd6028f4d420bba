"""Small sweeps over the embedded clip carphone, with caches of their own."""

import shutil

import pytest
import yaml

from pvsc_link.sweep.__main__ import main

SMALL = {
    "name": "small",
    "media": {"clips": ["carphone"], "gop": 2, "num_gops": 2},
    "link": {"channel": ["awgn", "rayleigh"], "snr_db": 10, "csi_nmse_db": -20},
    "schemes": [
        {"scheme": "x264", "rates": [27, 37]},
        {"scheme": "x265", "rates": [27, 32, 37]},
    ],
    "anchor": "x265",
    "metrics": ["psnr"],
}


def write(folder, **changes):
    """A scenario file in ``folder``: SMALL with top-level keys replaced."""
    data = SMALL | changes
    path = folder / f"{data['name']}.yaml"
    path.write_text(yaml.safe_dump(data))
    return path


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch):
    """Sweeps that a test runs draw no figures; ``swept`` ran before and has its own."""
    monkeypatch.setattr("pvsc_link.report.write_figures", lambda folder: [])


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    """Encode, metric and BLER caches of this test run: empty at its start."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def own_caches(shared_cache, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(shared_cache))


@pytest.fixture
def rough_bler(tmp_path_factory, monkeypatch):
    """Block error rates from few blocks, in caches that no other test reads."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path_factory.mktemp("rough")))
    monkeypatch.setattr("pvsc_link.sweep.mcs.MAX_BLOCKS", 128)


@pytest.fixture
def write_scenario(tmp_path):
    return lambda **changes: write(tmp_path, **changes)


@pytest.fixture(scope="session")
def swept(shared_cache, tmp_path_factory):
    """Results folder of SMALL, run once."""
    folder = tmp_path_factory.mktemp("swept")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVSC_LINK_CACHE", str(shared_cache))
        assert main([str(write(folder)), "--out", str(folder)]) == 0
    return folder / "small"


@pytest.fixture
def finished(swept, own_caches, tmp_path):
    """A copy of the results of SMALL that a test may change."""
    return shutil.copytree(swept, tmp_path / "out" / "small")
