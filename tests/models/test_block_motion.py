"""Motion: what moved is found, moved alike at both ends, and sent for little."""

import contextlib
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops
from PIL import Image

from pvsc_link.models.entropy.range_coder import (
    TOTAL,
    MessageReader,
    SideInformationError,
    encode,
    information,
)
from pvsc_link.models.presets import PVSC_MC_SMALL
from pvsc_link.models.pvsc_mc.motion import (
    MAX_MOTION,
    STEPS,
    UNIT,
    MotionPrior,
    compensate,
    penalty,
    predicted,
    search_motion,
)

HEIGHT, WIDTH = 64, 128


def waves(down=0.0, right=0.0):
    """A smooth picture, seen ``down`` and ``right`` pixels further: [1, height, width, 3]."""
    y, x = np.mgrid[:HEIGHT, :WIDTH] + np.array([down, right])[:, None, None]
    tones = [np.sin(0.31 * x + 0.2 * y), np.cos(0.23 * y - 0.11 * x), np.sin(0.05 * x * y / 40)]
    return (0.5 + 0.4 * np.stack(tones, axis=-1))[None].astype(np.float32)


def everywhere(down, right):
    vector = np.array([down, right], np.int32)
    return np.broadcast_to(vector, (1, HEIGHT // UNIT, WIDTH // UNIT, 2)).copy()


def random_motion(rng, rows=6, columns=9):
    """Two bodies that move as wholes, and a little unrest."""
    motion = np.zeros((rows, columns, 2), np.int32)
    motion[1:4, 2:6] = rng.integers(-40, 41, 2)
    return motion + rng.integers(-1, 2, motion.shape) * (rng.random((rows, columns, 1)) < 0.2)


@pytest.mark.parametrize(("down", "right"), [(0, 0), (3, -5), (-17, 32)])
def test_whole_vectors_copy_pixels_and_repeat_the_border(down, right):
    frame = np.random.default_rng(0).random((1, HEIGHT, WIDTH, 3)).astype(np.float32)
    rows = np.clip(np.arange(HEIGHT) + down, 0, HEIGHT - 1)
    columns = np.clip(np.arange(WIDTH) + right, 0, WIDTH - 1)
    moved = compensate(frame, everywhere(STEPS * down, STEPS * right))
    np.testing.assert_allclose(moved, frame[:, rows][:, :, columns], atol=1e-6)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (2, 3), (-7, 5), (-2, -1)])
def test_quarters_of_a_pixel_see_between_the_pixels(down, right):
    expected = waves(down / STEPS, right / STEPS)
    moved = ops.convert_to_numpy(compensate(waves(), everywhere(down, right)))
    inner = (slice(None), slice(16, -16), slice(16, -16))
    error, before = (np.abs(frame - expected)[inner].max() for frame in (moved, waves()))
    assert error < 0.1 * before


def test_every_unit_and_every_picture_has_a_vector_of_its_own():
    frames = np.concatenate([waves(), waves(9.0, 2.0)])
    motion = np.zeros((2, HEIGHT // UNIT, WIDTH // UNIT, 2), np.int32)
    motion[1, 2, 3] = 4, -8
    moved = ops.convert_to_numpy(compensate(frames, motion))
    place = (1, slice(32, 48), slice(48, 64))
    shifted = np.roll(frames, (-1, 2), axis=(1, 2))
    np.testing.assert_allclose(moved[place], shifted[place], atol=1e-6)
    moved[place] = frames[place]
    np.testing.assert_allclose(moved, frames, atol=1e-6)


def test_the_gradient_reaches_the_pixels_that_were_taken():
    import tensorflow as tf

    frame = keras.Variable(waves())
    with tf.GradientTape() as tape:
        loss = ops.sum(compensate(frame.value, everywhere(6, -3)))
    gradient = tape.gradient(loss, frame.value).numpy()
    assert gradient.sum() == pytest.approx(HEIGHT * WIDTH * 3, rel=1e-4)
    assert np.abs(gradient[:, 8:-8, 8:-8] - 1.0).max() < 0.2


@pytest.mark.parametrize("vector", [(0, 0), (-8, 20), (5, -3), (40, 90)])
def test_the_search_finds_a_shift(vector):
    coarse = np.random.default_rng(1).integers(0, 256, (48, 60, 3), np.uint8)
    wide = np.asarray(Image.fromarray(coarse).resize((300, 240), Image.Resampling.BICUBIC))[None]
    wide = wide.astype(np.float32) / 255
    old = wide[:, 60 : 60 + HEIGHT, 80 : 80 + WIDTH]
    whole = (60 + vector[0] // STEPS, 80 + vector[1] // STEPS)
    part = (vector[0] % STEPS, vector[1] % STEPS)
    beyond = wide[:, whole[0] - 32 : whole[0] + 96, whole[1] - 32 : whole[1] + 160]
    grid = (1, beyond.shape[1] // UNIT, beyond.shape[2] // UNIT, 2)
    between = ops.convert_to_numpy(
        compensate(beyond, np.broadcast_to(np.array(part, np.int32), grid))
    )
    new = between[:, 32:-32, 32:-32]
    found = search_motion(old, new, 6.0)[0]
    inside = found[1:-1, 1:-1] if max(map(abs, vector)) < 30 else found[:2, :6]
    assert (np.abs(inside - vector) <= 2).all(axis=-1).mean() > 0.7
    before, after = np.abs(old - new).mean(), np.abs(compensate(old, found[None]) - new).mean()
    assert after <= before
    assert vector == (0, 0) or after < 0.5 * before


def test_a_picture_that_stands_still_moves_nowhere_and_costs_next_to_nothing():
    motion = search_motion(waves(), waves(), penalty(PVSC_MC_SMALL, 2))
    assert not motion.any()
    prior = MotionPrior(PVSC_MC_SMALL)
    prior.fit([np.zeros_like(motion[0])] * 50)
    assert information(prior.parts(motion[0])) < 0.2 * motion[0].size


def test_dearer_bits_give_fewer_of_them():
    rng = np.random.default_rng(2)
    noise = [0.1 * rng.standard_normal(waves().shape).astype(np.float32) for _ in range(2)]
    prior = MotionPrior(PVSC_MC_SMALL)
    bits = [
        information(prior.parts(search_motion(waves() + noise[0], waves(2) + noise[1], slope)[0]))
        for slope in (0.0, 6.0, 60.0)
    ]
    assert bits[0] > bits[1] > bits[2]


def test_coarse_presets_pay_more_for_a_bit_of_motion():
    config = replace(PVSC_MC_SMALL, motion_penalty=(100.0, 25.0))
    slopes = [penalty(config, index) for index in range(config.num_omega)]
    assert (slopes[0], slopes[-1]) == pytest.approx((100.0, 25.0))
    assert slopes == sorted(slopes, reverse=True)
    assert penalty(replace(config, num_omega=1), 0) == 100.0


def test_pictures_are_searched_independently():
    rng = np.random.default_rng(3)
    old, new = rng.random((2, 3, HEIGHT, WIDTH, 3)).astype(np.float32)
    slopes = np.array([4.0, 20.0, 60.0])
    together = search_motion(old, new, slopes)
    for i, slope in enumerate(slopes):
        np.testing.assert_array_equal(
            together[i], search_motion(old[i : i + 1], new[i : i + 1], slope)[0]
        )


def test_a_vector_is_predicted_by_the_median_of_its_neighbours():
    motion = np.arange(24, dtype=np.int32).reshape(3, 4, 2) ** 2 % 17
    left, above, right = motion[1, 1], motion[0, 2], motion[0, 3]
    np.testing.assert_array_equal(predicted(motion)[1, 2], np.median([left, above, right], axis=0))
    np.testing.assert_array_equal(predicted(motion)[0, 0], [0, 0])


@pytest.mark.parametrize("fitted", [False, True])
def test_vectors_survive_and_cost_their_information(fitted):
    rng = np.random.default_rng(4)
    prior = MotionPrior(PVSC_MC_SMALL)
    if fitted:
        prior.fit([random_motion(rng) for _ in range(40)])
    extreme = np.full((6, 9, 2), MAX_MOTION, np.int32)
    extreme[::2, ::3] = -MAX_MOTION
    for motion in (random_motion(rng), extreme, np.zeros((1, 1, 2), np.int32)):
        parts = prior.parts(motion)
        message, bits = encode(parts), information(parts)
        assert bits <= 8 * len(message) <= bits + 9 + 1e-3 * motion.size
        reader = MessageReader(message)
        np.testing.assert_array_equal(prior.read(reader, motion.shape[:2]), motion)
        reader.finish()


def test_a_fit_makes_vectors_like_those_seen_cheaper():
    rng = np.random.default_rng(5)
    prior, seen = MotionPrior(PVSC_MC_SMALL), [random_motion(rng) for _ in range(80)]
    before = information(prior.parts(seen[0]))
    prior.fit(seen[1:])
    assert (ops.convert_to_numpy(prior.counts).sum(axis=1) == TOTAL).all()
    assert information(prior.parts(seen[0])) < 0.9 * before


def test_a_fit_takes_a_difference_as_likely_as_its_opposite():
    prior = MotionPrior(PVSC_MC_SMALL)
    prior.fit([np.abs(random_motion(np.random.default_rng(7)))])
    counts = ops.convert_to_numpy(prior.counts)
    np.testing.assert_allclose(counts, counts[:, ::-1], atol=1)
    assert counts.min() < counts.max() / 100


def test_damage_is_refused_or_read_as_other_vectors():
    prior = MotionPrior(PVSC_MC_SMALL)
    motion = random_motion(np.random.default_rng(6))
    message = bytearray(encode(prior.parts(motion)))
    message[2] ^= 4
    reader = MessageReader(bytes(message))
    with contextlib.suppress(SideInformationError):
        assert not np.array_equal(prior.read(reader, motion.shape[:2]), motion)
