"""The JSON schema that editors use is the one the loader enforces."""

import json
import subprocess
import sys
from pathlib import Path

from pvsc_link.scenario.schema import Scenario

PUBLISHED = Path(__file__).parents[2] / "scenarios" / "schema.json"


def test_the_published_schema_is_up_to_date():
    """Remedy: python -m pvsc_link.sweep --schema > scenarios/schema.json"""
    assert json.loads(PUBLISHED.read_text()) == Scenario.model_json_schema()


def test_editors_accept_a_scalar_where_a_list_is_read():
    link = json.loads(PUBLISHED.read_text())["properties"]["link"]["properties"]
    kinds = {option.get("type") for option in link["snr_db"]["anyOf"]}
    assert kinds == {"number", "array"}


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
