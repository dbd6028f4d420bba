"""P frames that are coded before those that learn: the state of a long GOP, no gradient."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.semantic.presets import intra_of
from pvsc_link.train.batches import BatchMaker
from pvsc_link.train.clip_cache import open_cache
from pvsc_link.train.distillation import build_model
from pvsc_link.train.objective import Objective
from pvsc_link.types import InputError

AWGN = {"channel": "awgn", "snr_db": [10.0]}
P_PHASE = {"model": "inter", "stage": 3, "quantiser": "ste", "channel": AWGN}


@pytest.fixture
def models(micro_preset):
    return build_model(micro_preset), build_model(intra_of(micro_preset))


def loss_of(config, models, num_frames=None):
    """Objective of the only phase and its first batch, cut to ``num_frames``."""
    phase, (inter, intra) = config.phases[0], models
    maker = BatchMaker(config, phase, inter.config, intra.config, open_cache(config.data), 0)
    batch = maker.make(0)
    if num_frames:
        batch = cut(batch, num_frames)
    return Objective(phase, config.omega, inter, intra), batch


def cut(batch, num_frames):
    def first(value):
        return value[:, :num_frames]

    timed = {k: first(batch[k]) for k in ("frames", "noise_y", "noise_z", "motion")}
    draws = {k: first(v) for k, v in batch["draws"].items()}
    places = {k: batch[k][:num_frames] for k in ("rows", "place")}
    return batch | timed | places | {"draws": draws}


def test_frames_after_a_lead_in_have_the_loss_that_they_have_in_a_longer_gop(micro_run, models):
    objective, batch = loss_of(micro_run({**P_PHASE, "gop": [3]}), models)
    both, first = objective(batch)[0], objective(cut(batch, 2))[0]
    led = batch | {k: batch[k][1:] for k in ("rows", "place")}
    np.testing.assert_allclose(objective(led)[0], 2 * both - first, rtol=1e-4)


def test_nothing_is_learnt_from_a_lead_in(micro_run, models):
    objective, batch = loss_of(micro_run({**P_PHASE, "gop": [2], "lead_in": [1]}), models)
    assert batch["frames"].shape[1] == 3
    frames = tf.cast(batch["frames"], tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(frames)
        loss, _ = objective({**batch, "frames": frames})
    gradient = tape.gradient(loss, frames).numpy()
    assert not gradient[:, :2].any()
    assert gradient[:, 2].any()


def test_steps_draw_their_lead_in(micro_run, models):
    config = micro_run({**P_PHASE, "gop": [2], "lead_in": [0, 3], "steps": 20})
    inter, intra = models
    phase, cache = config.phases[0], open_cache(config.data)
    maker = BatchMaker(config, phase, inter.config, intra.config, cache, 0)
    batches = [maker.make(step) for step in range(20)]
    lengths = [batch["frames"].shape[1] for batch in batches]
    assert set(lengths) == {2, 5}
    assert lengths == [maker.make(step)["frames"].shape[1] for step in range(20)]
    assert {batch["rows"].shape[0] for batch in batches} == {2}


def test_an_intra_phase_has_no_lead_in(micro_run):
    with pytest.raises((InputError, ValueError), match="lead_in"):
        micro_run({"model": "intra", "lead_in": [0, 2]})
