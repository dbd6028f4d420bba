"""The JSON schema that editors use is the one the loader enforces."""

import json
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
