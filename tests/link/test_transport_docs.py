"""``docs/transport.md``: its Python runs, its scenario is sound, every key has its row."""

import re
from pathlib import Path

import yaml

from pvsc_link.link.mcs import MCS_TABLE
from pvsc_link.link.transport_options import Transport
from pvsc_link.scenario.loader import parse_scenario

TEXT = (Path(__file__).parents[2] / "docs" / "transport.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)
    assert found
    return found


def test_the_python_examples_run():
    for code in blocks("python"):
        exec(code, {})


def test_the_scenario_is_read():
    (text,) = blocks("yaml")
    assert len(parse_scenario(yaml.safe_load(text)).link.transports()) == 6


def test_every_key_has_its_row_with_its_default():
    for name, field in Transport.model_fields.items():
        row = re.search(rf"^\| `{name}` \| `([^`]*)` \|", TEXT, flags=re.M)
        assert row, name
        default = yaml.safe_load(row[1])
        assert (None if default == "none" and name == "harq" else default) == field.default, name


def test_the_block_lengths_that_every_row_of_table_1_can_have_are_those_stated():
    low, high = re.search(r"from (\d+) to ([\d,]+)\.", TEXT).groups()
    assert int(low) == max(-(-25 * 1024 // round(row.target_coderate * 1024)) for row in MCS_TABLE)
    assert int(high.replace(",", "")) == int(8448 / MCS_TABLE[-1].target_coderate)
