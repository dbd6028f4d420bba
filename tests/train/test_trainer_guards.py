"""What a run does when things go wrong: NaN, a wrong folder, a signal, another run's weights."""

import csv
import errno
import shutil
import signal

import numpy as np
import pytest
import yaml

from pvsc_link.storage import exclusive
from pvsc_link.train import trainer
from pvsc_link.train.__main__ import main
from pvsc_link.train.config import load_run_config
from pvsc_link.train.data import open_cache
from pvsc_link.train.phase import Phase
from pvsc_link.train.trainer import Diverged, Trainer
from pvsc_link.types import InputError


@pytest.fixture
def quiet(monkeypatch):
    monkeypatch.setattr(trainer, "write_plot", lambda *_: None)
    monkeypatch.setattr(trainer, "MAX_SKIPPED", 1)


class FakePhase:
    """Stands in for ``Phase``: counts its steps and turns NaN where it is told."""

    bad_salts: tuple[int, ...] = ()

    def __init__(self, config, phase, store, cache):
        self.phase, self.inter, self.value = phase, None, 0.0
        self.learns = phase.model
        self.model = self.intra = type("Model", (), {"config": config.preset})()
        self.groups = [type("Group", (), {"sizes": [1]})()]

    def step(self, batch):
        bad = batch["salt"] in self.bad_salts and batch["step"] >= 4
        self.value += 1.0
        loss = np.float32(np.nan if bad else 1.0)
        return {"loss": loss, "skipped": np.float32(bad), "norm": np.float32(1)}

    def batches(self, cache, first_step):
        return FakeBatches()

    def state(self):
        return {"value": np.array(self.value)}

    def restore(self, arrays):
        self.value = float(arrays["value"])

    def keep(self):
        pass

    finish = keep

    def save_averaged(self, folder):
        pass


class FakeBatches:
    def make(self, step, salt=0):
        return {"learning_rate": np.float32(1.0), "salt": salt, "step": step}


@pytest.fixture
def faked(quiet, monkeypatch):
    monkeypatch.setattr(trainer, "Phase", FakePhase)
    monkeypatch.setattr(trainer, "open_cache", lambda _: None)
    monkeypatch.setattr(trainer, "LOG_EVERY", 2)
    monkeypatch.setattr(FakePhase, "bad_salts", ())


def rows(folder):
    with (folder / "history.csv").open() as file:
        return list(csv.DictReader(file))


def test_steps_that_are_not_finite_roll_back_with_half_the_learning_rate(
    faked, micro_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(FakePhase, "bad_salts", (0, 1))
    run = Trainer(micro_run({"model": "intra", "steps": 10}), tmp_path)
    assert run.run()
    assert run.progress.rollbacks == 2
    table = rows(tmp_path)
    assert [int(row["step"]) for row in table] == [2, 4, 6, 8, 10]
    assert float(table[-1]["learning_rate"]) == pytest.approx(0.25)
    assert all(np.isfinite(float(row["loss"])) for row in table)


def test_a_run_that_diverges_again_and_again_ends_with_an_error(
    faked, micro_run, tmp_path, monkeypatch
):
    monkeypatch.setattr(FakePhase, "bad_salts", tuple(range(20)))
    with pytest.raises(Diverged, match="rollbacks"):
        Trainer(micro_run({"model": "intra", "steps": 10}), tmp_path).run()


def test_a_signal_stops_after_a_checkpoint_and_the_run_goes_on_from_there(
    faked, micro_run, tmp_path, monkeypatch
):
    config = micro_run({"model": "intra", "steps": 10})
    step = FakePhase.step

    def step_and_signal(self, batch):
        if batch["step"] == 5:
            signal.raise_signal(signal.SIGTERM)
        return step(self, batch)

    monkeypatch.setattr(FakePhase, "step", step_and_signal)
    first = Trainer(config, tmp_path)
    assert not first.run()
    assert first.progress.step == 6
    monkeypatch.setattr(FakePhase, "step", step)
    assert Trainer(config, tmp_path).run()
    assert int(rows(tmp_path)[-1]["step"]) == 10


def test_a_folder_of_another_config_is_refused(faked, micro_run, tmp_path):
    assert Trainer(micro_run({"model": "intra", "steps": 4}), tmp_path).run()
    with pytest.raises(InputError) as caught:
        Trainer(micro_run({"model": "intra", "steps": 5}, omega=[0.1, 0.9]), tmp_path)
    assert caught.value.found == {"omega.1": 0.9, "phases.0.steps": 5}
    assert caught.value.allowed == {"omega.1": 0.8, "phases.0.steps": 4}


def test_a_checkpoint_of_an_unknown_run_is_refused(faked, micro_run, tmp_path):
    config = micro_run({"model": "intra", "steps": 4})
    assert Trainer(config, tmp_path).run()
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(InputError, match="a checkpoint without config"):
        Trainer(config, tmp_path)


def test_keys_on_which_no_weight_depends_may_change_in_a_run(faked, micro_run, tmp_path):
    config = micro_run({"model": "intra", "steps": 4})
    assert Trainer(config, tmp_path).run()
    data = config.data.model_copy(update={"threads": 3})
    other = config.model_copy(update={"data": data, "checkpoint_minutes": 1.0})
    assert Trainer(other, tmp_path).run()
    assert load_run_config(tmp_path) == other


def test_a_run_that_never_began_leaves_its_folder_to_another_config(
    faked, micro_run, tmp_path, monkeypatch
):
    def refused(*_):
        raise InputError("a key of the phase")

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "Phase", refused)
        with pytest.raises(InputError, match="a key of the phase"):
            Trainer(micro_run({"model": "intra", "steps": 4}), tmp_path).run()
    assert Trainer(micro_run({"model": "intra", "steps": 6}), tmp_path).run()
    assert int(rows(tmp_path)[-1]["step"]) == 6


def test_without_its_data_a_run_writes_nothing(faked, micro_run, tmp_path, monkeypatch):
    monkeypatch.setattr(trainer, "open_cache", open_cache)
    config = micro_run({"model": "intra"}, data={"clips": [str(tmp_path / "nowhere")]})
    with pytest.raises(InputError, match="nowhere, which is missing"):
        Trainer(config, tmp_path / "run").run()
    assert not (tmp_path / "run").exists()


def test_weights_are_not_begun_without_room_for_them(tmp_path, monkeypatch):
    usage = shutil.disk_usage("/")._replace(free=7_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    phase = object.__new__(Phase)
    phase.model = type("Model", (), {"weights": [np.zeros((10, 100))]})()
    with pytest.raises(OSError, match="No space") as caught:
        phase.save_averaged(tmp_path / "weights")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "Make room"),
        (Diverged("7 rollbacks by step 4; lower learning_rate"), "lower learning_rate"),
    ],
)
def test_a_full_disk_and_a_run_that_diverges_end_with_a_message(
    error, said, faked, micro_run, tmp_path, monkeypatch, capsys
):
    path, folder = tmp_path / "run.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(micro_run({"model": "intra", "steps": 4}).model_dump()))
    step = FakePhase.step

    def fails(self, batch):
        if batch["step"] == 3:
            raise error
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(FakePhase, "step", fails)
        assert main([str(path), "--folder", str(folder)]) == 1
    assert said in capsys.readouterr().err
    assert main([str(path), "--folder", str(folder)]) == 0


def test_a_run_of_an_older_version_goes_on(faked, micro_run, tmp_path):
    config = micro_run({"model": "intra", "steps": 10})
    fields = config.model_dump() | {"beta_1": 0.9, "eta_factors": None}
    fields["data"]["max_frames"] = 32
    fields["phases"][0]["loss"]["side"] = True
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(fields))
    assert Trainer(config, tmp_path).run()
    fields["phases"][0]["loss"]["side"] = False
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(fields))
    with pytest.raises(InputError, match="side"):
        Trainer(config, tmp_path)


def test_a_folder_in_use_is_refused(faked, micro_run, tmp_path):
    with exclusive(tmp_path / "lock"), pytest.raises(InputError, match="in use"):
        Trainer(micro_run({"model": "intra"}), tmp_path).run()


def test_initial_weights_need_a_folder_that_has_some(faked, micro_run, tmp_path):
    config = micro_run({"model": "intra"}, initial_weights=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="initial_weights"):
        Trainer(config, tmp_path / "run").run()
