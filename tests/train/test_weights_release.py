"""Weights that ship: small files that load as what was measured, with fitted rate-map tables."""

import shutil

import h5py
import numpy as np
import pytest
from keras import ops

from pvsc_link.models.entropy.side_information import rate_map_bits
from pvsc_link.models.pvsc.model import PvscModel
from pvsc_link.models.zoo import find_weights, load_model, load_models, save_weights
from pvsc_link.train.release import main, release
from pvsc_link.train.trainer import Trainer
from pvsc_link.types import InputError

INTRA = {"name": "first", "model": "intra", "steps": 2}
INTER = {"name": "second", "model": "inter", "steps": 2, "gop": [2]}


@pytest.fixture
def finished_run(micro_run, tmp_path, monkeypatch):
    monkeypatch.setattr("pvsc_link.train.release._FIT_CROP", 64)
    monkeypatch.setattr("pvsc_link.train.release._FIT_CLIPS", 3)
    Trainer(micro_run(INTRA, INTER), tmp_path / "run").run()
    return tmp_path / "run"


def test_released_weights_are_the_trained_ones_in_half_precision_with_fitted_tables(
    finished_run, tmp_path
):
    written = release([finished_run], tmp_path / "shipped", "rayleigh")
    assert [path.name for path in written] == [
        "micro_rayleigh_intra.weights.h5",
        "micro_rayleigh.weights.h5",
    ]
    assert {dtype for path in written for dtype in dtypes_of(path)} == {"float16", "int32"}
    trained = load_models("micro", find_weights("micro", str(finished_run / "weights")))
    shipped = load_models("micro", find_weights("micro", str(tmp_path / "shipped"), "rayleigh"))
    for old, new in zip(trained, shipped, strict=True):
        for a, b in zip(old.trainable_variables, new.trainable_variables, strict=True):
            expected = np.asarray(a, np.float32).astype(np.float16)
            np.testing.assert_array_equal(np.asarray(b), expected, err_msg=a.path)
    assert bits_of_a_rate_map(shipped[0]) < bits_of_a_rate_map(trained[0])


def dtypes_of(path):
    found = set()
    with h5py.File(path) as file:
        file.visititems(lambda _, item: found.add(str(getattr(item, "dtype", "int32"))))
    return found


def bits_of_a_rate_map(intra):
    frame = np.full((1, 64, 64, 3), 0.5, np.float32)
    sent = intra.forward(frame, ops.convert_to_tensor([1], "int32"))
    z_hat, index = (ops.convert_to_numpy(sent[k])[0] for k in ("z_hat", "rate_index"))
    return rate_map_bits(index, intra.rate_map_prior.tables(np.rint(z_hat), 1))


def test_tables_of_a_run_that_never_sent_anything_do_not_hang_on_feature_coding(
    finished_run, tmp_path
):
    """F_rx of a learned codec has not learnt: vectors found in its pictures would be noise."""
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    models = load_models("micro", find_weights("micro", str(other / "weights")))
    for kind, model in zip(("intra", "inter"), models, strict=True):
        for weight in model.feature_decoder.weights:
            weight.assign(np.asarray(weight) + 1.0)
        save_weights(model, other / "weights" / f"{kind}.weights.h5")
    load_models.cache_clear()
    tables = []
    for run in (finished_run, other):
        release([run], tmp_path / f"of_{run.name}")
        _, inter = load_models("micro", find_weights("micro", str(tmp_path / f"of_{run.name}")))
        tables.append(np.asarray(inter.motion_prior.counts))
    np.testing.assert_array_equal(*tables)


def test_a_run_without_p_model_is_refused(micro_run, tmp_path, capsys):
    run = tmp_path / "run"
    Trainer(micro_run(INTRA), run)  # pins the config; nothing is trained
    with pytest.raises(InputError, match="intra model of a run"):
        release([run], tmp_path / "shipped")
    assert main([str(run), "--folder", str(tmp_path / "shipped")]) == 2
    assert "intra model" in capsys.readouterr().err


def test_several_runs_are_released_as_their_mean(finished_run, micro_run, tmp_path):
    other = tmp_path / "other"
    start = str(finished_run / "weights")
    Trainer(micro_run(INTER, seed=7, initial_weights=start), other).run()
    release([finished_run, other], tmp_path / "shipped")
    shipped = load_models("micro", find_weights("micro", str(tmp_path / "shipped")))
    intra, inter = load_models("micro", find_weights("micro", str(finished_run / "weights")))
    for a, b in zip(intra.trainable_variables, shipped[0].trainable_variables, strict=True):
        np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=1e-3, atol=1e-6)
    second = load_model(PvscModel, inter.config, other / "weights" / "inter.weights.h5")
    moved = 0
    for a, b, c in zip(*(m.trainable_variables for m in (inter, second, shipped[1])), strict=True):
        mean = (np.asarray(a) + np.asarray(b)) / 2
        np.testing.assert_allclose(np.asarray(c), mean, rtol=1e-3, atol=1e-6)
        moved += not np.allclose(np.asarray(a), np.asarray(b), rtol=1e-2)
    assert moved > 10


def test_a_run_is_averaged_with_what_the_package_has(
    finished_run, micro_run, tmp_path, monkeypatch
):
    package, other = tmp_path / "package", tmp_path / "other"
    monkeypatch.setattr("pvsc_link.models.zoo.PACKAGED", package)
    release([finished_run], package)
    start = str(finished_run / "weights")
    Trainer(micro_run(INTRA, INTER, seed=7, initial_weights=start), other).run()
    old, new = (
        load_models("micro", find_weights("micro", str(folder)))
        for folder in (package, other / "weights")
    )
    release([other], tmp_path / "mean", packaged=True)
    mean = load_models("micro", find_weights("micro", str(tmp_path / "mean")))
    moved = 0
    for models in zip(old, new, mean, strict=True):
        for a, b, c in zip(*(m.trainable_variables for m in models), strict=True):
            middle = (np.asarray(a) + np.asarray(b)) / 2
            np.testing.assert_allclose(np.asarray(c), middle, rtol=2e-3, atol=1e-6)
            moved += not np.allclose(np.asarray(a), np.asarray(b), rtol=1e-2)
    assert moved > 10


def test_runs_of_different_models_are_refused(finished_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    described = other / "weights" / "intra.json"
    described.write_text(described.read_text().replace('"eta": 0.2', '"eta": 0.3'))
    with pytest.raises(InputError, match="models whose mean is wanted"):
        release([finished_run, other], tmp_path / "shipped")
