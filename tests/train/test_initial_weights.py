"""A run that starts from the weights of another, or from those in the package."""

import json

import numpy as np
import pytest

from pvsc_link.models.presets import intra_of
from pvsc_link.models.zoo import model_of, save_weights
from pvsc_link.train.weights import WeightStore, load_initial_weights, weights_by_path
from pvsc_link.types import InputError


@pytest.fixture(scope="module")
def trained(micro_preset, tmp_path_factory):
    """Folder with the weights of an I model, and these by path."""
    folder = tmp_path_factory.mktemp("weights")
    model = model_of(intra_of(micro_preset))
    save_weights(model, folder / "intra.weights.h5")
    (folder / "intra.json").write_text(json.dumps(model.config.to_dict()))
    return folder, weights_by_path(model)


def loaded(config, place):
    store = WeightStore()
    load_initial_weights(str(place), config, store)
    return store


def test_all_weights_of_a_folder_are_taken(micro_run, trained):
    folder, weights = trained
    store = loaded(micro_run({"model": "intra"}), folder)
    assert set(store.weights) == {"intra"}
    assert set(store.weights["intra"]) == set(weights)
    for path, value in weights.items():
        np.testing.assert_array_equal(store.weights["intra"][path], value)


def test_what_is_left_out_starts_afresh(micro_run, trained):
    folder, weights = trained
    config = micro_run({"model": "intra"}, initial_except=["feature_encoder", "q_tx"])
    left_out = set(weights) - set(loaded(config, folder).weights["intra"])
    assert left_out == {p for p in weights if "feature_encoder" in p or "q_tx" in p}
    assert len(left_out) > 2


def test_a_word_that_is_in_no_path_is_refused(micro_run, trained):
    config = micro_run({"model": "intra"}, initial_except=["feature_encodr"])
    with pytest.raises(InputError, match="feature_encodr"):
        loaded(config, trained[0])


def test_other_presets_than_the_runs_are_refused(micro_run, trained):
    with pytest.raises(InputError, match="presets of"):
        loaded(micro_run({"model": "intra"}, omega=[1.0]), trained[0])


def test_weights_of_another_preset_are_refused_with_the_sizes_that_differ(micro_run, trained):
    config = micro_run({"model": "intra"}, preset="pvsc_tiny")
    with pytest.raises(InputError, match="weights of preset micro_intra") as caught:
        loaded(config, trained[0])
    assert (caught.value.found["channels_y"], caught.value.allowed["channels_y"]) == (8, 64)


def test_a_preset_stands_for_its_weights_in_the_package(micro_run):
    omega = [1, 2, 3, 4, 5, 6]
    config = micro_run({"model": "intra"}, omega=omega, preset="pvsc_mc_small")
    store = loaded(config, "pvsc_mc_small")
    assert set(store.weights) == {"intra", "inter"}
    with pytest.raises(InputError, match="pvsc_tiny"):
        loaded(config, "pvsc_tiny")


def test_one_model_and_some_of_its_quality_presets_can_be_taken(micro_run, trained):
    folder, weights = trained
    chosen = {"initial_models": ["intra"], "initial_presets": [1, 0, 1], "omega": [1, 2, 3]}
    store = loaded(micro_run({"model": "intra"}, **chosen), folder)
    assert set(store.weights) == {"intra"}
    taken = store.weights["intra"]
    rows = [path for path in weights if taken[path].shape != weights[path].shape]
    assert any(path.endswith("rows") for path in rows)
    assert any("z_prior" in path for path in rows)
    for path in weights:
        expected = weights[path][[1, 0, 1]] if path in rows else weights[path]
        np.testing.assert_array_equal(taken[path], expected)
    with pytest.raises(InputError, match="quality presets 0 to 1"):
        loaded(micro_run({"model": "intra"}, **chosen | {"initial_presets": [0, 1, 2]}), folder)
    with pytest.raises(InputError, match="with one of the models inter"):
        loaded(micro_run({"model": "intra"}, initial_models=["inter"]), folder)


def test_the_chosen_presets_are_as_many_as_the_runs(micro_run):
    with pytest.raises(ValueError, match="number of entries in initial_presets"):
        micro_run({"model": "intra"}, omega=[1.0], initial_presets=[0, 1])
