"""Padding repeats edges, cropping undoes it."""

import numpy as np
import pytest

from pvsc_link.media.pixels import crop, pad_to_multiple


@pytest.mark.parametrize(
    ("size", "padded"),
    [((144, 176), (256, 256)), ((272, 640), (384, 640)), ((128, 128), (128, 128))],
)
def test_padding_reaches_the_next_multiple_and_crop_undoes_it(size, padded):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    large = pad_to_multiple(frames, 128)
    assert large.shape == (2, *padded, 3)
    assert large.dtype == np.uint8
    assert np.array_equal(crop(large, *size), frames)


def test_the_margin_is_the_last_row_and_column():
    large = pad_to_multiple(np.arange(6, dtype=np.uint8).reshape(1, 2, 1, 3), 4)
    assert np.array_equal(large[0, 2:, 0], np.broadcast_to([3, 4, 5], (2, 3)))
    assert np.array_equal(large[0, 0, 1:], np.broadcast_to([0, 1, 2], (3, 3)))
