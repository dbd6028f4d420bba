"""A run that was killed and resumed ends with the weights of one that never stopped."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.train.checkpoint import Progress, load_checkpoint, save_checkpoint

HERE = Path(__file__).parent
SCRIPT = """
import os, signal, sys
from pathlib import Path
import yaml
sys.path.insert(0, {here!r})
from conftest import MICRO
from pvsc_link.semantic.presets import PRESETS
PRESETS["micro"] = MICRO
from pvsc_link.train.backend import make_repeatable
make_repeatable(1)
from pvsc_link.train import trainer
from pvsc_link.train.config import load_train_config
trainer.write_plot = lambda *_: None
config, folder, saved, killed = sys.argv[1], Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
saved = [int(s) for s in saved.split(",")]
run = trainer.Trainer(load_train_config(config), folder)
trainer._Pace.checkpoint_due = lambda self: run.global_step in saved
count = trainer.Trainer._count_usage
def count_and_die(self, kind, terms):
    if self.global_step == killed:
        os.kill(os.getpid(), signal.SIGKILL)
    count(self, kind, terms)
trainer.Trainer._count_usage = count_and_die
assert run.run()
"""


def run(config, folder, saved=(), killed=-1, check=True):
    """Train in a process of its own; ``saved`` : steps of checkpoints, ``killed`` : at this one."""
    code = textwrap.dedent(SCRIPT).format(here=str(HERE))
    words = [str(config), str(folder), ",".join(map(str, (-1, *saved))), str(killed)]
    result = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0 or not check, result.stderr[-3000:]
    return result.returncode


def same_end(config, tmp_path, *kills):
    """Whether killed runs, resumed, end as the uninterrupted one; each kill is (saved, killed)."""
    run(config, tmp_path / "whole")
    for saved, killed in kills:
        assert run(config, tmp_path / "broken", (saved,), killed, check=False) == -9
    run(config, tmp_path / "broken")
    ends = [load_checkpoint(tmp_path / name) for name in ("whole", "broken")]
    (_, whole), (_, broken) = ends
    assert whole.keys() == broken.keys()
    assert all(np.array_equal(whole[key], broken[key]) for key in whole)
    tables = [(tmp_path / name / "history.csv").read_text() for name in ("whole", "broken")]
    steps = [[line.split(",")[0] for line in table.splitlines()] for table in tables]
    assert steps[0] == steps[1]


def write_config(micro_run, tmp_path, *phases):
    path = tmp_path / "run.yaml"
    import yaml

    path.write_text(yaml.safe_dump(micro_run(*phases).model_dump()))
    return path


def test_a_killed_run_resumes_to_the_same_weights(micro_run, tmp_path):
    config = write_config(micro_run, tmp_path, {"model": "intra", "steps": 20})
    same_end(config, tmp_path, (6, 11))


@pytest.mark.slow
def test_over_two_hundred_steps_in_three_phases_too(micro_run, tmp_path):
    awgn = {"channel": "awgn", "snr_db": [0.0, 10.0]}
    config = write_config(
        micro_run,
        tmp_path,
        {"model": "intra", "steps": 80, "loss": {"per": 0.0, "adv": 0.1}},
        {"model": "inter", "steps": 60, "gop": [2, 3], "quantiser": "ste"},
        {"model": "inter", "stage": 3, "steps": 60, "gop": [2], "quantiser": "ste"}
        | {"channel": awgn, "rate_set": "overcomplete"},
    )
    same_end(config, tmp_path, (30, 55), (100, 133), (170, 190))


def test_the_checkpoint_before_stands_in_for_a_damaged_one(tmp_path):
    for step in (1, 2):
        assert save_checkpoint(tmp_path, Progress(step=step), {"a": np.full(3, step)})
    assert load_checkpoint(tmp_path)[0].step == 2
    path = tmp_path / "checkpoint.npz"
    path.write_bytes(path.read_bytes()[:100])
    progress, arrays = load_checkpoint(tmp_path)
    assert progress.step == 1
    assert arrays["a"].tolist() == [1, 1, 1]


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_a_checkpoint_that_is_not_finite_is_never_written(tmp_path, poison):
    save_checkpoint(tmp_path, Progress(step=1), {"a": np.ones(3)})
    assert not save_checkpoint(tmp_path, Progress(step=2), {"a": np.array([1, poison])})
    assert load_checkpoint(tmp_path)[0].step == 1


def test_without_a_checkpoint_there_is_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
