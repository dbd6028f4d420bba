"""A frame is lost with any block that carries its bytes; then the picture freezes."""

import numpy as np
import pytest

from pvsc_link.codecs.concealment import MID_GREY, frames_lost, freeze

FRAMES = np.arange(4, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)


def lost_by_bytes(frame_num_bytes, block_ok, block_num_bits):
    """The definition, bit by bit."""
    owner = np.repeat(np.arange(len(frame_num_bytes)), 8 * np.asarray(frame_num_bytes))
    bits = np.broadcast_to(block_num_bits, len(block_ok))
    good = np.repeat(np.asarray(block_ok, bool), bits)[: owner.size]
    return [bool((~good[owner == frame]).any()) for frame in range(len(frame_num_bytes))]


def test_loss_agrees_with_the_bit_by_bit_definition():
    rng = np.random.default_rng(3)
    for _ in range(300):
        frames = rng.integers(1, 40, rng.integers(1, 6))
        total = 8 * int(frames.sum())
        if rng.random() < 0.5:
            bits = int(rng.integers(3, 200))
            blocks = -(-total // bits)
        else:
            bits = rng.integers(1, 200, total)
            blocks = int(np.searchsorted(np.cumsum(bits), total)) + 1
            bits = bits[:blocks]
        ok = rng.random(blocks) < 0.7
        assert frames_lost(frames, ok, bits).tolist() == lost_by_bytes(frames, ok, bits)


def test_a_block_that_ends_with_a_frame_does_not_touch_the_next():
    assert frames_lost([1, 1], [False, True], 8).tolist() == [True, False]
    assert frames_lost([1, 1], [False, True], [9, 7]).tolist() == [True, True]


def test_blocks_that_hold_too_little_are_refused():
    with pytest.raises(ValueError, match="hold 8 bits of 16"):
        frames_lost([1, 1], [True], 8)


def test_without_loss_everything_is_shown():
    shown = freeze(FRAMES, [True] * 4, None)
    assert np.array_equal(shown.frames, FRAMES)
    assert shown.frames_lost == 0


def test_from_the_first_lost_frame_on_the_last_good_one_is_shown():
    shown = freeze(FRAMES, [True, True, False, True], None)
    assert shown.frames[:, 0, 0, 0].tolist() == [0, 1, 1, 1]
    assert shown.frames_lost == 2


@pytest.mark.parametrize(("previous", "level"), [(None, MID_GREY), (FRAMES[0] + 77, 77)])
def test_a_lost_first_frame_shows_the_previous_gop_or_grey(previous, level):
    shown = freeze(FRAMES, [False, True, True, True], previous)
    assert set(shown.frames.ravel().tolist()) == {level}
    assert shown.frames_lost == 4


def test_the_reconstruction_itself_is_left_alone():
    before = FRAMES.copy()
    freeze(FRAMES, [True, False, True, True], None)
    assert np.array_equal(FRAMES, before)
