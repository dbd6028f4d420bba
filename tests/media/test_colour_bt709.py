"""BT.709 is explicit, the 10-bit 4:4:4 round trip loses nothing, 4:2:0 inverts the reader."""

import av
import numpy as np
import pytest

from pvsc_link.media.clips import load_clip
from pvsc_link.media.pixels import (
    decoded_frame_to_rgb,
    decoded_source_to_rgb,
    frame_of_planes,
    planes_of_frame,
    rgb_to_yuv444,
    yuv420_to_yuv444,
    yuv444_to_rgb,
    yuv444_to_yuv420,
)


def random_rgb(shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def test_8_bit_rgb_survives_10_bit_yuv_444_without_loss():
    corners = np.array(np.meshgrid(*[[0, 1, 127, 128, 254, 255]] * 3), np.uint8).reshape(3, 1, -1)
    for rgb in (random_rgb((2, 96, 64, 3)), np.moveaxis(corners, 0, -1)[None]):
        assert np.array_equal(yuv444_to_rgb(rgb_to_yuv444(rgb)), rgb)


@pytest.mark.parametrize(
    ("rgb", "codes"),
    [
        ((0, 0, 0), (64, 512, 512)),
        ((255, 255, 255), (940, 512, 512)),
        # Y' = 0.2126 gives 64 + 876 * 0.2126; Cr' = 0.5 is the top of the legal range.
        ((255, 0, 0), (250, 409, 960)),
        ((0, 255, 0), (691, 167, 105)),
        ((0, 0, 255), (127, 960, 471)),
    ],
)
def test_primaries_have_the_code_values_of_bt709(rgb, codes):
    assert rgb_to_yuv444(np.array([[rgb]], np.uint8)).ravel().tolist() == list(codes)


def test_8_bit_codes_are_a_quarter_of_10_bit_codes():
    rgb = random_rgb((16, 16, 3))
    quarter = rgb_to_yuv444(rgb, bits=10) / 4
    assert np.abs(quarter - rgb_to_yuv444(rgb, bits=8)).max() <= 0.625


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (33, 1)])
def test_planes_written_into_a_frame_come_back(size):
    planes = np.random.default_rng(2).integers(0, 1024, (3, *size)).astype(np.uint16)
    frame = frame_of_planes(list(planes), "yuv444p10le")
    assert np.array_equal(planes_of_frame(frame), planes)


def test_chroma_halves_to_the_mean_and_comes_back_repeated():
    yuv = np.random.default_rng(4).integers(0, 1024, (3, 6, 8)).astype(np.uint16)
    luma, cb, cr = yuv444_to_yuv420(yuv)
    assert np.array_equal(luma, yuv[0])
    assert cb[1, 2] == np.rint(yuv[1, 2:4, 4:6].mean())
    again = yuv444_to_yuv420(yuv420_to_yuv444([luma, cb, cr]))
    assert all(np.array_equal(x, y) for x, y in zip(again, (luma, cb, cr), strict=True))


@pytest.mark.parametrize(("name", "least_psnr_db"), [("bikes", 66), ("carphone", 60)])
def test_420_costs_a_natively_420_source_next_to_nothing(name, least_psnr_db):
    rgb = load_clip(name, 0, 1).frames[0]
    planes = yuv444_to_yuv420(rgb_to_yuv444(rgb))
    back = decoded_frame_to_rgb(frame_of_planes(planes, "yuv420p10le"))
    error = np.mean((back.astype(float) - rgb) ** 2)
    assert 10 * np.log10(255**2 / error) > least_psnr_db


def test_bt601_would_be_far_off():
    codes = rgb_to_yuv444(np.array([[[203, 92, 44]]], np.uint8), bits=8).ravel()
    bt601_luma = 16 + 219 * (0.299 * 203 + 0.587 * 92 + 0.114 * 44) / 255
    assert abs(codes[0] - bt601_luma) > 5


def test_an_untagged_source_is_read_as_bt709():
    frame = av.VideoFrame(16, 16, "yuv420p")
    for plane, code in zip(frame.planes, (113, 93, 175), strict=True):
        plane.update(bytes([code]) * plane.buffer_size)
    yuv = np.broadcast_to(np.array([113, 93, 175], np.uint16)[:, None, None], (3, 1, 1))
    expected = yuv444_to_rgb(yuv, bits=8)[0, 0].astype(int)
    assert np.abs(decoded_source_to_rgb(frame)[8, 8] - expected).max() <= 2


def test_a_source_tagged_full_range_is_read_as_such():
    frame = av.VideoFrame(16, 16, "yuv420p")
    for plane, code in zip(frame.planes, (16, 128, 128), strict=True):
        plane.update(bytes([code]) * plane.buffer_size)
    assert set(decoded_source_to_rgb(frame).ravel().tolist()) == {0}
    frame.color_range = 2  # full range: code 16 is a dark grey, not black
    assert set(decoded_source_to_rgb(frame).ravel().tolist()) == {16}


def test_a_stated_matrix_counts_in_place_of_the_tag():
    frame = av.VideoFrame(16, 16, "yuv420p")
    for plane, code in zip(frame.planes, (113, 93, 175), strict=True):
        plane.update(bytes([code]) * plane.buffer_size)
    by_709 = decoded_source_to_rgb(frame, matrix="bt709")
    by_601 = decoded_source_to_rgb(frame, matrix="bt601")
    assert not np.array_equal(by_601, by_709)
    frame.colorspace = 5
    assert np.array_equal(decoded_source_to_rgb(frame), by_601)
    assert np.array_equal(decoded_source_to_rgb(frame, matrix="bt709"), by_709)


def test_decoded_frames_of_another_kind_are_refused():
    with pytest.raises(ValueError, match="yuv422p"):
        decoded_frame_to_rgb(av.VideoFrame(16, 16, "yuv422p"))
