"""How much each quality preset counts in a step."""

import keras
import numpy as np
import pytest

from pvsc_link.models.presets import intra_of
from pvsc_link.models.zoo import model_of
from pvsc_link.train.batches import BatchMaker
from pvsc_link.train.data import open_cache
from pvsc_link.train.objective import Objective

#: Both rows of a batch hold one clip; without noise they also arrive alike.
AWGN = {"channel": "awgn", "snr_db": [60.0]}
OMEGA = [0.5, 8.0]
PER_CLIP = ("frames", "noise_y", "noise_z")


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("stage", [2, 3])
def test_a_clips_loss_is_divided_by_omega_to_the_power_of_the_balance(
    micro_preset, micro_run, stage
):
    learnt = {"model": "intra", "stage": stage, "quantiser": "ste", "channel": AWGN}
    intra = model_of(intra_of(micro_preset))

    def loss(balance, *omega_index):
        config = micro_run({**learnt, "loss": {"per": 0.0, "preset_balance": balance}}, omega=OMEGA)
        phase = config.phases[0]
        maker = BatchMaker(config, phase, intra.config, None, open_cache(config.data), 0)
        batch = maker.make(0)
        twice = {k: keras.tree.map_structure(lambda x: x[[0, 0]], batch[k]) for k in PER_CLIP}
        given = {**batch, **twice, "omega_index": np.array(omega_index, np.int32)[:, None]}
        return float(Objective(phase, config.omega, intra)(given)[0])

    coarse, fine = loss(0.0, 0, 0), loss(0.0, 1, 1)
    for power in (0.0, 0.5, 1.0):
        expected = 0.5 * (coarse / OMEGA[0] ** power + fine / OMEGA[1] ** power)
        assert loss(power, 0, 1) == pytest.approx(expected, rel=1e-4)
