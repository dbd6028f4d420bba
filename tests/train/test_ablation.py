"""One run per variant, equal but for what the variant changes."""

import pytest
import yaml

from pvsc_link.train import ablation
from pvsc_link.train.ablation import AblationConfig, runs_of
from pvsc_link.types import InputError

VARIANTS = {"whole": {}, "other": {"preset": "micro_m_a"}, "rec": {"loss": {"per": 0.0}}}


@pytest.fixture
def config(micro_run):
    fields = micro_run({"model": "intra", "loss": {"per": 0.5, "rec": 2.0}}).model_dump()
    return AblationConfig.model_validate(fields | {"variants": VARIANTS})


def test_a_variant_changes_what_it_names_and_nothing_else(config):
    runs = runs_of(config)
    assert [run.name for run in runs.values()] == list(VARIANTS)
    assert [run.preset for run in runs.values()] == ["micro", "micro_m_a", "micro"]
    losses = [run.phases[0].loss for run in runs.values()]
    assert [(loss.rec, loss.per) for loss in losses] == [(2.0, 0.5), (2.0, 0.5), (2.0, 0.0)]
    same = {run.model_dump_json(exclude={"name", "preset", "phases"}) for run in runs.values()}
    assert len(same) == 1


def test_a_loss_term_that_does_not_exist_is_refused(config):
    fields = config.model_dump() | {"variants": {"a": {"loss": {"perceptual": 1.0}}}}
    with pytest.raises(InputError, match="perceptual"):
        runs_of(AblationConfig.model_validate(fields))


def test_each_variant_is_trained_and_released(config, tmp_path, monkeypatch):
    file, done = tmp_path / "train_ablation.yaml", []
    file.write_text(yaml.safe_dump(config.model_dump()))

    class Trainer:
        def __init__(self, run, folder):
            self.run = lambda: done.append(("train", run.preset, folder.name)) or True

    monkeypatch.setattr("pvsc_link.train.trainer.Trainer", Trainer)
    monkeypatch.setattr(
        "pvsc_link.train.release.release",
        lambda runs, folder: done.append(("release", runs[0].name, folder.name)),
    )
    monkeypatch.setattr("pvsc_link.train.step.make_repeatable", lambda threads: None)
    only = ["--only", "other", "rec"]
    assert ablation.main([str(file), "--folder", str(tmp_path), *only]) == 0
    assert done == [
        ("train", "micro_m_a", "other"),
        ("release", "other", "released"),
        ("train", "micro", "rec"),
        ("release", "rec", "released"),
    ]


def test_an_unknown_variant_is_refused(config, tmp_path, capsys):
    file = tmp_path / "train_ablation.yaml"
    file.write_text(yaml.safe_dump(config.model_dump()))
    assert ablation.main([str(file), "--only", "m_z"]) == 2
    assert "m_z" in capsys.readouterr().err
