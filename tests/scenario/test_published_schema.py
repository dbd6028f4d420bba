"""The JSON schema that editors use is the one the loader enforces."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import yaml

from pvsc_link.scenario.schema import Scenario
from pvsc_link.train import TrainConfig

FOLDER = Path(__file__).parents[2] / "scenarios"
PUBLISHED = FOLDER / "schema.json"


def test_the_published_schema_is_up_to_date():
    """Remedy: python -m pvsc_link.sweep --schema > scenarios/schema.json"""
    assert json.loads(PUBLISHED.read_text()) == Scenario.model_json_schema()


def test_the_published_schema_of_training_files_is_up_to_date():
    """Remedy: python -m pvsc_link.train --schema > scenarios/train_schema.json"""
    published = json.loads((FOLDER / "train_schema.json").read_text())
    assert published == TrainConfig.model_json_schema()


def test_every_file_names_the_schema_that_it_follows_and_follows_it():
    files = sorted(FOLDER.glob("*.yaml"))
    names = ("schema.json", "train_schema.json")
    texts = {name: (FOLDER / name).read_text() for name in names}
    validate = {name: jsonschema.Draft202012Validator(json.loads(texts[name])) for name in names}
    assert len(files) > 10
    for file in files:
        first = file.read_text().splitlines()[0]
        name = "train_schema.json" if file.stem.startswith("train_") else "schema.json"
        assert first == f"# yaml-language-server: $schema={name}", file.name
        validate[name].validate(yaml.safe_load(file.read_text()))


def test_editors_accept_a_scalar_and_a_range_where_a_list_is_read():
    link = json.loads(PUBLISHED.read_text())["properties"]["link"]["properties"]
    kinds = {option.get("type") for option in link["snr_db"]["anyOf"]}
    assert kinds == {"number", "array", "object"}, "one, several, or a range"


def test_every_key_says_what_it_means():
    """Sections are looked through; an item of a list has the description of its list."""

    def undescribed(schema, place):
        for name, value in schema.get("properties", {}).items():
            if "description" not in value and "$ref" not in value:
                yield f"{place}.{name}"
            yield from undescribed(value, f"{place}.{name}")

    published = json.loads(PUBLISHED.read_text())
    sections = {"": published} | published["$defs"]
    assert not [key for name, section in sections.items() for key in undescribed(section, name)]


def test_registries_and_scenarios_load_no_tensorflow():
    modules = "scenario.loader metrics.registry link.registry codecs.registry schemes.registry"
    code = (
        "import importlib, sys\n"
        f"for name in {modules.split()!r}: importlib.import_module('pvsc_link.' + name)\n"
        "assert not {'tensorflow', 'keras', 'sionna'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
