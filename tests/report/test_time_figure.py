"""The bar of a sweep's time is drawn from its manifest, and from nothing else."""

import json

from pvsc_link.report.figures import stage_seconds, time_figure


def folder(tmp_path, name, manifest):
    (tmp_path / name).mkdir()
    (tmp_path / name / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path / name


def test_each_folder_with_stages_is_a_bar_of_that_length(tmp_path):
    first = folder(tmp_path, "first", {"seconds_by_stage": {"encode": 2.0, "metrics": 3.0}})
    old = folder(tmp_path, "old", {"rows": 4})
    second = folder(tmp_path, "second", {"seconds_by_stage": {"metrics": 7.0}})
    (panel,) = time_figure([first, old, second]).axes
    assert [label.get_text() for label in panel.get_yticklabels()] == ["first", "second"]
    widths = sorted(bar.get_width() for bar in panel.patches if bar.get_width())
    assert widths == [2.0, 3.0, 7.0]
    assert [text.get_text().strip() for text in panel.texts] == ["5 s", "7 s"]


def test_a_folder_without_a_manifest_states_nothing(tmp_path):
    assert stage_seconds(tmp_path) == {}
