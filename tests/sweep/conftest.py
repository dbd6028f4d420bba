"""Small sweeps over the embedded clip carphone, with caches of their own."""

import pytest
import yaml


@pytest.fixture
def own_caches(tmp_path, monkeypatch):
    """Encode, metric and BLER caches that start empty; VGG16's weights stay where they are."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def write_scenario(tmp_path):
    """Writes a scenario file from a mapping and returns its path."""

    def write(**changes):
        data = {
            "name": "small",
            "media": {"clips": ["carphone"], "gop": 2, "num_gops": 2},
            "link": {"channel": ["awgn", "rayleigh"], "snr_db": 10, "csi_nmse_db": -20},
            "schemes": [
                {"scheme": "x264", "rates": [27, 37]},
                {"scheme": "x265", "rates": [27, 32, 37]},
            ],
            "anchor": "x265",
            "metrics": ["psnr"],
        } | changes
        path = tmp_path / f"{data['name']}.yaml"
        path.write_text(yaml.safe_dump(data))
        return path

    return write
