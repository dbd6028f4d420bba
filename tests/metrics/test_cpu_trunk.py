"""The trunk for CPUs gives the features of the Keras layer, and its convolutions those of Keras."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
from keras import ops

from pvsc_link.metrics.cpu_trunk import CpuTrunk
from pvsc_link.metrics.perceptual import MEAN, STAGES, STD, Dists, Lpips, Vgg16Trunk
from pvsc_link.metrics.vgg_weights import STAGE_CHANNELS, Vgg16Weights
from pvsc_link.metrics.winograd import WinogradConvolution

pytestmark = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the trunk for CPUs is TensorFlow's"
)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 4), (5, 3), (9, 14)])
def test_a_winograd_convolution_is_a_convolution(height, width):
    rng = np.random.default_rng(height)
    x = rng.normal(size=(height, width, 24)).astype(np.float32)
    kernel = rng.normal(size=(3, 3, 24, 40)).astype(np.float32) / 15
    bias = rng.normal(size=40).astype(np.float32)
    wanted = ops.relu(ops.conv(x[None], kernel, padding="same") + bias)[0]
    y = WinogradConvolution(kernel, bias)(x)
    np.testing.assert_allclose(y, ops.convert_to_numpy(wanted), atol=2e-5)
    assert (y == 0).any() or y.size < 100  # ReLU


def test_a_large_picture_is_convolved_in_blocks(monkeypatch):
    monkeypatch.setattr("pvsc_link.metrics.winograd._WORKSPACE", 36 * 3 * 2 * 8)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(30, 11, 8)).astype(np.float32)  # 8 rows of 3 tiles, 2 rows at once
    kernel = rng.normal(size=(3, 3, 8, 8)).astype(np.float32)
    wanted = ops.relu(ops.conv(x[None], kernel, padding="same"))[0]
    convolve = WinogradConvolution(kernel, np.zeros(8, np.float32))
    for _ in range(2):  # the second time in memory that is used again
        np.testing.assert_allclose(convolve(x), ops.convert_to_numpy(wanted), atol=1e-4)


def _trunks(seed=0):
    rng = np.random.default_rng(seed)
    channels = [3, *(c for c, stage in zip(STAGE_CHANNELS, STAGES, strict=True) for _ in stage)]
    kernels = [
        rng.normal(0, (2 / (9 * a)) ** 0.5, (3, 3, a, b)).astype(np.float32)
        for a, b in itertools.pairwise(channels)
    ]
    biases = [rng.normal(0, 0.1, b).astype(np.float32) for b in channels[1:]]
    layer = Vgg16Trunk(Vgg16Weights(kernels, biases, []))
    return layer, CpuTrunk(layer, STAGES, MEAN, STD)


@pytest.mark.parametrize("pool", [Lpips.pool, Dists.pool])
def test_the_features_are_those_of_the_layer(pool):
    layer, trunk = _trunks()
    frame = np.random.default_rng(2).random((37, 50, 3)).astype(np.float32)
    wanted = layer(((frame - MEAN) / STD)[None], pool=pool)
    for features, expected in zip(trunk(frame, pool), wanted, strict=True):
        assert features.shape == expected.shape
        scale = float(ops.max(ops.abs(expected)))
        np.testing.assert_allclose(features, expected, atol=1e-5 * scale)


def test_threads_get_the_features_of_their_own_frames():
    _, trunk = _trunks()
    frames = np.random.default_rng(4).random((6, 33, 40, 3)).astype(np.float32)
    alone = [trunk(frame, Lpips.pool) for frame in frames]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda frame: trunk(frame, Lpips.pool), [*frames, *frames]))
    for features, expected in zip(found, alone + alone, strict=True):
        for one, other in zip(features, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_both_distances_share_the_first_stage_of_a_frame_and_of_no_other():
    _, trunk = _trunks()
    rng = np.random.default_rng(3)
    frame, other = rng.random((2, 32, 32, 3)).astype(np.float32)
    of_lpips, of_dists = trunk(frame, Lpips.pool), trunk(frame.copy(), Dists.pool)
    assert of_lpips[0] is of_dists[0]
    frame[:] = other  # a caller that reuses its memory
    assert not np.array_equal(trunk(frame, Lpips.pool)[0], of_lpips[0])
