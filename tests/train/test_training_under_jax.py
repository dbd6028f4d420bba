"""The same steps under JAX: from equal weights, equal losses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
SCRIPT = """
import json, sys
sys.path.insert(0, {here!r})
from conftest import MICRO
from pvsc_link.models.presets import PRESETS
PRESETS["micro"] = MICRO
from pathlib import Path
import numpy as np
from pvsc_link.train.batches import BatchMaker
from pvsc_link.train.data import open_cache
from pvsc_link.train.config import load_train_config
from pvsc_link.train.weights import WeightStore, load_initial_weights, weights_by_path
from pvsc_link.train.phase import Phase

def losses(path, weights, make_weights):
    config, store = load_train_config(path), WeightStore()
    entry, cache = config.phases[0], open_cache(config.data)
    if not make_weights:
        load_initial_weights(weights, config, store)
        if (weights / "discriminator.npz").exists():
            store.weights["discriminator"] = dict(np.load(weights / "discriminator.npz"))
    elif entry.model == "inter":
        first = config.model_copy(update={{"phases": [config.phases[1]]}})
        Phase(first, first.phases[0], store, cache).finish()
    phase = Phase(config, entry, store, cache)
    if make_weights:
        phase.save_averaged(weights)
        if phase.discriminator is not None:
            np.savez(weights / "discriminator.npz", **weights_by_path(phase.discriminator))
        if phase.inter is not None:
            phase.intra.save_weights(weights / "intra.weights.h5")
            (weights / "intra.json").write_text(json.dumps(phase.intra.config.to_dict()))
    fixed = None if phase.inter is None else phase.intra.config
    maker = BatchMaker(config, entry, phase.model.config, fixed, cache, 0)
    return [float(phase.step(maker.make(s))["loss"]) for s in range(3)]

print("LOSSES", json.dumps(losses(sys.argv[1], Path(sys.argv[2]), sys.argv[3] == "make")))
"""


def losses(backend, config, weights, how):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(here=str(HERE)), str(config), str(weights), how],
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_PLATFORMS": "cpu",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    line = next(x for x in result.stdout.splitlines() if x.startswith("LOSSES"))
    return json.loads(line.removeprefix("LOSSES"))


def same_losses(micro_run, tmp_path, *phases):
    config = tmp_path / "run.yaml"
    config.write_text(yaml.safe_dump(micro_run(*phases).model_dump()))
    expected = losses("tensorflow", config, tmp_path / "weights", "make")
    got = losses("jax", config, tmp_path / "weights", "load")
    assert got == pytest.approx(expected, rel=2e-3)
    assert expected[0] != expected[1]


@pytest.mark.slow
def test_three_steps_of_the_ideal_branch_give_the_losses_of_tensorflow(micro_run, tmp_path):
    pytest.importorskip("jax")
    intra = {"model": "intra", "batch": 1, "loss": {"per": 0.0, "adv": 0.1}}
    same_losses(micro_run, tmp_path, intra)


@pytest.mark.slow
def test_three_joint_steps_through_the_channel_give_the_losses_of_tensorflow(micro_run, tmp_path):
    pytest.importorskip("jax")
    rayleigh = {"channel": "rayleigh", "snr_db": [6.0], "csi_nmse_db": [-10.0]}
    inter = {"model": "inter", "stage": 3, "gop": [3], "batch": 1, "channel": rayleigh}
    same_losses(micro_run, tmp_path, inter, {"model": "intra", "batch": 1})
