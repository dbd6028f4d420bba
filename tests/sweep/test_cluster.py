"""A sweep on Dask workers ends with the rows of one process, whatever happens to the workers."""

import os
import subprocess
import sys
from functools import partial

import made_up
import pandas as pd
import pytest
from rich.console import Console

from pvsc_link.scenario import load_scenario, parse_scenario
from pvsc_link.sweep import build, read_points, run_plan
from pvsc_link.sweep.__main__ import main
from pvsc_link.sweep.cluster import ClusterEngine, cluster_client, run_job

distributed = pytest.importorskip("distributed")
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def threads():
    """A cluster of two threads in this process, which sees what a test registers."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def made_up_scenario(tmp_path, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "cache"))
    made_up.register(monkeypatch)
    clip = made_up.write_clip(tmp_path / "clip")
    return lambda **changes: parse_scenario(made_up.described(clip, **changes))


def table(folder):
    return read_points(folder).drop(columns="seconds")


def test_workers_give_the_rows_of_one_process_and_resume(threads, made_up_scenario, tmp_path):
    scenario = made_up_scenario()
    run_plan(build(scenario), tmp_path / "one", console=QUIET)
    engine = ClusterEngine(threads, scenario, seeds_per_task=1)
    run_plan(build(scenario), tmp_path / "many", engine=engine, console=QUIET)
    pd.testing.assert_frame_equal(table(tmp_path / "one"), table(tmp_path / "many"))
    for name in ("gops.csv", "mcs_neighbours.csv"):
        one, many = (pd.read_csv(tmp_path / f / name) for f in ("one", "many"))
        pd.testing.assert_frame_equal(
            one.drop(columns="seconds", errors="ignore"),
            many.drop(columns="seconds", errors="ignore"),
        )

    def refuse(job):
        raise AssertionError("a finished task was sent to a worker again")

    again = ClusterEngine(threads, scenario, seeds_per_task=1, job=refuse)
    run_plan(build(scenario), tmp_path / "many", engine=again, console=QUIET)


def test_a_rate_that_is_added_moves_the_choice_as_in_one_process(
    threads, made_up_scenario, tmp_path
):
    few = [{"scheme": "coarse", "rates": [64]}, {"scheme": "noisy"}]
    for schemes in (few, made_up.described("")["schemes"]):
        scenario = made_up_scenario(schemes=schemes)
        engine = ClusterEngine(threads, scenario)
        run_plan(build(scenario), tmp_path / "grown", engine=engine, console=QUIET)
    run_plan(build(made_up_scenario()), tmp_path / "fresh", console=QUIET)
    pd.testing.assert_frame_equal(table(tmp_path / "grown"), table(tmp_path / "fresh"))


def test_workers_keep_the_frames_of_one_process(threads, made_up_scenario, tmp_path):
    scenario = made_up_scenario()
    run_plan(build(scenario), tmp_path / "one", save_frames=True, console=QUIET)
    engine = ClusterEngine(threads, scenario, seeds_per_task=1)
    many = tmp_path / "many"
    run_plan(build(scenario), many, engine=engine, save_frames=True, console=QUIET)
    one = {path.name: path.read_bytes() for path in (tmp_path / "one/frames").iterdir()}
    assert len(one) > 8, "a frame of each point of one seed, and the source frame"
    assert {path.name: path.read_bytes() for path in (many / "frames").iterdir()} == one
    next((many / "frames").iterdir()).unlink()
    run_plan(build(scenario), many, engine=engine, save_frames=True, console=QUIET)
    assert {path.name for path in (many / "frames").iterdir()} == set(one)


@pytest.mark.slow
def test_a_stop_rule_is_obeyed(threads, made_up_scenario, tmp_path):
    scenario = made_up_scenario(stop={"psnr_interval": 0.5, "max_seeds": 6})
    run_plan(build(scenario), tmp_path / "one", console=QUIET)
    engine = ClusterEngine(threads, scenario, seeds_per_task=1)
    run_plan(build(scenario), tmp_path / "many", engine=engine, console=QUIET)
    pd.testing.assert_frame_equal(table(tmp_path / "one"), table(tmp_path / "many"))


def _end_the_worker(job, flag, most):
    """Take the worker process down in jobs of one rate, ``most`` times."""
    deaths = len(os.listdir(flag))
    if not job.chooses and deaths < most:
        with open(os.path.join(flag, str(deaths)), "x"):
            os._exit(9)
    return run_job(job)


@pytest.mark.slow
@pytest.mark.parametrize(("most", "status"), [(2, "ok"), (1000, "worker_lost")])
def test_lost_workers_cost_no_row(most, status, write_scenario, own_caches, tmp_path):
    """Two deaths are mended; a task that takes three workers down becomes rows with a status."""
    schemes = [{"scheme": "x264", "rates": [37], "mcs": 9}]
    scenario = load_scenario(write_scenario(schemes=schemes, anchor=None))
    (tmp_path / "deaths").mkdir()
    with cluster_client(workers=2, console=QUIET) as client:
        job = partial(_end_the_worker, flag=str(tmp_path / "deaths"), most=most)
        engine = ClusterEngine(client, scenario, job=job)
        run_plan(build(scenario), tmp_path / "out", engine=engine, console=QUIET)
    rows = read_points(tmp_path / "out")
    assert set(rows.status) == {status}
    assert len(rows) == 2
    assert len(os.listdir(tmp_path / "deaths")) == min(most, 3)


@pytest.mark.slow
def test_worker_processes_give_the_rows_of_one_process(write_scenario, own_caches, tmp_path):
    scenario = str(write_scenario())
    assert main([scenario, "--out", str(tmp_path / "many"), "--workers", "2"]) == 0
    assert main([scenario, "--out", str(tmp_path / "one")]) == 0
    pd.testing.assert_frame_equal(table(tmp_path / "one/small"), table(tmp_path / "many/small"))


@pytest.mark.slow
def test_the_tasks_of_an_allocation_run_a_sweep(write_scenario, own_caches, tmp_path):
    """Three processes with the variables that srun sets: scheduler, client and worker."""
    schemes = [{"scheme": "x264", "rates": [37], "mcs": 9}]
    scenario = str(write_scenario(schemes=schemes, anchor=None))
    command = [sys.executable, "-m", "pvsc_link.sweep", scenario, "--slurm", "allocation"]
    given = os.environ | {"SLURM_NTASKS": "3", "SLURM_JOB_ID": "17"}
    ranks = [
        subprocess.Popen(
            [*command, "--out", str(tmp_path / "out")],
            env=given | {"SLURM_PROCID": str(rank)},
            cwd=tmp_path,
        )
        for rank in range(3)
    ]
    assert [rank.wait(300) for rank in ranks] == [0, 0, 0]
    assert set(read_points(tmp_path / "out/small").status) == {"ok"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--workers", "0"], "--workers"),
        (["--workers", "2", "--shard", "1/2"], "do not go together"),
        (["--dashboard"], "--dashboard without --workers"),
        (["--scheduler", "nonsense://x"], "Dask scheduler"),
        (["--slurm", "absent.yaml"], "missing"),
        (["--slurm", "allocation"], "srun"),
    ],
)
def test_bad_words_are_told(words, said, write_scenario, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main([str(write_scenario()), "--out", str(tmp_path / "out"), *words]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "text", ["[]", "jobs: 0", "jobs: true", "jobs: 2", "{jobs: 1, cores: a}", "{jobs: 1, cores: 1}"]
)
def test_a_bad_slurm_file_is_told(text, write_scenario, tmp_path, capsys):
    (tmp_path / "slurm.yaml").write_text(text)
    words = ["--out", str(tmp_path / "out"), "--slurm", str(tmp_path / "slurm.yaml")]
    assert main([str(write_scenario()), *words]) == 2
    assert "SLURM file" in capsys.readouterr().err
