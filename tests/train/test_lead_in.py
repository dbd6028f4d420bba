"""P frames that are coded before those that learn: the state of a long GOP, no gradient."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.presets import intra_of
from pvsc_link.models.pvsc_mc.config import REFRESH_PRESETS
from pvsc_link.models.zoo import model_of
from pvsc_link.train.batches import BatchMaker
from pvsc_link.train.data import open_cache
from pvsc_link.train.objective import Objective
from pvsc_link.types import InputError

pytestmark = pytest.mark.usefixtures("eager")
AWGN = {"channel": "awgn", "snr_db": [10.0]}
P_PHASE = {"model": "inter", "stage": 3, "quantiser": "ste", "channel": AWGN}


pytestmark = pytest.mark.usefixtures("eager")


@pytest.fixture(scope="module")
def models(micro_preset):
    return model_of(micro_preset), model_of(intra_of(micro_preset))


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

    timed = {k: first(batch[k]) for k in ("frames", "omega_index", "noise_y", "noise_z", "motion")}
    channel = batch["channel"] | {"seed": batch["channel"]["seed"][:num_frames]}
    places = {k: batch[k][:num_frames] for k in ("rows", "place")}
    return batch | timed | places | {"channel": channel}


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
        loss, _, _ = objective({**batch, "frames": frames})
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


def test_refreshing_frames_are_finer(micro_run, models):
    phase = {**P_PHASE, "gop": [2], "lead_in": [3], "refresh_every": [0, 2], "steps": 20}
    config = micro_run(phase)
    inter, intra = models
    maker = BatchMaker(
        config, config.phases[0], inter.config, intra.config, open_cache(config.data), 0
    )
    finest = len(config.omega) - 1
    seen = set()
    for step in range(20):
        presets = maker.make(step)["omega_index"]
        others = np.delete(presets, [2, 4], axis=1)
        assert (others == presets[:, :1]).all()
        refreshing = (presets[:, [2, 4]] > presets[:, :1]).any()
        seen.add(bool(refreshing))
        if refreshing:
            expected = np.minimum(presets[:, 0] + REFRESH_PRESETS, finest)
            np.testing.assert_array_equal(presets[:, 2], expected)
            np.testing.assert_array_equal(presets[:, 4], expected)
    assert seen == {False, True}


def test_vectors_lead_from_the_frame_before_at_the_preset_of_their_own_frame(
    micro_run, models, monkeypatch
):
    def searched(config, reference, frames, omega_index):
        change = np.mean(255 * (frames - reference), axis=(1, 2, 3))
        return np.broadcast_to(
            np.stack([np.rint(1000 * change), omega_index], axis=-1)[:, None, None], (2, 4, 4, 2)
        ).astype(np.int32)

    monkeypatch.setattr("pvsc_link.train.batches.motion_vectors", searched)
    config = micro_run({**P_PHASE, "gop": [4], "refresh_every": [2]})
    inter, intra = models
    cache = open_cache(config.data)
    maker = BatchMaker(config, config.phases[0], inter.config, intra.config, cache, 0)
    batches = map(maker.make, range(20))
    batch = next(one for one in batches if np.ptp(one["omega_index"], axis=1).any())
    assert not batch["motion"][:, 0].any(), "an I frame has none"
    means = batch["frames"].mean(axis=(2, 3, 4))
    np.testing.assert_allclose(batch["motion"][:, 1:, 0, 0, 0], 1000 * np.diff(means), atol=1)
    np.testing.assert_array_equal(batch["motion"][:, 1:, 0, 0, 1], batch["omega_index"][:, 1:])


def test_the_loss_weighs_a_refreshing_frame_by_its_own_omega(micro_run, models):
    config = micro_run({**P_PHASE, "gop": [2]})
    _, batch = loss_of(config, models)
    batch["omega_index"][:] = [[0, 1]]

    def loss(*omega):
        return Objective(config.phases[0], list(omega), *models)(batch)[:2]

    fine, terms = loss(1.0, 10.0)
    np.testing.assert_allclose(loss(5.0, 10.0)[0], fine, rtol=1e-5)
    rec = sum(float(terms[f"rec_{branch}"]) for branch in ("ideal", "tx", "rx"))
    np.testing.assert_allclose(loss(1.0, 20.0)[0] - fine, 10.0 * rec, rtol=1e-3)


@pytest.mark.parametrize("frames", [{"lead_in": [0, 2]}, {"refresh_every": [3]}])
def test_an_intra_phase_has_neither_lead_in_nor_refresh(micro_run, frames):
    with pytest.raises((InputError, ValueError), match=next(iter(frames))):
        micro_run({"model": "intra", **frames})
