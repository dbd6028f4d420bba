"""Shards that never speak, joined, are the sweep of one process."""

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import made_up
import pandas as pd
import pytest
import yaml

from pvsc_link.scenario import load_scenario
from pvsc_link.sweep import build, read_points
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.tasks import Shard, tasks_of
from pvsc_link.types import InputError

CLIP = object()
TABLES = ("points.csv", "mcs_neighbours.csv", "gops.csv", "bd_cbr.csv")


def database(folder, shard):
    return closing(sqlite3.connect(folder / "shards" / shard / "points.sqlite"))


def same_table(first, second, name):
    one, two = read_points(first, name), read_points(second, name)
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), two.drop(columns="seconds"))


@pytest.fixture(scope="module")
def module_patch(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVSC_LINK_CACHE", str(tmp_path_factory.mktemp("cache")))
        made_up.register(patch)
        patch.setattr("pvsc_link.report.write_figures", lambda folder: [])
        yield patch


@pytest.fixture(scope="module")
def sharded(module_patch, tmp_path_factory):
    """Scenario of a baseline and a semantic scheme, and the folder of its two shards."""
    folder = tmp_path_factory.mktemp("shards")
    scenario = folder / "small.yaml"
    clip = made_up.write_clip(folder / "clip")
    scenario.write_text(yaml.safe_dump(made_up.described(clip)))
    for shard in ("2/2", "1/2"):  # in any order
        words = [str(scenario), "--out", str(folder / "parts"), "--shard", shard]
        assert main(words) == 0
    return scenario, folder


def test_merged_shards_are_the_rows_of_one_process(sharded, module_patch, capsys):
    scenario, folder = sharded
    assert not (folder / "parts/small/points.csv").exists()
    assert main(["merge", str(scenario), "--out", str(folder / "parts")]) == 0
    assert "0 rows in more than one, 0 points missing" in capsys.readouterr().err
    assert main([str(scenario), "--out", str(folder / "whole")]) == 0
    for name in TABLES[:2]:
        same_table(folder / "parts/small", folder / "whole/small", name)
    for name in TABLES[2:]:
        texts = [(folder / out / "small" / name).read_text() for out in ("parts", "whole")]
        assert texts[0] == texts[1]
    rows = read_points(folder / "whole/small")
    assert len(rows) == 16
    assert rows.groupby("snr_db").mcs.nunique().tolist() == [1, 1]
    assert rows.mcs.nunique() == 2
    manifest = json.loads((folder / "parts/small/manifest.json").read_text())
    assert len(manifest["made_on"]) == 1
    assert manifest["made_on_differs_in"] == []


def test_the_two_schemes_were_in_different_shards_and_chose_one_mcs(sharded):
    _, folder = sharded
    found = {}
    for shard in ("1-of-2", "2-of-2"):
        with database(folder / "parts/small", shard) as connection:
            rows = [json.loads(row) for (row,) in connection.execute("SELECT row FROM points")]
        rows = [row for row in rows if row["mcs_role"] == "chosen"]
        found[shard] = {row["scheme"] for row in rows}, {(r["snr_db"], r["mcs"]) for r in rows}
    assert found["1-of-2"][0] == {"coarse"}
    assert found["2-of-2"][0] == {"noisy"}
    assert found["1-of-2"][1] == found["2-of-2"][1]


@pytest.mark.slow
def test_merged_shards_of_a_real_scenario_are_the_rows_of_one_process(tmp_path, monkeypatch):
    """The scenario quickstart of the package, each shard a process of its own."""
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    sweep = [sys.executable, "-m", "pvsc_link.sweep"]
    of_parts = ["quickstart", "--out", str(tmp_path / "parts")]
    shards = [subprocess.Popen([*sweep, *of_parts, "--shard", f"{i}/2"]) for i in (1, 2)]
    assert [shard.wait() for shard in shards] == [0, 0]
    subprocess.run([*sweep, "merge", *of_parts], check=True)
    subprocess.run([*sweep, "quickstart", "--out", str(tmp_path / "whole")], check=True)
    for name in TABLES[:2]:
        same_table(tmp_path / "parts/quickstart", tmp_path / "whole/quickstart", name)


@pytest.fixture
def copied(sharded, module_patch, tmp_path):
    """The scenario, and a copy of its shards that a test may change."""
    scenario, folder = sharded
    shutil.copytree(folder / "parts/small/shards", tmp_path / "small/shards")
    return str(scenario), tmp_path


def change(folder, shard, statement, *values):
    with database(folder / "small", shard) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def merge_error(scenario, folder, capsys):
    assert main(["merge", scenario, "--out", str(folder)]) == 2
    assert not (folder / "small/points.csv").exists()
    return capsys.readouterr().err


def test_a_missing_shard_and_a_missing_row_are_told(copied, capsys):
    scenario, folder = copied
    statement = "DELETE FROM points WHERE rowid IN (SELECT MIN(rowid) FROM points)"
    change(folder, "2-of-2", statement)
    assert "1 of 16 points without a result" in merge_error(scenario, folder, capsys)
    shutil.rmtree(folder / "small/shards/2-of-2")
    assert "not [2]" in merge_error(scenario, folder, capsys)
    assert main(["merge", scenario, "--out", str(folder), "--partial"]) == 0
    assert "8 points missing" in capsys.readouterr().err
    assert main([scenario, "--out", str(folder)]) == 0  # runs the rest
    assert len(read_points(folder / "small")) == 16


def test_doubled_rows_must_agree(copied, capsys):
    scenario, folder = copied
    with database(folder / "small", "1-of-2") as connection:
        point_id, row = connection.execute("SELECT * FROM points").fetchone()
    row = json.loads(row) | {"seconds": 99.0}
    insert = "INSERT INTO points VALUES (?, ?)"
    change(folder, "2-of-2", insert, point_id, json.dumps(row))
    assert main(["merge", scenario, "--out", str(folder)]) == 0
    assert "1 rows in more than one" in capsys.readouterr().err
    (folder / "small/points.csv").unlink()
    row["cbr"] *= 1.001
    update = "UPDATE points SET row = ? WHERE point_id = ?"
    change(folder, "2-of-2", update, json.dumps(row), point_id)
    assert "column cbr" in merge_error(scenario, folder, capsys)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("version", "0.0.9, rules 1", "another version"),
        ("frame_digests", CLIP, "frame_digests:"),
        ("shard", {"index": 2, "of": 3, "seeds_per_task": 8}, "n = 3 with"),
    ],
)
def test_shards_of_other_versions_videos_and_divisions_are_refused(
    key, value, said, copied, capsys
):
    scenario, folder = copied
    if value is CLIP:
        value = {yaml.safe_load(Path(scenario).read_text())["media"]["clips"]: ["0" * 16]}
    statement = "UPDATE facts SET value = ? WHERE key = ?"
    change(folder, "2-of-2", statement, json.dumps(value), key)
    assert said in merge_error(scenario, folder, capsys)


def test_another_choice_of_an_mcs_is_refused(copied, capsys):
    scenario, folder = copied
    statement = "UPDATE facts SET value = '[]' WHERE key LIKE 'mcs_worth%'"
    change(folder, "2-of-2", statement)
    assert "mcs_worth" in merge_error(scenario, folder, capsys)


def test_every_point_is_in_one_shard_and_every_scheme_in_all(write_scenario):
    clips = ["carphone", "bikes"]
    scenario = write_scenario(media={"clips": clips, "gop": [2, 4], "num_gops": 1}, seed=[1, 2, 3])
    plan = build(load_scenario(scenario))
    tasks = tasks_of(plan, 2)
    assert sorted(p.point_id for t in tasks for p in t.points) == sorted(
        p.point_id for p in plan.points
    )
    assert len(tasks) == 2 * 2 * 2 * 2
    parts = [Shard(i, 4).tasks(tasks) for i in range(1, 5)]
    assert sum(map(len, parts)) == len(tasks)
    for part in parts:
        assert {task.points[0].scheme for task in part} == {"x264", "x265"}


def test_a_stop_rule_keeps_the_seeds_of_a_point_together(write_scenario):
    scenario = write_scenario(stop={"frame_errors": 3, "max_seeds": 20})
    assert len(tasks_of(build(load_scenario(scenario)), 2)) == 2


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/", "-1/2", "1/2/3", "1/99999999"])
def test_a_shard_that_is_none_is_told(text):
    with pytest.raises(InputError, match="--shard"):
        Shard.parsed(text)


@pytest.mark.parametrize(
    "words", [["--partial"], ["--shard", "1/2", "--restore"], ["merge", "--shard", "1/2"]]
)
def test_options_that_do_not_go_together_are_told(words, write_scenario, tmp_path, capsys):
    merging, words = words[:1] == ["merge"], [word for word in words if word != "merge"]
    given = ["merge"] * merging + [str(write_scenario()), "--out", str(tmp_path / "out"), *words]
    assert main(given) == 2
    assert "do not go together" in capsys.readouterr().err
