"""Configs of the families: what a file of any version describes, and what no family is."""

import json

import pytest

from pvsc_link.models.dvst.config import DvstConfig
from pvsc_link.models.presets import DVST_PRESETS, PRESETS, config_of, intra_of
from pvsc_link.models.pvsc.config import IntraConfig, PvscConfig
from pvsc_link.models.pvsc_mc.config import IntraMcConfig, PvscMcConfig
from pvsc_link.models.zoo import PACKAGED
from pvsc_link.types import InputError

#: Switches that every file of the first version held, with their defaults.
OLD = {
    "intra": False,
    "predict_latent": False,
    "motion_compensation": False,
    "motion_penalty": [60.0, 24.0],
    "hyperprior_coding": False,
    "blend_reference": False,
    "eta_factors": [],
}
SIZES = {"channels_y": 16, "depth_context": [1, 1], "window_size": 4, "rate_set": [0, 2, 4]}


@pytest.mark.parametrize(
    "config", [*PRESETS.values(), *DVST_PRESETS.values()], ids=lambda c: c.name
)
def test_a_config_survives_json(config):
    assert config_of(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("path", sorted(PACKAGED.glob("*.json")), ids=lambda p: p.stem)
def test_released_files_describe_the_family_of_their_preset(path):
    config = config_of(json.loads(path.read_text()))
    kinds = {
        "pvsc_mc_small": PvscMcConfig,
        "pvsc_mc_small_intra": IntraConfig,
        "pvsc_small": PvscConfig,
        "pvsc_small_intra": IntraConfig,
        "pvsc_tiny_intra": IntraConfig,
        "dvst_tiny": DvstConfig,
    }
    assert isinstance(config, kinds[config.name])
    assert isinstance(config, PvscMcConfig) == (config.name == "pvsc_mc_small")
    assert config.channels_y == (PRESETS | DVST_PRESETS)[config.name].channels_y


@pytest.mark.parametrize(
    ("switches", "kind"),
    [
        ({}, PvscConfig),
        ({"predict_latent": True, "reweight": True, "coding_vectors": False}, PvscConfig),
        ({"predict_latent": True, "motion_compensation": True}, PvscMcConfig),
        ({"intra": True, "temporal_coding": False}, IntraConfig),
        (
            {"intra": True, "temporal_coding": False, "eta_factors": [1.0, 1.0, 2.0, 2.0, 2.0]},
            IntraMcConfig,
        ),
    ],
)
def test_a_file_of_the_first_version_is_translated(switches, kind):
    config = config_of({"name": "old", **SIZES, **OLD, **switches})
    assert type(config) is kind
    assert config.channels_y == 16
    assert config.rate_set == (0, 2, 4)


@pytest.mark.parametrize(
    "switches",
    [
        {"hyperprior_coding": True},
        {"coding_vectors": True},
        {"blend_reference": True},
        {"depth": 3},
    ],
)
def test_a_file_that_no_family_is_says_which_key(switches):
    with pytest.raises(InputError, match=next(iter(switches))):
        config_of({"name": "old", **SIZES, **OLD, **switches})


def test_streams_of_dvst_of_the_first_version_are_translated():
    new = DVST_PRESETS["dvst_tiny"]
    old = new.to_dict()
    del old["family"]
    for name, intra, width in (("motion", True, 256), ("context", False, 32)):
        stream = {k: v for k, v in old[name].items() if k != "channels_context"}
        coding = {"temporal_coding": False, "spatial_coding": False, "depth_pixel": 4}
        old[name] = {**stream, **OLD, **coding, "intra": intra, "channels_feature": width}
    assert config_of(json.loads(json.dumps(old))) == new


def test_i_frames_have_the_latent_grid_of_their_p_frames():
    for name in ("pvsc_paper", "pvsc_tiny", "pvsc_small", "pvsc_mc_small"):
        inter, intra = PRESETS[name], intra_of(PRESETS[name])
        assert intra == PRESETS[f"{name}_intra"]
        assert (intra.channels_y, intra.rate_set) == (inter.channels_y, inter.rate_set)
