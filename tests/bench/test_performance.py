"""The table of ratios: what is divided by what, and that a part which fails is told."""

import csv
import json

import pytest

from pvsc_link.bench import performance
from pvsc_link.bench.performance import Spent
from pvsc_link.bench.provenance import write_rows


def test_time_and_memory_of_a_command_are_those_of_its_process():
    spent = performance.run(["timeit", "-n", "1", "-r", "1", "sum(range(10**7))"])
    assert 0 < spent.cpu_s < 60
    assert spent.wall_s > 0
    assert spent.peak_mib > 5
    assert not spent.runnable <= 0, "positive, or not known here"
    with pytest.raises(RuntimeError, match="no_such_module"):
        performance.run(["no_such_module"])


def test_rows_hold_the_ratio_of_two_numbers_of_one_run(tmp_path, monkeypatch):
    def bench(words, **environment):
        found = words[words.index("--csv") + 1]
        speeds = {"layered": 50.0, "sionna-xla": 0.5}
        rows = [{"decoder": name, "mbit_per_cpu_s": speed} for name, speed in speeds.items()]
        write_rows(type(tmp_path)(found), rows)
        return Spent(3.0, 6.0, 100.0)

    monkeypatch.setattr(performance, "run", bench)
    assert performance.main(["--only", "link", "--out", str(tmp_path)]) == 0
    (row,) = csv.DictReader((tmp_path / "performance.csv").open())
    assert (float(row["ours"]), float(row["other"])) == (20.0, 2000.0)
    assert float(row["ratio"]) == 100.0
    assert (float(row["wall_s"]), float(row["cpu_s"]), float(row["peak_mib"])) == (3.0, 6.0, 100.0)
    manifest = json.loads((tmp_path / "performance.manifest.json").read_text())
    assert "performance --only link" in manifest["command"]


def test_quickstart_runs_from_empty_and_from_filled_caches_of_its_own(tmp_path, monkeypatch):
    seen = []

    def sweep(words, **environment):
        seen.append((words[1], environment))
        return Spent(10.0, 15.0, 1.0)

    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path))
    (tmp_path / performance._DOWNLOADED).write_bytes(b"weights")
    monkeypatch.setattr(performance, "run", sweep)
    monkeypatch.setattr(performance, "vgg16_weights", lambda: None)
    assert performance.main(["--only", "quickstart", "--scenario", "mine"]) == 0
    assert [name for name, _ in seen] == ["mine"] * 3
    assert len({given["PVSC_LINK_CACHE"] for _, given in seen}) == 1
    assert seen[0][1]["PVSC_LINK_CACHE"] != str(tmp_path)
    assert seen[-1][1]["PVSC_LINK_THREADS"] == "1"
