"""For every room: seeded layers, and semantic models of a few thousand weights."""

from dataclasses import replace

import keras
import numpy as np
import pytest

from pvsc_link.models.dvst.config import DvstConfig, StreamConfig
from pvsc_link.models.presets import DVST_PRESETS, PRESETS, intra_of
from pvsc_link.models.pvsc_mc.config import PvscMcConfig

MICRO = PvscMcConfig(
    "micro",
    channels_y=8,
    channels_z=4,
    channels_feature=8,
    channels_pixel=8,
    channels_prior=8,
    depth_context=(1, 1),
    depth_extractor=1,
    depth_hyper=0,
    depth_fusion=1,
    kernel_up=1,
    depth_feature=1,
    depth_pixel=1,
    embed_dim=8,
    num_heads=2,
    num_vit=1,
    mlp_ratio=1,
    window_size=4,
    blend_reference=True,
    rate_set=(0, 2, 3, 4, 6, 8),
    num_omega=3,
)
_STREAM = StreamConfig(
    "micro_stream",
    channels_y=8,
    channels_z=4,
    channels_context=8,
    channels_prior=8,
    depth_hyper=0,
    depth_fusion=1,
    embed_dim=8,
    num_heads=2,
    num_vit=1,
    mlp_ratio=1,
    window_size=4,
    rate_set=MICRO.rate_set,
)
MICRO_DVST = DvstConfig(
    "micro_dvst",
    "micro_intra",
    motion=replace(_STREAM, channels_context=0, channels_y=6),
    context=_STREAM,
    num_levels=2,
    flow_channels=(4,),
    flow_kernel=3,
    channels_motion=(4, 6, 8),
    channels_pixel=6,
    channels_context=(8, 8, 8),
    depth_reference=1,
    depth_refine=1,
    depth_encoder=1,
    depth_decoder=1,
    num_rates=3,
)


@pytest.fixture(autouse=True)
def same_weights_in_every_run():
    """Fresh layers start from a seed: a test passes or fails today as it did yesterday."""
    keras.utils.set_random_seed(1)


@pytest.fixture(scope="session")
def micro():
    """The name of the preset, for this test run alone."""
    with pytest.MonkeyPatch.context() as patch:
        for config in (MICRO, intra_of(MICRO)):
            patch.setitem(PRESETS, config.name, config)
        yield MICRO.name


@pytest.fixture(scope="session")
def micro_dvst(micro):
    """The name of the DVST preset, whose I frames are those of ``micro``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DVST_PRESETS, MICRO_DVST.name, MICRO_DVST)
        yield MICRO_DVST.name


@pytest.fixture(scope="session")
def stirred():
    """A function that moves weights away from their start, where whole branches are zero."""

    def stir(model, seed=0):
        rng = np.random.default_rng(seed)
        for weight in model.trainable_weights:
            value = np.asarray(weight)
            scale = 0.3 / np.sqrt(max(np.prod(value.shape[:-1]), 1)) if value.ndim > 1 else 0.02
            weight.assign(value + scale * rng.standard_normal(value.shape).astype(np.float32))
        return model

    return stir
