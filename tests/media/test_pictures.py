"""Folders of pictures: what their samples mean is kept, and what is not read is named."""

import subprocess

import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from pvsc_link.media.reader import read_video
from pvsc_link.types import InputError


@pytest.fixture(scope="module")
def rgb():
    y, x = np.mgrid[0:24, 0:40]
    return np.stack([x * 6, y * 10, 255 - x * 3], axis=-1).astype(np.uint8)


@pytest.fixture
def folder(tmp_path):
    """Saves a picture (a Pillow image or an array) twice; returns their folder."""

    def save(picture, suffix="png", **options):
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        for number in range(2):
            image.save(tmp_path / f"im{number}.{suffix}", **options)
        return tmp_path

    return save


def written_by_ffmpeg(path, samples, from_format, to_format, filters="null"):
    height, width = samples.shape[:2]
    source = ("-f", "rawvideo", "-pix_fmt", from_format, "-s", f"{width}x{height}", "-i", "-")
    words = (*source, "-vf", filters, "-pix_fmt", to_format, str(path))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *words]
    subprocess.run(command, input=samples.tobytes(), check=True)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_is_scaled_to_8(suffix, folder):
    deep = np.linspace(0, 65535, 24 * 40).astype(np.uint16).reshape(24, 40)
    frames = read_video(folder(deep, suffix)).frames
    assert frames.shape == (2, 24, 40, 3)
    assert np.array_equal(frames[1, ..., 2], np.rint(deep / 257))


@pytest.mark.parametrize(
    ("suffix", "layout"), [("png", "rgb48be"), ("png", "rgba64be"), ("tif", "rgb48le")]
)
def test_16_bit_colour_is_rounded_and_not_cut_off(suffix, layout, tmp_path):
    deep = np.random.default_rng(1).integers(0, 65536, (24, 40, 3)).astype("<u2")
    written_by_ffmpeg(tmp_path / f"a.{suffix}", deep, "rgb48le", layout)
    assert np.array_equal(read_video(tmp_path).frames[0], np.rint(deep / 257))


@pytest.mark.parametrize(
    "convert",
    [
        lambda image: image.quantize(16),
        lambda image: image.convert("L"),
        lambda image: image.convert("1"),
        lambda image: image.convert("RGBA"),
        lambda image: image.convert("LA"),
    ],
    ids=["palette", "grey", "bilevel", "opaque alpha", "grey with alpha"],
)
def test_every_8_bit_png_is_what_it_shows(convert, rgb, folder):
    image = convert(Image.fromarray(rgb))
    assert np.array_equal(read_video(folder(image)).frames[0], np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(
    ("suffix", "options"),
    [("tiff", {}), ("bmp", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 95})],
)
def test_other_pictures_are_read_too(suffix, options, rgb, folder):
    video = read_video(folder(rgb, suffix, **options))
    near = 12 if suffix == "jpg" else 0
    assert np.abs(video.frames[1].astype(int) - rgb).max() <= near
    assert any("JPEG" in note for note in video.notes) == (suffix == "jpg")


def test_a_single_picture_is_a_video_of_one_frame(rgb, folder):
    assert np.array_equal(read_video(folder(rgb) / "im1.png").frames, rgb[None])


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pictures_stand_as_their_exif_orientation_says(orientation, rgb, folder):
    exif = Image.Exif()
    exif[0x0112] = orientation
    turns = [
        rgb, rgb[:, ::-1], rgb[::-1, ::-1], rgb[::-1],
        rgb.transpose(1, 0, 2), np.rot90(rgb, -1), rgb.transpose(1, 0, 2)[::-1, ::-1],
        np.rot90(rgb, 1),
    ]  # fmt: skip
    video = read_video(folder(rgb, exif=exif))
    assert np.array_equal(video.frames[0], turns[orientation - 1])
    assert any("EXIF" in note for note in video.notes) == (orientation > 1)


def test_hidden_files_are_passed_over(rgb, folder):
    path = folder(rgb)
    for name in ("._im0.png", ".im1.jpg", ".DS_Store", "Thumbs.db", "notes.txt"):
        (path / name).write_bytes(b"no picture")
    assert len(read_video(path).frames) == 2


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_pictures_are_refused(mode, rgb, folder):
    image = Image.fromarray(rgb).convert(mode)
    options = {"transparency": image.getpixel((3, 3))} if mode == "P" else {}
    if mode != "P":
        image.putalpha(100)
    with pytest.raises(InputError, match="transparent"):
        read_video(folder(image, **options))


@pytest.mark.parametrize(
    ("suffix", "picture"),
    [
        ("tif", lambda rgb: rgb[..., 0].astype(np.int32)),
        ("tif", lambda rgb: rgb[..., 0].astype(np.float32)),
        ("tif", lambda rgb: Image.fromarray(rgb).convert("CMYK")),
        ("jpg", lambda rgb: Image.fromarray(rgb).convert("CMYK")),
        ("tif", lambda rgb: Image.fromarray(rgb).convert("LAB")),
    ],
)
def test_samples_without_a_stated_white_are_refused(suffix, picture, rgb, folder):
    with pytest.raises(InputError, match="mode "):
        read_video(folder(picture(rgb), suffix))


def test_hdr_in_a_png_is_refused_unless_it_is_asked_for(tmp_path):
    deep = np.full((8, 8, 3), 30000, "<u2")
    tags = "setparams=color_trc=smpte2084:color_primaries=bt2020"
    written_by_ffmpeg(tmp_path / "a.png", deep, "rgb48le", "rgb48be", tags)
    with pytest.raises(InputError, match=r"PQ.*HDR"):
        read_video(tmp_path)
    assert any("tone-mapped" in note for note in read_video(tmp_path, hdr="tone_map").notes)


def test_kinds_that_are_not_read_are_named(rgb, folder):
    path = folder(rgb)
    (path / "a.exr").write_bytes(b"v/1\x01")
    with pytest.raises(InputError, match=r"1 EXR, 2 PNG.*PNG, TIFF, BMP, WebP or JPEG"):
        read_video(path)


def test_several_pictures_in_one_file_are_refused(rgb, folder):
    image = Image.fromarray(rgb)
    more = [Image.fromarray(rgb[::-1].copy())]
    with pytest.raises(InputError, match="2 pictures in one file"):
        read_video(folder(image, save_all=True, append_images=more))


@pytest.mark.parametrize("side", [9000, 20000])
def test_a_picture_that_would_fill_the_memory_is_refused_unread(side, folder):
    with pytest.raises(InputError, match="at most 67108864 pixels"):
        read_video(folder(Image.new("1", (side, side))))


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif"])
def test_a_cut_picture_is_named(suffix, rgb, folder):
    path = folder(rgb, suffix) / f"im0.{suffix}"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=rf"im0\.{suffix}"):
        read_video(path.parent)


def test_an_order_by_number_takes_any_digits(rgb, tmp_path):
    for name in ("f²", "f10", "f9"):
        Image.fromarray(np.full_like(rgb, len(name))).save(tmp_path / f"{name}.png")
    assert read_video(tmp_path).frames[:, 0, 0, 0].tolist() in ([2, 2, 3], [2, 3, 2], [3, 2, 2])


@pytest.mark.parametrize("shift", [6, 4])
def test_raw_samples_above_their_depth_are_refused(shift, tmp_path):
    samples = (np.full(16 * 16 * 3 // 2, 940, "<u2") << shift).astype("<u2")
    (tmp_path / "a.yuv").write_bytes(samples.tobytes())
    with pytest.raises(InputError, match=r"0 to 1023.*MSB-aligned"):
        read_video(tmp_path / "a.yuv", size=(16, 16), pixel_format="yuv420p10le")


def test_a_raw_file_takes_its_matrix_from_the_reader(tmp_path):
    (tmp_path / "a.yuv").write_bytes(bytes([113]) * 256 + bytes([93]) * 64 + bytes([175]) * 64)
    by_709 = read_video(tmp_path / "a.yuv", size=(16, 16)).frames
    by_601 = read_video(tmp_path / "a.yuv", size=(16, 16), matrix="bt601").frames
    assert by_601[0, 8, 8].tolist() == [188, 88, 42]
    assert np.abs(by_601.astype(int) - by_709).max() > 4
