"""``docs/channels.md``: its Python and its scenario are sound, every impairment is described."""

import re
from pathlib import Path

import yaml

from pvsc_link.link.registry import Impairments
from pvsc_link.scenario.loader import parse_scenario

TEXT = (Path(__file__).parents[2] / "docs" / "channels.md").read_text(encoding="utf-8")


def blocks(language):
    found = re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.S)
    assert found
    return found


def test_the_python_examples_run():
    for code in blocks("python"):
        exec(code, {})


def test_the_scenario_is_read_with_a_module_of_that_name(tmp_path, monkeypatch):
    (tmp_path / "my_blocks.py").write_text("class Nakagami: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    links = [parse_scenario(yaml.safe_load(text)).link for text in blocks("yaml")]
    ofdm, sionna = (list(link.conditions()) for link in links)
    assert [c["block_options"] for *_, c in sionna] == ['{"m": 1}', '{"m": 4}']
    assert len(ofdm) == 2**5
    assert {c["channel_model"] for *_, c in ofdm} == {"tdl_c", "cdl_c"}


def test_every_impairment_has_its_row():
    for name in Impairments.model_fields:
        assert f"\n| `{name}` |" in TEXT, name
