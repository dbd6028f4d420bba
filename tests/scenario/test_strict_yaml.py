"""YAML is read in one way only, and every refusal names its line."""

import pytest

from pvsc_link.scenario.loader import load_scenario, parse_yaml
from pvsc_link.train.config import load_train_config
from pvsc_link.transmit.request import parse_options
from pvsc_link.types import InputError

SCENARIO = """\
name: t
media: {clips: [bikes], gop: 4, num_gops: 1}
link:
  channel: [rayleigh]
  snr_db: [6]
schemes:
  - {scheme: x264, rates: [32]}
"""


def refused(text):
    with pytest.raises(InputError) as caught:
        parse_yaml(text, where="f.yaml")
    return str(caught.value)


@pytest.mark.parametrize("word", ["no", "No", "NO", "off", "yes", "on", "y", "N"])
def test_words_that_are_booleans_in_yaml_1_1_are_refused(word):
    assert f"f.yaml, line 2: found '{word}'" in refused(f"a: 1\nb: {word}")
    assert "line 1" in refused(f"{word}: 1")
    assert parse_yaml(f"b: '{word}'", where="f").data == {"b": word}


@pytest.mark.parametrize(
    "number", ["032", "00", "-07", "0o17", "1:30", "190:20:30.5", "1_000", "0b11", ".inf", "-.INF"]
)
def test_numbers_that_yaml_versions_read_differently_are_refused(number):
    assert f"line 3: found '{number}'" in refused(f"a:\n  b:\n    - {number}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("32", 32), ("-5", -5), ("0", 0), ("0x1F", 31), ("1e3", 1000.0), ("1e-3", 0.001),
        (".5", 0.5), ("-1.25e+2", -125.0), ("true", True), ("False", False), ("~", None),
        ("", None), ("2024-01-31", "2024-01-31"), ("0.5.1", "0.5.1"), ("x265:psy-off",) * 2,
        ("'032'", "032"), ("!!str 5", "5"),
    ],
)  # fmt: skip
def test_everything_else_is_what_it_looks_like(text, value):
    read = parse_yaml(f"a: {text}", where="f").data["a"]
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: 2\na: 3", 3), ("a:\n  b: 1\n  b: 1", 3), ("a: 1\n'a': 2", 2)],
)
def test_a_key_that_stands_twice_is_refused(text, line):
    assert f"line {line}: found \"the key '" in refused(text)
    assert "already" in refused(text)


def test_merged_keys_may_be_overridden():
    text = "p: &p {k: 1, j: 2}\nq: &q {<<: *p, k: 3}\nr: {<<: *q, j: 4}\ns: *q"
    data = parse_yaml(text, where="f").data
    assert data["q"] == data["s"] == {"k": 3, "j": 2}
    assert data["r"] == {"k": 3, "j": 4}


@pytest.mark.parametrize(
    "text",
    [
        "a: !!int abc", "a: !!float x", "a: !!bool maybe", "a: !!timestamp hello", "a: !mine 3",
        "a: !!python/object/apply:os.system [x]", "a: !!set {b}", "1: 2", "? [1]\n: 2", "a: <<",
        "a: " + "9" * 5000, "a: 1e999", "a: &x [*x]", "a: [1", "\ta: 1", "a: *b", "a: \x01",
        "a: 1\n---\nb: 2", "a: 'x",
    ],
)  # fmt: skip
def test_what_is_broken_or_odd_is_an_input_error_with_its_line(text):
    message = refused(text)
    assert "line " in message
    assert len(message) < 400


def test_nesting_and_aliases_have_an_end():
    assert "nested" in refused("[" * 5000)
    bomb = "a: &a [" + ", ".join("1" * 10) + "]\n"
    for last, name in zip("abcdefgh", "bcdefghi", strict=True):
        bomb += f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]\n"
    assert "100000 are read" in refused(bomb)
    assert "values" in refused("a: [" + "1," * 100_001 + "]")


@pytest.mark.parametrize(
    ("old", "new", "line", "word"),
    [
        ("snr_db: [6]", "snr_bd: [6]", 5, "snr_bd"),
        ("[6]", "[loud]", 5, "loud"),
        ("[6]", "[6]\n  csi_nmse_db: false", 6, "a number"),
        ("gop: 4", "gop: true", 2, "gop"),
        ("rates: [32]", "rates: [true]", 7, "rates"),
        ("[32]}", "[32],\n     mcs: [99]}", 8, "99"),
        ("x264", "x266", 7, "x266"),
        ("num_gops: 1", "num_gops: 1, hdr: tonemap", 2, "tone_map"),
    ],
)
def test_a_wrong_value_of_a_scenario_is_named_with_its_line(old, new, line, word, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace(old, new))
    with pytest.raises(InputError) as caught:
        load_scenario(path)
    assert f"s.yaml, line {line}" in str(caught.value)
    assert word in str(caught.value)


def test_true_and_false_stay_where_they_are_meant(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(SCENARIO.replace("[32]", "[32], csi_aware: [true, false]"))
    assert load_scenario(path).schemes[0].csi_aware == [True, False]


def test_training_files_and_options_are_read_as_strictly(tmp_path):
    path = tmp_path / "train.yaml"
    path.write_text("name: t\nseed: 010\n")
    with pytest.raises(InputError, match=r"train\.yaml, line 2: found '010'"):
        load_train_config(path)
    with pytest.raises(InputError, match=r"--option x264\.preset, line 1: found 'no'"):
        parse_options(["x264.preset=no"])
    assert parse_options(["x264.preset=fast"]) == {"x264": {"preset": "fast"}}


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"a: 1\n" * 300_000])
def test_a_file_that_is_no_text_or_far_too_long_is_refused(content, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"s\.yaml"):
        load_scenario(path)
