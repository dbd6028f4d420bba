"""A model of a few thousand weights, and moving pictures to train it on, made on the spot."""

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pvsc_link.models.presets import PRESETS, intra_of
from pvsc_link.models.pvsc_mc.config import PvscMcConfig
from pvsc_link.train.config import TrainConfig

MICRO = PvscMcConfig(
    "micro",
    channels_y=8,
    channels_z=4,
    channels_feature=12,
    channels_pixel=12,
    channels_prior=24,
    depth_context=(1, 1),
    depth_extractor=1,
    depth_hyper=0,
    depth_fusion=1,
    kernel_up=1,
    depth_feature=1,
    depth_pixel=1,
    zero_init_residual=True,
    embed_dim=8,
    num_heads=2,
    num_vit=1,
    mlp_ratio=1,
    window_size=4,
    rate_set=(0, 2, 4, 8),
    num_omega=2,
)


@pytest.fixture(scope="module")
def eager():
    """Functions run eagerly: a few steps of a micro model cost less than tracing one."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def micro_preset():
    """``micro`` and its I-frame model among the presets."""
    with pytest.MonkeyPatch.context() as patch:
        for config in (MICRO, intra_of(MICRO)):
            patch.setitem(PRESETS, config.name, config)
        yield MICRO


@pytest.fixture(scope="session")
def moving_pictures(tmp_path_factory):
    """A folder of four clips: smooth textures that shift by a pixel or two per frame."""
    root = tmp_path_factory.mktemp("clips")
    for i in range(4):
        rng = np.random.default_rng(i)
        coarse = rng.integers(30, 226, (14, 14, 3), np.uint8)
        texture = np.asarray(Image.fromarray(coarse).resize((112, 112), Image.Resampling.BICUBIC))
        folder = root / f"clip_{i}"
        folder.mkdir()
        for t in range(5):
            shift = (1 + i % 2) * t
            frame = texture[shift : shift + 96, t : t + 96]
            Image.fromarray(np.ascontiguousarray(frame)).save(folder / f"im{t + 1}.png")
    return root


@pytest.fixture(scope="module")
def micro_run(micro_preset, moving_pictures, tmp_path_factory):
    """A function from phases to a TrainConfig of the micro model on the moving pictures."""

    def make(*phases, **top):
        defaults = {"stage": 1, "steps": 4, "quantiser": "noise", "crop": 64, "batch": 2}
        plain = {"loss": {"per": 0.0}, "learning_rate": 1e-3}
        every = [defaults | plain | {"name": f"phase_{i}"} | p for i, p in enumerate(phases)]
        return TrainConfig.model_validate(
            {
                "name": "micro_run",
                "preset": "micro",
                "omega": [0.1, 0.8],
                "data": {"clips": [str(moving_pictures)], "max_skip": 1},
                "discriminator_filters": 4,
                "phases": every,
                **top,
            }
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PVSC_LINK_CACHE", str(tmp_path_factory.getbasetemp() / "clip_cache"))
        yield make
