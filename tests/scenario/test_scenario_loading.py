"""A scenario is read as written, or refused with the word that is wrong."""

import copy
from pathlib import Path
from typing import get_args

import pytest

from pvsc_link.media.pixels import MATRICES
from pvsc_link.scenario.loader import load_scenario, parse_scenario
from pvsc_link.scenario.schema import Matrix
from pvsc_link.types import InputError

GOOD = {
    "name": "demo",
    "media": {"clips": ["bikes"], "gop": 4, "num_gops": 1},
    "link": {"channel": "awgn", "snr_db": 6},
    "schemes": [{"scheme": "x265", "rates": [27, 32]}],
}
SCENARIOS = Path(__file__).parents[2] / "scenarios"


def changed(**edits):
    """GOOD with dotted keys replaced, for instance ``changed(**{"link.snr_db": "loud"})``."""
    data = copy.deepcopy(GOOD)
    for dotted, value in edits.items():
        place = data
        *path, last = dotted.split(".")
        for key in path:
            place = place[int(key)] if isinstance(place, list) else place[key]
        place[last] = value
    return data


def test_a_scenario_knows_the_matrices_of_the_reader():
    assert get_args(Matrix) == tuple(MATRICES)


def test_a_scalar_is_an_axis_of_one():
    assert parse_scenario(GOOD).link.snr_db == [6.0]


def test_null_nmse_means_perfect_csi():
    scenario = parse_scenario(changed(**{"link.csi_nmse_db": [None, -10]}))
    assert scenario.link.csi_nmse_db == [None, -10.0]


@pytest.mark.parametrize(
    ("dotted", "key", "nearest"),
    [
        ("link.snr_bd", "snr_bd", "snr_db"),
        ("link.coherence", "coherence", "coherence_length"),
        ("media.clip", "clip", "clips"),
        ("schemes.0.rate", "rate", "rates"),
        ("anchr", "anchr", "anchor"),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest_name(dotted, key, nearest):
    with pytest.raises(InputError) as caught:
        parse_scenario(changed(**{dotted: 1}))
    assert caught.value.found == key
    assert nearest in caught.value.remedy


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("link.snr_db", "loud"),
        ("link.coherence_length", 0),
        ("link.coherence_length", 1.5),
        ("media.gop", 0),
        ("media.num_gops", 0),
        ("media.clips", []),
        ("schemes", []),
        ("schemes.0.mcs", 29),
        ("schemes.0.mcs", "worst"),
        ("name", "../elsewhere"),
        ("seed", -1),
        ("metrics", ["sharpness"]),
    ],
)
def test_a_wrong_value_is_named_with_its_place(dotted, value):
    with pytest.raises(InputError) as caught:
        parse_scenario(changed(**{dotted: value}))
    assert dotted.split(".")[-1] in str(caught.value)


@pytest.mark.parametrize("name", ["psnr", "psnr_yuv", "xpsnr"])
def test_the_column_of_a_metric_is_refused_with_the_name_of_the_metric(name):
    with pytest.raises(InputError, match=f"Did you mean '{name}'"):
        parse_scenario(changed(metrics=[f"{name}_db"]))


def test_a_word_that_is_no_rule_for_an_mcs_is_told_the_rules():
    with pytest.raises(InputError, match="Did you mean 'olla'") as caught:
        parse_scenario(changed(**{"schemes.0.mcs": ["best", "ola"]}))
    assert caught.value.allowed == ["best", "envelope", "olla"]


@pytest.mark.parametrize(
    ("dotted", "value", "section"),
    [
        ("link.equalizer", "zf", "schemes"),
        ("schemes.0.csi_nmse_db", -10, "link"),
        ("link.gop", 4, "media"),
        ("media.anchor", "x265", "the top level"),
    ],
)
def test_a_key_in_the_wrong_section_is_told_the_right_one(dotted, value, section):
    with pytest.raises(InputError, match=f"is a key of {section}: move it there"):
        parse_scenario(changed(**{dotted: value}))


def test_a_missing_file_names_its_neighbours():
    with pytest.raises(InputError, match="missing"):
        load_scenario(SCENARIOS / "no_such.yaml")


def test_broken_yaml_is_refused(tmp_path):
    path = tmp_path / "broken.yaml"
    path.write_text("name: [unclosed")
    with pytest.raises(InputError, match="not YAML"):
        load_scenario(path)


def test_a_list_at_the_top_is_refused(tmp_path):
    path = tmp_path / "list.yaml"
    path.write_text("- 1\n- 2\n")
    with pytest.raises(InputError, match="mapping"):
        load_scenario(path)


@pytest.mark.parametrize(
    "path",
    sorted(p for p in SCENARIOS.glob("*.yaml") if not p.name.startswith("train_")),
    ids=lambda path: path.stem,
)
def test_every_shipped_scenario_opens_with_its_command_and_is_valid(path):
    assert f"python -m pvsc_link.sweep scenarios/{path.name}" in path.read_text().split("name:")[0]
    assert load_scenario(path).name == path.stem
