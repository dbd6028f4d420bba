"""The micro model away from its start, and a clip of noise and edges."""

import numpy as np
import pytest
from keras import ops

from pvsc_link.models.zoo import load_models
from pvsc_link.schemes.semantic import PvscMcScheme
from pvsc_link.types import Video


def stir(model, seed):
    """Weights away from their start: branches that begin at zero would hide whole layers."""
    rng = np.random.default_rng(seed)
    for weight in model.trainable_weights:
        value = ops.convert_to_numpy(weight)
        scale = 0.3 / np.sqrt(max(np.prod(value.shape[:-1]), 1)) if value.ndim > 1 else 0.1
        weight.assign(value + scale * rng.standard_normal(value.shape).astype(np.float32))


@pytest.fixture(scope="session")
def move():
    """``stir``, for test files."""
    return stir


@pytest.fixture(scope="session")
def scheme(micro):
    """A scheme whose models do something; session-wide, so that it is traced once."""
    made = PvscMcScheme(micro)
    models = load_models.__wrapped__(micro, made._files[0])  # not those that other tests are given
    for seed, model in enumerate(models):
        stir(model, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pvsc_link.models.load_models", lambda *_: models)
        made.engine(0)
    return made


@pytest.fixture
def same_models(scheme, monkeypatch):
    """Every scheme that is made in the test has the models of ``scheme``."""
    models = tuple(scheme.engine(0).steps.models.values())
    monkeypatch.setattr("pvsc_link.models.load_models", lambda *_: models)


@pytest.fixture(scope="session")
def video():
    """Four frames of 72x100 that move: neither side is a multiple of 64."""
    rng = np.random.default_rng(3)
    coarse = rng.integers(0, 256, (4, 10, 13, 3))
    frames = np.kron(coarse, np.ones((1, 8, 8, 1)))[:, :72, :100].astype(np.uint8)
    return Video("noise", frames, 30.0, "made here")
