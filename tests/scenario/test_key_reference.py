"""Every key of a scenario is described, and the command line prints what editors show."""

import pytest

from pvsc_link.scenario import parse_scenario
from pvsc_link.scenario.reference import as_markdown, explain, keys_of
from pvsc_link.scenario.schema import Scenario
from pvsc_link.sweep.__main__ import main
from pvsc_link.train import TrainConfig
from pvsc_link.train.__main__ import main as train
from pvsc_link.types import InputError

KEYS = keys_of(Scenario.model_json_schema())
OF_TRAINING = keys_of(TrainConfig.model_json_schema())
BASE = {"name": "a", "media": {"clips": "carphone"}, "schemes": [{"scheme": "x265"}]}


@pytest.mark.parametrize("keys", [KEYS, OF_TRAINING], ids=["scenario", "training"])
def test_every_key_has_a_text_an_example_and_if_it_is_a_number_a_unit(keys):
    assert len(keys) > 80
    assert not [key.path for key in keys if not key.text.endswith(".")]
    assert not [key.path for key in keys if not key.example]
    numbers = [key for key in keys if "number" in key.kind]
    assert len(numbers) > 30
    assert not [key.path for key in numbers if not key.unit]


def test_training_explains_its_keys_too(capsys):
    assert train(["--explain", "phases.channel.csi_nmse_db"]) == 0
    assert "eq. 3" in capsys.readouterr().out
    assert train([]) == 2


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("link.channel", "awgn, rayleigh, rician, ofdm, sionna, packets"),
        ("media.hdr", "refuse, tone_map"),
        ("link.decoder", "layered, layered-xla, sionna"),
    ],
)
def test_a_key_of_names_lists_them(path, names):
    (key,) = [key for key in KEYS if key.path == path]
    assert key.allowed == names


def test_the_command_prints_one_key_with_its_facts(capsys):
    assert main(["--explain", "link.snr_db"]) == 0
    said = capsys.readouterr().out
    for text in ("Es/N0", "-30 to 60", "dB", "packets alone has none", "snr_db: [0, 6, 12]"):
        assert text in said
    assert "default: none, required by every channel but packets" in said
    assert main(["--explain", "snr_db"]) == 0
    assert capsys.readouterr().out == said, "the section may be left out where it is clear"


def test_a_section_lists_its_keys_and_a_key_its_schemes():
    schema = Scenario.model_json_schema()
    assert "num_gops" in explain(schema, "media")
    assert "(of vvenc)" in explain(schema, "schemes.preset")
    assert "x264, x265, vvenc" in explain(schema, "schemes.scheme")


def test_an_unknown_key_is_told_with_the_nearest_one(capsys):
    assert main(["--explain", "link.snr"]) == 2
    assert "Did you mean 'link.snr_db'?" in capsys.readouterr().err
    assert main(["--explain", "link.equalizer"]) == 2
    assert "Did you mean 'schemes.equalizer'?" in capsys.readouterr().err


def test_the_reference_has_a_row_for_every_key():
    text = as_markdown(KEYS)
    assert text.count("\n| `") == len(KEYS)
    assert "| `snr_db` |" in text


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({"from": -2, "to": 10, "step": 2}, [-2, 0, 2, 4, 6, 8, 10]),
        ({"from": 0, "to": 3}, [0, 1, 2, 3]),
        ({"from": 10, "to": 0, "step": -5}, [10, 5, 0]),
        ({"from": 0, "to": 0.3, "step": 0.1}, [0, 0.1, 0.2, 0.3]),
        ({"from": 0, "to": 5, "step": 2}, [0, 2, 4]),
    ],
)
def test_a_range_is_the_list_of_its_numbers(given, read):
    assert parse_scenario({**BASE, "link": {"snr_db": given}}).link.snr_db == read


def test_a_range_of_whole_numbers_is_taken_where_they_are_wanted():
    given = {**BASE, "seed": {"from": 1, "to": 3}, "link": {"snr_db": 6}}
    assert parse_scenario(given).seed == [1, 2, 3]


@pytest.mark.parametrize(
    "given",
    [
        {"from": 0, "to": 10, "step": -1},
        {"from": 0, "to": 10, "step": 0},
        {"from": 0, "to": 1e9},
        {"from": 0},
        {"from": True, "to": 3},
        {"from": 0, "to": 3, "by": 1},
        {"from": 0, "to": 90, "step": 30},
    ],
)
def test_a_bad_range_is_refused(given):
    with pytest.raises(InputError):
        parse_scenario({**BASE, "link": {"snr_db": given}})


def test_a_name_is_no_range():
    with pytest.raises(InputError):
        parse_scenario({**BASE, "link": {"snr_db": 6, "channel": {"from": 1, "to": 2}}})
