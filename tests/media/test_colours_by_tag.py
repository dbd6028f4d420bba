"""One picture gives the same RGB in every encoding, and colours that are not converted are told."""

from itertools import product

import av
import numpy as np
import pytest

from pvsc_link.media.colour import (
    PEAK,
    REFERENCE_WHITE,
    ColourOptions,
    colour_notes,
    hlg_to_linear,
    linear_to_pq,
    pq_to_linear,
    shown_rgb,
    to_bt709_primaries,
    tone_mapped,
)
from pvsc_link.media.pixels import MATRICES, decoded_source_to_rgb, frame_of_planes
from pvsc_link.types import InputError

TAGS = {"bt709": 1, "bt601": 6, "bt2020": 9}
BT2020 = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), (0.3127, 0.3290))
SAMPLING = {"yuv420p": (2, 2), "yuv422p": (1, 2), "yuv444p": (1, 1)}


def patches(seed=3):
    """Flat patches of 8x8 in random colours, white and black among them."""
    colours = np.random.default_rng(seed).integers(0, 256, (4, 6, 3))
    colours[0, :2] = [[255], [0]]
    return np.kron(colours, np.ones((8, 8, 1), int)).astype(np.uint8)


def encoded(rgb, sampling, bits, matrix, full):
    """A frame of ``rgb`` by the formulas of ITU-T H.273, 8.3, independent of the package."""
    weight_r, weight_b = MATRICES[matrix]
    red, green, blue = np.moveaxis(rgb / 255, -1, 0)
    luma = weight_r * red + (1 - weight_r - weight_b) * green + weight_b * blue
    cb, cr = (blue - luma) / (2 - 2 * weight_b), (red - luma) / (2 - 2 * weight_r)
    unit, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        codes = [top * luma, top * cb + 2 ** (bits - 1), top * cr + 2 ** (bits - 1)]
    else:
        codes = [unit * (16 + 219 * luma), *(unit * (128 + 224 * c) for c in (cb, cr))]
    down, across = SAMPLING[sampling]
    kind = np.uint8 if bits == 8 else np.dtype("<u2")
    planes = [np.clip(np.rint(code), 0, top).astype(kind) for code in codes]
    planes[1:] = [np.ascontiguousarray(plane[::down, ::across]) for plane in planes[1:]]
    frame = frame_of_planes(planes, sampling if bits == 8 else f"{sampling}{bits}le")
    frame.color_range, frame.colorspace = 2 if full else 1, TAGS[matrix]
    return frame


@pytest.mark.parametrize(
    ("sampling", "bits", "matrix", "full"),
    list(product(SAMPLING, (8, 10, 12), TAGS, (False, True))),
)
def test_one_picture_is_the_same_in_every_encoding(sampling, bits, matrix, full):
    """What is left is the rounding of the encoding itself: less than 2 levels at 8 bits.

    8-bit 4:2:0 of BT.709 in limited range goes through swscale, which adds a level.
    """
    rgb = patches()
    shown = decoded_source_to_rgb(encoded(rgb, sampling, bits, matrix, full))
    by_swscale = (sampling, bits, matrix, full) == ("yuv420p", 8, "bt709", False)
    most = 3 if by_swscale else 2 if bits == 8 else 1
    assert np.abs(shown.astype(int) - rgb).max() <= most
    assert (shown[:8, :8] == 255).all()
    assert (shown[:8, 8:16] == 0).all()


def test_a_key_counts_in_place_of_the_tags():
    frame = encoded(patches(), "yuv444p", 10, "bt601", True)
    right = decoded_source_to_rgb(frame)
    frame.colorspace, frame.color_range = 1, 1
    assert np.abs(decoded_source_to_rgb(frame).astype(int) - right).max() > 10
    stated = decoded_source_to_rgb(frame, matrix="bt601", sample_range="full")
    assert np.array_equal(stated, right)


@pytest.mark.parametrize("tag", [1, 2, 6])
@pytest.mark.parametrize("tagged_range", [0, 1, 2])
def test_8_bit_420_by_bt709_keeps_the_bytes_of_published_results(tag, tagged_range):
    frame = encoded(patches(), "yuv420p", 8, "bt709", False)
    as_before = frame.reformat(format="rgb24", src_colorspace=1).to_ndarray()
    frame.colorspace, frame.color_range = tag, tagged_range
    stated = {"matrix": "bt709" if tag == 6 else None}
    stated["sample_range"] = "limited" if tagged_range == 2 else None
    assert np.array_equal(decoded_source_to_rgb(frame, **stated), as_before)


@pytest.mark.parametrize("layout", ["nv12", "yuyv422", "p010le", "y210le"])
def test_the_layout_of_the_samples_does_not_matter(layout):
    planar = {"nv12": "yuv420p", "yuyv422": "yuv422p", "p010le": "yuv420p10le"}
    name = planar.get(layout, "yuv422p10le")
    sampling, bits = name[:7], 10 if "10" in name else 8
    frame = encoded(patches(), sampling, bits, "bt601", False)
    packed = frame.reformat(format=layout)
    packed.colorspace, packed.color_range = 6, 1
    assert np.array_equal(decoded_source_to_rgb(packed), decoded_source_to_rgb(frame))


@pytest.mark.parametrize("size", [(33, 17), (5, 7), (1, 3)])
def test_odd_sizes_keep_every_row_and_column(size):
    height, width = size
    luma = np.arange(height * width, dtype="<u2").reshape(size) + 64
    chroma = np.full((-(-height // 2), -(-width // 2)), 512, "<u2")
    grey = decoded_source_to_rgb(frame_of_planes([luma, chroma, chroma], "yuv420p10le"))
    assert np.abs(grey[..., 1] - (luma - 64.0) * 255 / 876).max() < 0.501


def test_grey_is_full_range_unless_it_is_tagged():
    luma = np.arange(256, dtype=np.uint8).reshape(16, 16)
    frame = frame_of_planes([luma], "gray")
    assert np.array_equal(decoded_source_to_rgb(frame)[..., 0], luma)
    frame.color_range = 1
    assert decoded_source_to_rgb(frame).ravel()[[16 * 3, 235 * 3]].tolist() == [0, 255]


def test_samples_above_the_stated_depth_are_refused():
    planes = [np.full((4, 4), 940 << 6, "<u2")] * 3
    with pytest.raises(InputError, match="MSB-aligned"):
        decoded_source_to_rgb(frame_of_planes(planes, "yuv444p10le"))


@pytest.mark.parametrize("tag", [8, 10, 14])
def test_a_matrix_that_has_no_inverse_here_is_refused(tag):
    frame = encoded(patches(), "yuv444p", 8, "bt709", False)
    frame.colorspace = tag
    with pytest.raises(InputError, match=f"code point {tag}"):
        decoded_source_to_rgb(frame)
    assert decoded_source_to_rgb(frame, matrix="bt709").shape == (32, 48, 3)


def grey(level, bits=10, trc=16):
    frame = frame_of_planes([np.full((4, 4), c, "<u2") for c in (level, 512, 512)], "yuv444p10le")
    frame.color_trc, frame.color_primaries, frame.colorspace, frame.color_range = trc, 9, 9, 1
    return frame


@pytest.mark.parametrize(("trc", "name"), [(16, "PQ"), (18, "HLG"), (8, "linear"), (9, "logar")])
def test_hdr_is_refused_unless_it_is_asked_for(trc, name):
    with pytest.raises(InputError, match=name):
        shown_rgb(grey(600, trc=trc), ColourOptions())


def test_tone_mapping_keeps_what_lies_below_the_knee_and_rolls_off_above():
    signal = linear_to_pq(np.array([0, 10, 50, 90, 150, REFERENCE_WHITE, 600, PEAK, 9000.0]))
    light = pq_to_linear(signal)
    shown = tone_mapped(np.repeat(light[:, None], 3, axis=1), BT2020).astype(int)
    assert np.ptp(shown, axis=1).max() == 0, "grey stays grey"
    plain = 255 * (light / REFERENCE_WHITE) ** (1 / 2.4)
    assert np.abs(shown[:4, 0] - plain[:4]).max() <= 1
    assert (np.diff(shown[:8, 0]) > 0).all()
    assert shown[5, 0] == pytest.approx(230, abs=1)
    assert shown[7, 0] == shown[8, 0] == 255


def test_the_transfer_functions_have_the_values_of_bt2100():
    assert pq_to_linear(np.array([0.0, 0.5, 1.0])) == pytest.approx([0, 92.2457, 10000], rel=1e-4)
    assert linear_to_pq(203.0) == pytest.approx(0.5807, abs=1e-4)
    # Reference white of HLG is 75 % (BT.2408) and peak white is 100 %.
    assert hlg_to_linear(np.full(3, 0.75)) == pytest.approx([203.15] * 3, abs=0.1)
    assert hlg_to_linear(np.ones(3)) == pytest.approx([1000.0] * 3, rel=1e-4)


def test_hdr_that_is_asked_for_is_mapped_and_noted():
    options = ColourOptions(hdr="tone_map")
    assert set(shown_rgb(grey(64 + round(876 * 0.5807)), options).ravel()) <= {229, 230, 231}
    assert any("tone-mapped" in note for note in colour_notes(grey(500), options))


def test_bt2020_primaries_become_bt709():
    """BT.2087, Table 1: the matrix from BT.2020 to BT.709 in linear light."""
    published = [
        [1.6605, -0.5876, -0.0728],
        [-0.1246, 1.1329, -0.0083],
        [-0.0182, -0.1006, 1.1187],
    ]
    assert np.abs(to_bt709_primaries(np.eye(3), BT2020).T - published).max() < 2e-4
    frame = encoded(patches(), "yuv444p", 8, "bt2020", False)
    frame.color_primaries = 9
    shown = shown_rgb(frame, ColourOptions())
    assert (shown[:8, :8] == 255).all()
    assert np.abs(shown.astype(int) - patches()).max() > 10
    assert any("BT.2020 converted" in note for note in colour_notes(frame, ColourOptions()))


def test_transparent_pictures_are_refused_and_opaque_ones_noted():
    rgba = np.full((4, 4, 4), 255, np.uint8)
    frame = av.VideoFrame.from_ndarray(rgba, format="rgba")
    assert (shown_rgb(frame, ColourOptions()) == 255).all()
    assert any("opaque" in note for note in colour_notes(frame, ColourOptions()))
    rgba[0, 0, 3] = 100
    with pytest.raises(InputError, match="transparent"):
        shown_rgb(av.VideoFrame.from_ndarray(rgba, format="rgba"), ColourOptions())


@pytest.mark.parametrize("wrong", [{"matrix": "bt7O9"}, {"sample_range": "tv"}, {"hdr": "yes"}])
def test_a_wrong_key_names_what_is_allowed(wrong):
    with pytest.raises(InputError, match="allowed"):
        ColourOptions(**wrong)
