"""Weights: found where they are, named by their content, the same start in every process."""

import json
import random
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from keras import ops

from pvsc_link.models import zoo
from pvsc_link.models.presets import PRESETS, config_of
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.zoo import (
    UNTRAINED,
    WeightFiles,
    find_weights,
    load_models,
    load_weights,
    run_label,
    save_difference,
    save_weights,
)
from pvsc_link.schemes.semantic import PvscMcScheme, SemanticScheme
from pvsc_link.types import InputError


def values(models):
    return [ops.convert_to_numpy(w) for model in models for w in model.trainable_weights]


def fresh(preset, files):
    load_models.cache_clear()
    return load_models(preset, files)


def test_without_weights_the_start_is_fixed_and_the_generator_untouched(micro):
    random.seed(5)
    expected = random.random()
    random.seed(5)
    first = values(fresh(micro, find_weights(micro)))
    assert random.random() == expected
    second = values(fresh(micro, find_weights(micro)))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    load_models.cache_clear()


def test_the_start_does_not_depend_on_who_else_draws_numbers(micro, monkeypatch):
    """A module that is imported meanwhile draws, and so does another thread, such as Dask's."""
    first = values(fresh(micro, find_weights(micro)))
    make = zoo.model_of

    def drawing(config):
        random.getrandbits(32)
        with ThreadPoolExecutor(1) as pool:
            assert 1 <= pool.submit(random.randint, 1, 9).result() <= 9
        return make(config)

    monkeypatch.setattr(zoo, "model_of", drawing)
    second = values(fresh(micro, find_weights(micro)))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    load_models.cache_clear()


@pytest.fixture
def run_folder(micro, tmp_path):
    """What a training run leaves, its P frames with another rate set than the preset."""
    intra, model = fresh(micro, find_weights(micro))
    for kind, trained in (("intra", intra), ("inter", model)):
        for weight in trained.trainable_weights:
            weight.assign_add(np.full(weight.shape, 0.5, np.float32))
        save_weights(trained, tmp_path / f"{kind}.weights.h5")
    described = PRESETS[micro].to_dict() | {"eta": 0.125}
    (tmp_path / "inter.json").write_text(json.dumps(described))
    yield tmp_path, values((intra, model))
    load_models.cache_clear()


def test_another_training_of_the_package_is_found_by_its_name(micro, run_folder, monkeypatch):
    folder, _ = run_folder
    (folder / "intra.weights.h5").rename(folder / f"{micro}_rayleigh_intra.weights.h5")
    (folder / "inter.weights.h5").rename(folder / f"{micro}_rayleigh.weights.h5")
    monkeypatch.setattr("pvsc_link.models.zoo.PACKAGED", folder)
    files = find_weights(micro, "rayleigh")
    assert files == find_weights(micro, training="rayleigh")
    assert files.inter == folder / f"{micro}_rayleigh.weights.h5"
    with pytest.raises(InputError, match="'rayleigh'"):
        find_weights(micro, "no_such_training")


def test_weights_of_a_training_run_are_loaded_with_their_own_config(micro, run_folder):
    folder, trained = run_folder
    files = find_weights(micro, str(folder))
    assert files.identity != UNTRAINED
    models = fresh(micro, files)
    assert models[1].config == config_of(PRESETS[micro].to_dict() | {"eta": 0.125})
    for a, b in zip(trained, values(models), strict=True):
        np.testing.assert_array_equal(a, b)


def test_only_results_of_trained_weights_are_ok(micro, run_folder):
    assert PvscMcScheme(micro, weights=str(run_folder[0])).status == "ok"
    assert PvscMcScheme(micro).status == UNTRAINED


@pytest.mark.parametrize("changed", ["intra.weights.h5", "inter.json"])
def test_other_weights_or_another_config_have_another_name(micro, run_folder, changed):
    folder, _ = run_folder
    before = find_weights(micro, str(folder)).identity
    assert before == find_weights(micro, str(folder)).identity
    path = folder / changed
    path.write_bytes(path.read_bytes() + b" ")
    assert find_weights(micro, str(folder)).identity != before


def test_a_folder_that_lacks_one_of_the_two_models_is_refused(micro, run_folder):
    folder, _ = run_folder
    (folder / "intra.weights.h5").unlink()
    with pytest.raises(InputError, match=r"intra\.weights\.h5"):
        find_weights(micro, str(folder))


@pytest.mark.parametrize(
    ("folder", "label"),
    [(None, ""), ("/runs/a", ", weights a"), ("/runs/b/weights", ", weights b")],
)
def test_curves_of_two_checkpoints_have_two_names(folder, label):
    assert run_label(folder) == label


def test_a_scheme_has_the_quality_presets_of_its_weights():
    trained = PvscMcScheme("pvsc_mc_small")
    intra, inter = load_models("pvsc_mc_small", find_weights("pvsc_mc_small"))
    rows = {model.vector_tx.rows.shape[0] for model in (intra, inter)}
    assert rows == {len(trained.allowed_rates)}
    assert len(SemanticScheme("pvsc_tiny").allowed_rates) == PRESETS["pvsc_tiny"].num_omega


def test_a_file_of_differences_is_the_same_weights_under_the_same_identity(
    micro, stirred, tmp_path
):
    """Another training of a preset ships only the arrays that it changed."""
    intra, base = stirred(IntraModel(PRESETS[f"{micro}_intra"]), 1), PvscModel(PRESETS[micro])
    stirred(base, 2)
    for name in ("intra", "base", "inter"):
        save_weights({"intra": intra}.get(name, base), tmp_path / f"{name}.weights.h5")
    base.trainable_variables[0].assign(base.trainable_variables[0] + 1.0)
    save_weights(base, tmp_path / "inter.weights.h5")
    files = WeightFiles(tmp_path / "intra.weights.h5", tmp_path / "inter.weights.h5")
    identity, size = files.identity, files.inter.stat().st_size
    assert save_difference(files.inter, tmp_path / "base.weights.h5", identity)
    assert files.inter.stat().st_size < size / 4
    assert files.identity == identity
    loaded = PvscModel(PRESETS[micro])
    load_weights(loaded, files.inter)
    for ours, theirs in zip(loaded.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_files_that_differ_throughout_stay_whole(micro, stirred, tmp_path):
    for name, seed in (("base", 1), ("inter", 2)):
        save_weights(stirred(PvscModel(PRESETS[micro]), seed), tmp_path / f"{name}.weights.h5")
    before = (tmp_path / "inter.weights.h5").read_bytes()
    assert not save_difference(tmp_path / "inter.weights.h5", tmp_path / "base.weights.h5", "x")
    assert (tmp_path / "inter.weights.h5").read_bytes() == before


@pytest.mark.parametrize(
    ("scheme", "preset", "allowed"),
    [
        (SemanticScheme, "pvsc_mc_small", "family pvsc"),
        (PvscMcScheme, "pvsc_small", "family pvsc_mc"),
    ],
)
def test_a_scheme_refuses_the_models_of_the_other_family(scheme, preset, allowed):
    with pytest.raises(InputError, match=allowed):
        scheme(preset)


def test_weights_of_the_extension_are_not_taken_for_the_papers_system(run_folder):
    with pytest.raises(InputError, match="family pvsc_mc"):
        SemanticScheme("pvsc_small", weights=str(run_folder[0]))


def test_a_manifest_names_packaged_weights_without_the_folder_of_the_machine():
    assert str(find_weights("pvsc_small")) == (
        "pvsc_link/models/weights/pvsc_small_intra.weights.h5 and "
        "pvsc_link/models/weights/pvsc_small.weights.h5"
    )
    assert str(find_weights("pvsc_tiny")) == "from a fixed random start"
