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


def test_a_preset_stands_for_its_weights_in_the_package(micro_run):
    config = micro_run({"model": "intra"}, omega=[1, 2, 3, 4, 5, 6])
    store = loaded(config, "pvsc_mc_small")
    assert set(store.weights) == {"intra", "inter"}
    with pytest.raises(InputError, match="pvsc_tiny"):
        loaded(config, "pvsc_tiny")
