"""E_s of P frames: what it changes, and out of what."""

import numpy as np
import pytest
from keras import ops

from pvsc_link.models.presets import PRESETS
from pvsc_link.models.pvsc.hyperprior import SpatialPrior, checkerboard_masks

HEIGHT = 4


@pytest.fixture
def prior(micro, stirred):
    layer = SpatialPrior(PRESETS[micro])
    layer.build()
    return stirred(layer)


def inputs(width, seed=0):
    """w, mu_0, sigma_0, and y_before, which is zero but on block 0."""
    rng = np.random.default_rng(seed)
    w, mu_0, sigma_0, y = rng.random((4, 1, HEIGHT, width, 8)).astype(np.float32) + 0.5
    return w, mu_0, sigma_0, y * checkerboard_masks(HEIGHT, width)[0]


@pytest.mark.parametrize("width", [6, 7])
def test_the_prior_refines_block_1_and_leaves_block_0_alone(prior, width):
    w, mu_0, sigma_0, y_before = inputs(width)
    refined = map(ops.convert_to_numpy, prior(w, mu_0, sigma_0, y_before))
    later = np.broadcast_to(checkerboard_masks(HEIGHT, width)[1] > 0, w.shape)
    for before, after in zip((mu_0, sigma_0), refined, strict=True):
        np.testing.assert_allclose(after[~later], before[~later], rtol=1e-6)
        assert (np.abs(after - before)[later] > 1e-4).mean() > 0.9


def test_what_changes_at_a_unit_of_block_1_was_gathered_there(prior):
    """Without their neighbours, DC blocks leave a 1x1 convolution of the unit's own values."""
    w, mu_0, sigma_0, y_before = inputs(6)
    gathered = np.random.default_rng(1).random((1, HEIGHT, 6, 8)).astype(np.float32)
    prior.gather = lambda features: ops.convert_to_tensor(gathered)
    prior.refine = lambda features: features
    mu_1 = ops.convert_to_numpy(prior(w, mu_0, sigma_0, y_before)[0])
    shift = ops.convert_to_numpy(prior.heads(gathered))[..., :8]
    expected = mu_0 + shift * checkerboard_masks(HEIGHT, 6)[1]
    np.testing.assert_allclose(mu_1, expected, rtol=1e-5)


def test_what_block_0_sent_matters_to_its_neighbours(prior):
    w, mu_0, sigma_0, y_before = inputs(6)
    changed = y_before.copy()
    changed[0, 0, 0] += 1.0
    first, second = (
        ops.convert_to_numpy(prior(w, mu_0, sigma_0, y)[0]) for y in (y_before, changed)
    )
    moved = np.abs(second - first).max(axis=-1)[0]
    assert moved[0, 1] > 1e-4
    assert moved[1, 0] > 1e-4
    assert moved[0, 0] == 0
