"""Weights that ship: small files that load as what was measured, with fitted rate-map tables."""

import shutil

import h5py
import numpy as np
import pytest
import yaml
from keras import ops

from pvsc_link.models.entropy.range_coder import information
from pvsc_link.models.zoo import find_weights, load_models, save_weights
from pvsc_link.train.release import main, release
from pvsc_link.train.trainer import Trainer
from pvsc_link.types import InputError

INTRA = {"name": "first", "model": "intra", "steps": 2}
INTER = {"name": "second", "model": "inter", "steps": 2, "gop": [2]}


@pytest.fixture(scope="module", autouse=True)
def few_pictures():
    """Tables are fitted to a few small pictures."""
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"_FIT_CLIPS": 3, "_FIT_FRAMES": 2, "_FIT_CROP": 64, "_FIT_PICTURES": 3}
        for name, value in sizes.items():
            patch.setattr(f"pvsc_link.train.release.{name}", value)
        patch.setattr("pvsc_link.train.trainer.write_plot", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def finished_run(micro_run, eager, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    Trainer(micro_run(INTRA, INTER), folder).run()
    return folder


@pytest.fixture(scope="module")
def second_run(micro_run, finished_run):
    """A run with other data that starts from the weights of ``finished_run``."""
    start = str(finished_run / "weights")
    folder = finished_run.parent / "second"
    Trainer(micro_run(INTRA, INTER, seed=7, initial_weights=start), folder).run()
    return folder


@pytest.fixture(scope="module")
def shipped(finished_run):
    """A folder with the released weights of ``finished_run``."""
    folder = finished_run.parent / "shipped"
    release([finished_run], folder)
    return folder


def models_of(folder, training=None):
    return load_models("micro", find_weights("micro", str(folder), training))


def is_mean(mean, *models):
    """Whether the weights of ``mean`` are the mean of those of ``models``, and these differ."""
    moved = 0
    for result, *weights in zip(*(m.trainable_variables for m in (mean, *models)), strict=True):
        arrays = [np.asarray(w) for w in weights]
        np.testing.assert_allclose(np.asarray(result), sum(arrays) / 2, rtol=2e-3, atol=1e-6)
        moved += not np.allclose(*arrays, rtol=1e-2)
    return moved > 5


def test_released_weights_are_the_trained_ones_in_half_precision_with_fitted_tables(
    finished_run, tmp_path
):
    written = release([finished_run], tmp_path / "shipped", "rayleigh")
    assert [path.name for path in written] == [
        "micro_rayleigh_intra.weights.h5",
        "micro_rayleigh.weights.h5",
    ]
    assert {dtype for path in written for dtype in dtypes_of(path)} == {"float16", "int32"}
    trained = models_of(finished_run / "weights")
    shipped = models_of(tmp_path / "shipped", "rayleigh")
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
    return information(intra.rate_map_prior.tables(np.rint(z_hat), 1).parts(index))


def test_tables_of_a_run_that_never_sent_anything_do_not_hang_on_feature_coding(
    finished_run, shipped, tmp_path
):
    """F_rx of a learned codec has not learnt: vectors found in its pictures would be noise."""
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    for kind, model in zip(("intra", "inter"), models_of(other / "weights"), strict=True):
        for weight in model.feature_decoder.weights:
            weight.assign(np.asarray(weight) + 1.0)
        save_weights(model, other / "weights" / f"{kind}.weights.h5")
    load_models.cache_clear()
    release([other], tmp_path / "of_other")
    tables = [
        models_of(folder)[1].motion_prior.counts for folder in (shipped, tmp_path / "of_other")
    ]
    np.testing.assert_array_equal(*map(np.asarray, tables))


def test_a_run_without_p_model_is_refused(micro_run, tmp_path, capsys):
    run = tmp_path / "run"
    run.mkdir()  # a run that was killed before its first weights
    (run / "config.yaml").write_text(yaml.safe_dump(micro_run(INTRA).model_dump()))
    with pytest.raises(InputError, match="intra model of a run"):
        release([run], tmp_path / "shipped")
    assert main([str(run), "--folder", str(tmp_path / "shipped")]) == 2
    assert "intra model" in capsys.readouterr().err


@pytest.mark.slow
def test_several_runs_are_released_as_their_mean(finished_run, second_run, tmp_path):
    release([finished_run, second_run], tmp_path)
    runs = (models_of(run / "weights") for run in (finished_run, second_run))
    for mean, *models in zip(models_of(tmp_path), *runs, strict=True):
        assert is_mean(mean, *models)


def test_a_run_is_averaged_with_what_the_package_has(shipped, second_run, tmp_path, monkeypatch):
    monkeypatch.setattr("pvsc_link.models.zoo.PACKAGED", shipped)
    release([second_run], tmp_path, packaged=True)
    sources = (models_of(folder) for folder in (shipped, second_run / "weights"))
    for mean, *models in zip(models_of(tmp_path), *sources, strict=True):
        assert is_mean(mean, *models)


def test_runs_of_different_models_are_refused(finished_run, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(finished_run, other)
    described = other / "weights" / "intra.json"
    described.write_text(described.read_text().replace('"eta": 0.2', '"eta": 0.3'))
    with pytest.raises(InputError, match="models whose mean is wanted"):
        release([finished_run, other], tmp_path / "shipped")
