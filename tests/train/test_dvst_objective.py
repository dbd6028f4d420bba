"""What training minimises, on DVST: the same objective, both streams in its tensors."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.models.dvst.config import DVST_PRESETS
from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.pvsc.config import PRESETS
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.train.channel import draw
from pvsc_link.train.config import ChannelConfig, LossConfig, PhaseConfig
from pvsc_link.train.objective import Objective

CROP, BATCH, GOP = 64, 2, 2


def batch_of(config, intra, channel, rng):
    """Entries as ``BatchMaker`` gives them, with units where ``rate_map_shape`` has them."""

    def uniform(step, channels):
        return rng.random((BATCH, GOP, CROP // step, CROP // step, channels), np.float32) - 0.5

    batch = {
        "frames": rng.integers(0, 256, (BATCH, GOP, CROP, CROP, 3), np.uint8),
        "omega_index": np.array([0, 2], np.int32),
        "noise_y": uniform(16, config.channels_y),
        "noise_z": uniform(64, config.channels_z),
        "rows": np.zeros((GOP, 1), np.int32),
        "place": np.zeros((GOP, 2), np.int32),
        "per_weight": np.float32(0),
        "adv_weight": np.float32(0),
    }
    if channel is None:
        return batch
    shapes = [(*c.rate_map_shape(CROP, CROP), -(-max(c.rate_set) // 2)) for c in (config, intra)]
    batch["draws"] = draw(channel, (BATCH, GOP, *shapes[0]), rng)
    own = draw(channel, (BATCH, 1, *shapes[1]), rng)
    batch["intra_draws"] = {"noise": own["noise"][:, 0]}
    return batch


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 3])
def test_the_objective_of_pvsc_has_gradients_in_dvst(micro_dvst, stage):
    config, intra = DVST_PRESETS[micro_dvst], IntraModel(PRESETS["micro_intra"])
    model = DvstModel(config)
    model.select_stage(stage)
    channel = None if stage == 1 else ChannelConfig(channel="awgn", snr_db=[10])
    phase = PhaseConfig(
        name="short",
        model="inter",
        stage=stage,
        steps=1,
        quantiser="ste",
        gop=[GOP],
        crop=CROP,
        batch=BATCH,
        loss=LossConfig(per=0, adv=0),
        channel=channel,
    )
    objective = Objective(phase, [0.1, 0.2, 0.4], model, intra)
    batch = batch_of(config, intra.config, channel, np.random.default_rng(0))
    with tf.GradientTape() as tape:
        loss, terms = objective(batch)
    gradients = tape.gradient(loss, [v.value for v in model.trainable_variables])
    assert np.isfinite(loss)
    assert terms["rate"] > 0
    reached = [g is not None and bool(np.any(g)) for g in gradients]
    assert np.mean(reached) > 0.5
