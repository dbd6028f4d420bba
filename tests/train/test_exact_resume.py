"""A run that was killed and resumed ends with the weights of one that never stopped."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml

from pvsc_link.train.trainer import Progress, load_checkpoint, save_checkpoint

HERE = Path(__file__).parent
SCRIPT = """
import os, signal, sys
from pathlib import Path
import yaml
sys.path.insert(0, {here!r})
from conftest import MICRO
from pvsc_link.models.presets import PRESETS
PRESETS["micro"] = MICRO
from pvsc_link.train.step import prepare
from pvsc_link.train import trainer
from pvsc_link.train.config import load_train_config
trainer.write_plot = lambda *_: None
import tensorflow as tf
config, eager = sys.argv[1], sys.argv[2] == "eager"
jobs = [job.split(":") for job in sys.argv[3:]]
count = trainer.Trainer._count_usage
for place, (folder, saved, killed) in enumerate(jobs):
    if int(killed) >= 0 and (child := os.fork()):
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        continue
    if place == 0 or int(killed) >= 0 or int(jobs[place - 1][2]) >= 0:
        prepare(1)
        tf.config.run_functions_eagerly(eager)
    run = trainer.Trainer(load_train_config(config), Path(folder))
    trainer._Pace.checkpoint_due = lambda self: run.global_step == int(saved)
    def count_and_die(self, kind, terms):
        if self.global_step == int(killed):
            os.kill(os.getpid(), signal.SIGKILL)
        count(self, kind, terms)
    trainer.Trainer._count_usage = count_and_die
    assert run.run()
"""


def run(config, how, *jobs):
    """Trainings one after the other, outside this process; those to be killed each in a fork.

    A job is (folder, step of a checkpoint, step of the kill); -1 for none.
    """
    code = textwrap.dedent(SCRIPT).format(here=str(HERE))
    words = [str(config), how, *(":".join(map(str, job)) for job in jobs)]
    result = subprocess.run(
        [sys.executable, "-c", code, *words],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]


def same_end(config, tmp_path, how, *kills):
    """A run that is killed again and again ends as the one that never was."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    run(config, how, *((broken, *kill) for kill in kills), (broken, -1, -1), (whole, -1, -1))
    (_, expected), (_, got) = load_checkpoint(whole), load_checkpoint(broken)
    assert expected.keys() == got.keys()
    # TensorFlow's graphs of two processes can differ in the last bit, operations run one by one do
    # not. A lost state or another batch makes differences of the order of the learning rate, 1e-3.
    tolerance = 0.0 if how == "eager" else 1e-5
    for key in expected:
        np.testing.assert_allclose(got[key], expected[key], rtol=0, atol=tolerance, err_msg=key)
    tables = [(folder / "history.csv").read_text() for folder in (whole, broken)]
    steps = [[line.split(",")[0] for line in table.splitlines()] for table in tables]
    assert steps[0] == steps[1]


def write_config(micro_run, tmp_path, *phases):
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(micro_run(*phases).model_dump()))
    return path


def test_a_killed_run_resumes_to_the_same_weights(micro_run, tmp_path):
    fading = {"channel": "rayleigh", "snr_db": [0.0, 10.0], "csi_nmse_db": [-20, -10]}
    joint = {"model": "intra", "stage": 3, "steps": 8, "quantiser": "ste", "channel": fading}
    config = write_config(micro_run, tmp_path, joint)
    same_end(config, tmp_path, "eager", (3, 6))


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
    same_end(config, tmp_path, "compiled", (30, 55), (100, 133), (170, 190))


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
