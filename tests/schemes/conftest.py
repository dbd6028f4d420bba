"""A model of a few thousand weights, away from its start, on a clip of noise and edges."""

import numpy as np
import pytest
from keras import ops

from pvsc_link.schemes import semantic, semantic_models
from pvsc_link.schemes.semantic import SemanticScheme
from pvsc_link.semantic.presets import PRESETS, PvscConfig, intra_of
from pvsc_link.types import Video

MICRO = PvscConfig(
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
    rate_set=(0, 2, 3, 4, 6, 8),
    num_omega=3,
)


@pytest.fixture(scope="session")
def micro():
    """The name of the preset, for this test run alone."""
    with pytest.MonkeyPatch.context() as patch:
        for config in (MICRO, intra_of(MICRO)):
            patch.setitem(PRESETS, config.name, config)
        yield MICRO.name
        semantic_models.load_models.cache_clear()


def stir(model, seed):
    """Weights away from their start: branches that begin at zero would hide whole layers."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        value = ops.convert_to_numpy(weight)
        scale = 0.3 / np.sqrt(max(np.prod(value.shape[:-1]), 1)) if value.ndim > 1 else 0.1
        weight.assign(value + scale * rng.standard_normal(value.shape).astype(np.float32))


@pytest.fixture(scope="session")
def scheme(micro):
    """A scheme whose models do something; session-wide, so that it is traced once."""
    made = SemanticScheme(micro)
    for seed, model in enumerate(semantic.load_models(micro, made._files)):
        stir(model, seed)
    return made


@pytest.fixture(scope="session")
def video():
    """Four frames of 72x100 that move: neither side is a multiple of 64."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (4, 10, 13, 3))
    frames = np.kron(coarse, np.ones((1, 8, 8, 1)))[:, :72, :100].astype(np.uint8)
    return Video("noise", frames, 30.0, "made here")
