"""The template package of examples/plugin, as pip installs it, and one that is broken."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

TEMPLATE = Path(__file__).parents[1] / "examples" / "plugin"


@pytest.fixture
def installed(tmp_path):
    """An environment in which the template is installed, beside a package that is broken."""
    groups = tomllib.loads((TEMPLATE / "pyproject.toml").read_text())["project"]["entry-points"]
    broken = {"pvsc_link.codecs": {"broken": "no_such_module:CODEC", "x265": "math:pi"}}
    for name, points in (("template", groups), ("broken", broken)):
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = []
        for group, of_group in points.items():
            lines += [f"[{group}]", *(f"{key} = {value}" for key, value in of_group.items())]
        (folder / "entry_points.txt").write_text("\n".join(lines))
    paths = [str(tmp_path), str(TEMPLATE), str(TEMPLATE.parents[1])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def test_what_a_package_brings_is_there_by_name_and_runs(installed, tmp_path):
    example, out = str(TEMPLATE / "example.yaml"), str(tmp_path)
    code = (
        "import sys\n"
        "from pvsc_link.commands import main\n"
        "from pvsc_link.metrics import METRICS\nfrom pvsc_link.codecs import CODECS\n"
        "assert 'tensorflow' not in sys.modules and 'mae' in METRICS and 'jpeg' in CODECS\n"
        "assert 'broken' not in CODECS and CODECS['x265'].label.startswith('x265')\n"
        "assert main(['schemes', 'list']) == 0\n"
        "assert main(['sweep', '--explain', 'link.channel']) == 0\n"
        f"status = main(['sweep', {example!r}, '--out', {out!r}])\n"
        "assert status == 0\n"
        "import pandas as pd\n"
        f"rows = pd.read_csv({str(tmp_path / 'plugin_example' / 'points.csv')!r})\n"
        "assert set(rows.scheme) == {'jpeg', 'mean-colours'}, rows.scheme\n"
        "assert set(rows.status) <= {'ok', 'outage'}, rows.note\n"
        "assert rows.mae.notna().all() and set(rows.channel) == {'on-off'}\n"
        "assert rows[rows.scheme == 'mean-colours'].psnr_db.min() > 9, rows.psnr_db\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=installed, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "on-off" in done.stdout
    assert "mean-colours" in done.stdout
    assert "jpeg" in done.stdout
    assert "broken = no_such_module:CODEC of pvsc_link.codecs is left out" in done.stderr
