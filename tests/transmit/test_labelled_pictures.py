"""Pictures with words: every tile in its place, every word inside it, boxes where they belong."""

import numpy as np
import pytest

from pvsc_link.transmit.pictures import (
    Caption,
    Mosaic,
    caption_strip,
    still_picture,
    strip_height,
    wrapped_strips,
)

LONG = ("CBR 0.0041234, PSNR 34.1234 dB, LPIPS 0.21345, DISTS 0.12345",) * 2
ALARM, PINK = (176, 0, 32), (250, 10, 200)


def caption(alarm=""):
    return Caption("x265 (psy-off, medium)", "#E69F00", LONG, alarm)


def plain(*levels, size=(48, 64)):
    return [np.full((*size, 3), level, np.uint8) for level in levels]


@pytest.mark.parametrize("width", [320, 640, 1920])
def test_words_stay_inside_their_strip(width):
    strip = caption_strip(caption("3 of 4 frames lost in this GOP"), width)
    assert strip.shape == (strip_height(width), width, 3)
    ink = strip.min(axis=-1) < 200
    assert ink.any()
    assert not ink[:, -2:].any(), "nothing runs over the right edge"
    assert not ink[-1].any()


@pytest.mark.parametrize(("width", "size"), [(528, 30), (960, 54)])
def test_a_line_that_does_not_fit_a_still_goes_on_below_in_the_same_type(width, size):
    short = Caption("x265", "#000000", ("CBR 0.03", "rate 35"))
    long, other = wrapped_strips([caption("3 of 4 frames lost; no weights"), short], width, size)
    assert long.shape == other.shape
    ink = long.min(axis=-1) < 200
    assert not ink[:, -2:].any()
    assert not ink[-1].any()
    rows = ink.any(axis=1)
    lines = np.flatnonzero(rows[1:] & ~rows[:-1]).size
    assert lines >= 6, "label, four numbers of each line in two lines at least, and the alarm"
    high = np.diff(np.flatnonzero(np.diff(rows.astype(int)) != 0))[::2]
    assert (high > 0.6 * size).all(), "no line is written smaller"


def test_a_loss_is_told_in_red():
    def red(strip):
        return int((np.abs(strip.astype(int) - ALARM).sum(axis=-1) < 30).sum())

    assert red(caption_strip(caption("2 of 4 frames lost"), 320)) > 20
    assert red(caption_strip(caption(), 320)) == 0


@pytest.mark.parametrize(
    ("size", "number", "grid"),
    [((48, 64), 3, (1, 3)), ((272, 640), 4, (2, 2)), ((1080, 1920), 2, (1, 2))],
)
def test_every_tile_stands_in_its_place(size, number, grid):
    levels = [40 + 30 * place for place in range(number)]
    mosaic = Mosaic(size, number, "title")
    picture = mosaic.compose(plain(*levels, size=size), [caption()] * number)
    high, wide = mosaic.tile
    assert abs(wide / high - size[1] / size[0]) < 0.02
    assert picture.shape[1] // wide == grid[1]
    assert picture.shape[1] <= 3860
    centres = [np.argwhere((picture == level).all(axis=-1)).mean(axis=0) for level in levels]
    for place, (y, x) in enumerate(centres):
        assert int(x * grid[1] / picture.shape[1]) == place % grid[1]
        assert int(y * grid[0] / picture.shape[0]) == place // grid[1]


def test_a_still_zooms_into_what_the_boxes_hold():
    source = plain(100, size=(90, 160))[0]
    other = source.copy()
    other[20:30, 120:140] = PINK  # what the scheme got wrong
    captions = [caption(), caption()]
    picture = still_picture([source, other], captions, "title")
    pink = (picture == PINK).all(axis=-1)
    # 200 pixels, each 3 x 3 in the frame and larger still in the zoom.
    assert pink.sum() > 2 * 200 * 9
    assert not pink[:, : pink.shape[1] // 2].any(), "the original has none of it"


def test_many_schemes_go_on_in_a_second_row_of_about_the_same_length():
    one = still_picture(plain(10, 20, 30), [caption()] * 3, "title")
    two = still_picture(plain(10, 20, 30, 40, 50), [caption()] * 5, "title")
    assert two.shape[1] == one.shape[1], "three and two, not four and one"
    assert two.shape[0] > 1.7 * one.shape[0]
