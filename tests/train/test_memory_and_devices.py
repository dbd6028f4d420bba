"""What saves memory, and sharing a batch among devices, leaves a step as it is."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from keras import tree

from pvsc_link.models.zoo import model_of
from pvsc_link.train.data import open_cache
from pvsc_link.train.family import configs_of
from pvsc_link.train.phase import Phase
from pvsc_link.train.weights import WeightStore, weights_by_path

HERE = Path(__file__).parent
INTER = {"model": "inter", "gop": [4], "quantiser": "ste"}
RAYLEIGH = {"channel": "rayleigh", "snr_db": [6.0], "csi_nmse_db": [-10.0]}


@pytest.fixture(scope="module")
def start(micro_preset):
    """Weights of both models, with every layer away from zero."""
    rng, weights = np.random.default_rng(0), {}
    for kind, config in configs_of(micro_preset.name, 2).items():
        arrays = weights_by_path(model_of(config))
        weights[kind] = {
            path: value + 0.05 * rng.standard_normal(value.shape).astype(value.dtype)
            if value.dtype == np.float32
            else value
            for path, value in arrays.items()
        }
    return weights


def prepared(config, start):
    store, cache = WeightStore(), open_cache(config.data)
    for kind, weights in start.items():
        store.weights[kind] = weights
        store.rate_sets[kind] = (0, 2, 4, 8)
    phase = Phase(config, config.phases[0], store, cache)
    return phase, phase.batches(cache, 0)


def stepped(phase, batch):
    """Gradient of the first step as Adam's first moment holds it, and the terms."""
    terms = phase.step(batch)
    return np.array(phase.groups[0].first), terms


def close(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


@pytest.mark.usefixtures("eager")
def test_rematerialised_frames_give_the_gradient_of_kept_ones(micro_run, start):
    found = []
    for rematerialise in (False, True):
        entry = {**INTER, "gop": [3], "stage": 3, "channel": RAYLEIGH}
        config = micro_run({**entry, "rematerialise": rematerialise})
        phase, maker = prepared(config, start)
        found.append(stepped(phase, maker.make(0)))
    (kept, terms), (again, terms_again) = found
    assert close(again, kept) < 1e-5
    assert terms_again["loss"] == pytest.approx(terms["loss"], rel=1e-6)


@pytest.mark.usefixtures("eager")
def test_accumulated_parts_give_the_gradient_of_the_whole_batch(micro_run, start):
    parts, maker = prepared(micro_run({**INTER, "gop": [2], "batch": 4, "accumulate": 2}), start)
    whole, _ = prepared(micro_run({**INTER, "gop": [2], "batch": 4}), start)
    batch = maker.make(0)
    assert batch["frames"].shape[:3] == (2, 2, 2)
    rate = batch.pop("learning_rate")
    merged = tree.map_structure(lambda entry: entry.reshape(-1, *entry.shape[2:]), batch)
    merged |= {name: batch[name][0] for name in ("rows", "place", "per_weight", "adv_weight")}
    expected, terms = stepped(whole, merged | {"learning_rate": rate})
    got, terms_of_parts = stepped(parts, batch | {"learning_rate": rate})
    assert close(got, expected) < 1e-5
    assert terms_of_parts["rec_ideal"] == pytest.approx(terms["rec_ideal"], rel=1e-5)


@pytest.mark.usefixtures("eager")
def test_a_truncated_gradient_ends_where_the_file_says(micro_run, start):
    found = {}
    for truncate in (None, 3, 1):
        phase, maker = prepared(micro_run({**INTER, "truncate": truncate}), start)
        found[truncate] = stepped(phase, maker.make(0))
    whole, terms = found[None]
    assert close(found[3][0], whole) < 1e-6
    assert close(found[1][0], whole) > 1e-3
    assert found[1][1]["loss"] == pytest.approx(terms["loss"], rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"batch": 4, "accumulate": 3}, "accumulate"),
        ({"model": "intra", "gop": [1], "truncate": 1}, "truncate"),
    ],
)
def test_what_does_not_divide_or_apply_is_refused(micro_run, keys, words):
    with pytest.raises(ValueError, match=words):
        micro_run({**INTER, **keys})


@pytest.mark.slow
@pytest.mark.usefixtures("eager")
def test_a_short_run_in_bfloat16_follows_float32(micro_run, start):
    """Most losses of 20 steps within 2 %, and weights, moments and averages in float32.

    Where a rounding chooses another rate, the loss of a step differs by more.
    """
    losses = {}
    for precision in ("float32", "mixed_bfloat16"):
        keys = {**INTER, "gop": [2], "stage": 3, "channel": RAYLEIGH, "steps": 20}
        phase, maker = prepared(micro_run({**keys, "precision": precision}), start)
        losses[precision] = [float(phase.step(maker.make(s))["loss"]) for s in range(20)]
        every = [v for group in phase.groups for v in (*group.variables, *group.state)]
        assert {np.array(v).dtype for v in every} == {np.dtype(np.float32)}
    apart = np.abs(np.divide(losses["mixed_bfloat16"], losses["float32"]) - 1)
    assert np.median(apart) < 0.02
    assert 0 < apart.max() < 0.2


SCRIPT = """
import json, sys
sys.modules["tensorflow"] = sys.modules["sionna"] = None  # an import of either fails
import keras, numpy as np
from pathlib import Path
from pvsc_link.models import PRESETS, PvscMcConfig, intra_of
from pvsc_link.train.config import load_train_config
from pvsc_link.train.trainer import Trainer
folder, micro, run, num_devices, hosts = sys.argv[1:]
MICRO = PvscMcConfig.from_dict(json.loads(micro))
PRESETS["micro"], PRESETS["micro_intra"] = MICRO, intra_of(MICRO)
from pvsc_link.train import step
step.prepare(num_devices=int(num_devices), several_hosts=int(hosts) > 1)
assert step.num_devices() == int(num_devices)
Trainer(load_train_config(Path(folder) / "run.yaml"), Path(folder) / run).run()
"""


def started(folder, micro, run, *, num_devices=1, num_hosts=1, host=0, port=0):
    """A process without TensorFlow that trains ``folder / "run.yaml"`` in ``folder / run``."""
    words = [folder, json.dumps(micro.to_dict()), run, num_devices, num_hosts]
    cores = num_devices // num_hosts
    environment = {
        "KERAS_BACKEND": "jax",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={cores}",
    }
    if num_hosts > 1:
        environment |= {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": str(num_hosts),
            "KERAS_DISTRIBUTION_PROCESS_ID": str(host),
        }
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *map(str, words)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*processes):
    """Waits for the processes, and ends them all where one fails."""
    try:
        said = [process.communicate(timeout=3600)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, text in zip(processes, said, strict=True):
        assert process.returncode == 0, text[-3000:]


def weights_at_end(run):
    """All weights of the last checkpoint of a run, as one vector."""
    with np.load(run / "checkpoint.npz") as file:
        arrays = {name: file[name] for name in file.files if name.startswith("weights")}
    return np.concatenate([a.ravel() for a in arrays.values() if a.dtype == np.float32])


def run_file(config, folder):
    import yaml

    pytest.importorskip("jax")
    (folder / "run.yaml").write_text(yaml.safe_dump(config.model_dump()))


KEYS = {"steps": 3, "batch": 4, "quantiser": "ste"}
NO_CLIPS = {"clips": [], "every": 2}


@pytest.mark.slow
def test_four_devices_train_as_one_does_without_tensorflow(micro_run, micro_preset, tmp_path):
    config = micro_run(
        {"model": "intra", **KEYS},
        {**INTER, **KEYS, "gop": [3], "stage": 3, "channel": RAYLEIGH, "rematerialise": True},
        evaluation=NO_CLIPS,
    )
    run_file(config, tmp_path)
    ended(started(tmp_path, micro_preset, "one"))
    ended(started(tmp_path, micro_preset, "four", num_devices=4))
    assert close(weights_at_end(tmp_path / "four"), weights_at_end(tmp_path / "one")) < 1e-4


@pytest.mark.slow
def test_two_hosts_train_as_one_does(micro_run, micro_preset, tmp_path):
    config = micro_run(
        {"model": "intra", **KEYS, "stage": 3, "channel": RAYLEIGH}, evaluation=NO_CLIPS
    )
    run_file(config, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    keys = {"num_devices": 2, "num_hosts": 2, "port": port}
    both = [started(tmp_path, micro_preset, "two", host=n, **keys) for n in (0, 1)]
    ended(started(tmp_path, micro_preset, "one"), *both)
    one, two = (weights_at_end(tmp_path / run) for run in ("one", "two"))
    assert close(two, one) < 1e-4
    # The other host did the same work, and kept out of the run folder.
    np.testing.assert_array_equal(weights_at_end(tmp_path / "two" / "hosts" / "1"), two)
    assert len((tmp_path / "two" / "history.csv").read_text().splitlines()) == 2
