"""An informed start codes pictures before the first step; P frames start cheaper than I frames."""

import numpy as np
import pytest
from PIL import Image

from pvsc_link.models.presets import PRESETS, intra_of
from pvsc_link.models.zoo import model_of
from pvsc_link.train.starts.informed import measure_statistics, quantisation_steps, start_informed

OMEGA = [0.001, 0.10, 0.21, 0.42, 0.88]


def textured_pairs(count, size, seed):
    """Two frames each of a smooth texture with edges that moves by one pixel."""
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        coarse = rng.integers(0, 256, (size // 8, size // 8, 3), np.uint8)
        wide = Image.fromarray(coarse).resize((size + 8, size + 8), Image.Resampling.BICUBIC)
        texture = np.asarray(wide, np.float32) / 255
        texture[size // 3 :] = texture[size // 3 :] * 0.5
        pairs.append([texture[t : t + size, t : t + size] for t in (0, 1)])
    return np.array(pairs, np.float32)


@pytest.fixture(scope="module")
def started():
    config = PRESETS["pvsc_tiny"]
    models = model_of(intra_of(config)), model_of(config)
    statistics = measure_statistics(
        textured_pairs(24, 96, 0), config.channels_feature, config.channels_y
    )
    for model in models:
        start_informed(model, statistics, OMEGA)
    return models


def psnr(a, b):
    return float(-10 * np.log10(np.mean((a - np.clip(np.array(b), 0, 1)) ** 2)))


@pytest.fixture(scope="module")
def coded(started):
    """(PSNR of I, PSNR of P, bits of I, bits of P, output of P) by preset."""
    intra, inter = started
    first, second = textured_pairs(1, 128, 1)[0][:, None]
    results = {}
    for index in (1, 4):
        preset = np.array([index], np.int32)
        sent = intra.forward(first, preset)
        following = inter.forward(second, inter.start_buffers(sent["frame_ideal"]), preset)
        bits = [float(np.sum(np.array(out["num_bits_y"]))) for out in (sent, following)]
        quality = psnr(first, sent["frame_ideal"]), psnr(second, following["frame_ideal"])
        results[index] = (*quality, *bits)
    return results


def test_pictures_come_out_before_the_first_step_and_better_at_a_larger_omega(coded):
    assert coded[1][0] > 26
    assert coded[4][0] > 32
    assert coded[4][0] > coded[1][0] + 2
    assert coded[4][2] > coded[1][2]


def test_p_frames_are_as_good_as_i_frames_and_cheaper(coded):
    for index in (1, 4):
        quality_i, quality_p, bits_i, bits_p = coded[index]
        assert quality_p > quality_i - 1
        assert bits_p < bits_i


def test_components_are_orthonormal_and_keep_a_smooth_picture(started):
    statistics = measure_statistics(textured_pairs(8, 64, 2), 96, 64)
    np.testing.assert_allclose(statistics.patches.T @ statistics.patches, np.eye(96), atol=1e-4)
    assert statistics.spread[:8].min() > 5 * statistics.spread[-8:].max()


def test_steps_follow_the_square_root_of_omega_up_to_a_bound():
    steps = quantisation_steps([0.0, 0.22, 0.88])
    assert steps[1] / steps[2] == pytest.approx(2.0, rel=1e-5)
    assert steps[0] == steps.max() < 2
