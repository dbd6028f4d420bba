"""Every kind of source gives the same pictures, and a bad one says what is wrong."""

import hashlib
import json
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pvsc_link.media.clips import embedded_path, load_clip
from pvsc_link.media.pixels import rgb_to_yuv444
from pvsc_link.media.reader import read_video, write_raw_yuv444
from pvsc_link.types import InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def bikes():
    return load_clip("bikes", 0, 3)


def yuv420p_bytes(path, num_frames):
    """The decoder's own planes of a clip, as a raw file holds them."""
    with av.open(str(path)) as container:
        frames = [next(container.decode(video=0)) for _ in range(num_frames)]
        return b"".join(frame.to_ndarray().tobytes() for frame in frames)


def write_container(path, frames, codec, pixel_format="yuv420p"):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(25))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixel_format
        for rgb in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(rgb, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "width", "height", "fps"),
    [("bikes", 640, 272, 25.0), ("carphone", 176, 144, 30000 / 1001)],
)
def test_embedded_clips_have_their_known_size_and_rate(name, width, height, fps):
    video = load_clip(name, 0, 2)
    assert video.frames.shape == (2, height, width, 3)
    assert video.frames.dtype == np.uint8
    assert video.name == name
    assert video.fps == pytest.approx(fps)


@pytest.mark.parametrize("name", ["basketballpass", "parkour", "tabletennis"])
def test_evaluation_clips_by_bt709_are_the_pictures_that_the_precoded_streams_hold(name):
    """They are tagged BT.601, by which they look otherwise."""
    known = SHARED / "precoded" / "frames_sha256.json"
    if not known.exists():
        pytest.skip("needs ../shared")
    hashes = json.loads(known.read_text())[name]
    (path,) = (SHARED / "eval").glob(f"{name}_*.mkv")
    frames = load_clip(path, 0, len(hashes), matrix="bt709").frames
    assert [hashlib.sha256(frame.tobytes()).hexdigest()[:16] for frame in frames] == hashes
    by_tag = load_clip(path, 0, 1)
    assert any("bt601 (by its tag)" in note for note in by_tag.notes)
    assert np.abs(by_tag.frames[0].astype(int) - frames[0]).max() > 10


@pytest.mark.parametrize("name", ["bikes", "carphone"])
def test_embedded_clips_are_the_pictures_that_the_precoded_streams_hold(name):
    known = SHARED / "precoded" / "frames_sha256.json"
    if not known.exists():
        pytest.skip("needs ../shared")
    hashes = json.loads(known.read_text())[name]
    frames = load_clip(name, 0, len(hashes)).frames
    assert [hashlib.sha256(frame.tobytes()).hexdigest()[:16] for frame in frames] == hashes


def test_the_carried_clip_is_a_small_file_with_its_attribution():
    path = embedded_path("bunny")
    content = path.read_bytes()
    digest = "8a4626c24a2d9777f4084fef968e6a75159c1c7c013ba52353bd364efbf587e7"
    assert hashlib.sha256(content).hexdigest() == digest
    assert len(content) < 1_000_000
    said = path.with_suffix(".txt").read_text()
    assert "(c) copyright 2008, Blender Foundation / www.bigbuckbunny.org" in said
    assert "https://creativecommons.org/licenses/by/3.0/" in said


def test_the_carried_clip_moves_in_every_frame():
    video = load_clip("bunny")
    assert video.frames.shape == (48, 240, 416, 3)
    assert video.fps == 24
    moved = np.abs(np.diff(video.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
    assert moved.min() > 1.0, "no frame repeats the one before"


def test_a_later_start_gives_the_same_frames(bikes):
    later = load_clip("bikes", 1, 2)
    assert np.array_equal(later.frames, bikes.frames[1:])
    assert later.first_frame == 1


def test_the_whole_clip_is_read_when_no_number_is_given():
    assert len(load_clip("carphone").frames) == 120


def test_raw_yuv420_gives_the_pictures_of_the_container(bikes, tmp_path):
    raw = tmp_path / "bikes.yuv"
    raw.write_bytes(yuv420p_bytes(embedded_path("bikes"), 3))
    video = read_video(raw, first_frame=1, size=(640, 272), pixel_format="yuv420p", fps=25)
    assert np.array_equal(video.frames, bikes.frames[1:])


def test_raw_yuv420_at_10_bits_is_the_8_bit_picture_within_a_level(bikes, tmp_path):
    eight = np.frombuffer(yuv420p_bytes(embedded_path("bikes"), 1), np.uint8)
    raw = tmp_path / "bikes10.yuv"
    raw.write_bytes((eight.astype("<u2") * 4).tobytes())
    video = read_video(raw, size=(640, 272), pixel_format="yuv420p10le")
    smooth = np.abs(video.frames[0].astype(int) - bikes.frames[0]).mean()
    assert smooth < 1.5


def test_raw_yuv444_at_10_bits_is_lossless(bikes, tmp_path):
    raw = tmp_path / "bikes444.yuv"
    write_raw_yuv444(raw, rgb_to_yuv444(bikes.frames))
    video = read_video(raw, first_frame=1, size=(640, 272), pixel_format="yuv444p10le")
    assert np.array_equal(video.frames, bikes.frames[1:])


def test_png_folders_are_read_in_the_order_of_their_numbers(bikes, tmp_path):
    for number, frame in zip((2, 10, 1), bikes.frames[[1, 2, 0]], strict=True):
        Image.fromarray(frame).save(tmp_path / f"im{number}.png")
    assert np.array_equal(read_video(tmp_path).frames, bikes.frames)
    assert np.array_equal(
        read_video(tmp_path, first_frame=1, num_frames=1).frames[0], bikes.frames[1]
    )


@pytest.mark.parametrize(("suffix", "codec"), [(".mkv", "ffv1"), (".y4m", "rawvideo")])
def test_lossless_containers_give_equal_pictures(suffix, codec, bikes, tmp_path):
    path = write_container(tmp_path / f"clip{suffix}", bikes.frames, codec)
    video = read_video(path)
    assert video.fps == 25
    assert video.frames.shape == bikes.frames.shape
    assert np.abs(video.frames.astype(int) - bikes.frames).mean() < 12  # written as BT.601
    again = read_video(path, first_frame=2, num_frames=1)
    assert np.array_equal(again.frames[0], video.frames[2])


@pytest.mark.parametrize(("tag", "grey"), [("tv", 0), ("pc", 16)])
def test_a_file_is_read_in_the_range_that_it_says(tag, grey, tmp_path):
    """Code 16 is black in limited range and a dark grey in full range."""
    path = tmp_path / f"{tag}.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 16, 16, "yuv420p"
        stream.codec_context.color_range = {"tv": 1, "pc": 2}[tag]
        frame = av.VideoFrame(16, 16, "yuv420p")
        for plane, code in zip(frame.planes, (16, 128, 128), strict=True):
            plane.update(bytes([code]) * plane.buffer_size)
        frame.color_range = stream.codec_context.color_range
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    assert set(read_video(path).frames.ravel().tolist()) == {grey}


def test_odd_sizes_of_a_container_are_kept(bikes, tmp_path):
    path = write_container(
        tmp_path / "odd.mkv", bikes.frames[:, :61, :33].copy(), "ffv1", "yuv420p"
    )
    assert read_video(path).frames.shape == (3, 61, 33, 3)


def test_an_unknown_name_is_answered_with_the_nearest():
    with pytest.raises(InputError, match="'bikes'"):
        load_clip("bike")
    with pytest.raises(InputError, match="'BasketballPass'"):
        load_clip("Basketbalpass")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.mp4"):
        read_video(tmp_path / "nothing.mp4")


def test_fewer_frames_than_asked_is_an_error_with_both_numbers():
    with pytest.raises(InputError, match=r"2 frames from frame 118.*at least 4"):
        load_clip("carphone", 118, 4)


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 50])
def test_an_unreadable_file_is_an_input_error(content, tmp_path):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(InputError, match="complete file"):
        read_video(path)


def test_a_file_without_pictures_is_an_input_error(tmp_path):
    path = tmp_path / "sound.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        silence.sample_rate = 8000
        container.mux(stream.encode(silence))
        container.mux(stream.encode(None))
    with pytest.raises(InputError, match="no video stream"):
        read_video(path)


def test_a_truncated_mp4_is_an_input_error(tmp_path):
    whole = embedded_path("carphone").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="complete file"):
        read_video(cut)


def test_a_truncated_mkv_does_not_deliver_fewer_frames_silently(bikes, tmp_path):
    path = write_container(tmp_path / "whole.mkv", bikes.frames, "ffv1")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.8)])
    with pytest.raises(InputError):
        read_video(path, num_frames=3)


@pytest.mark.parametrize("size", [None, (640, 271), (0, 272), (640,)])
def test_a_raw_file_needs_an_even_size(size, tmp_path):
    raw = tmp_path / "clip.yuv"
    raw.write_bytes(bytes(640 * 272 * 3 // 2))
    with pytest.raises(InputError, match="size=\\(width, height\\)"):
        read_video(raw, size=size)


def test_a_raw_file_of_a_part_of_a_frame_is_truncated(tmp_path):
    raw = tmp_path / "clip.yuv"
    raw.write_bytes(bytes(640 * 272 * 3 // 2 + 5))
    with pytest.raises(InputError, match="a multiple of 261120 bytes"):
        read_video(raw, size=(640, 272))


def test_an_unknown_raw_format_lists_the_known(tmp_path):
    raw = tmp_path / "clip.yuv"
    raw.write_bytes(bytes(100))
    with pytest.raises(InputError, match="yuv444p10le"):
        read_video(raw, size=(2, 2), pixel_format="yuv422p")


@pytest.mark.parametrize("request_", [{"first_frame": -1}, {"num_frames": 0}])
def test_impossible_frame_numbers_are_refused(request_):
    with pytest.raises(InputError, match="num_frames >= 1"):
        read_video(embedded_path("bikes"), **request_)


def test_an_empty_folder_has_no_frames(tmp_path):
    with pytest.raises(InputError, match="0 frames"):
        read_video(tmp_path)


def test_a_broken_png_is_named(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"1\.png"):
        read_video(tmp_path)


def test_images_of_two_sizes_are_refused(bikes, tmp_path):
    Image.fromarray(bikes.frames[0]).save(tmp_path / "1.png")
    Image.fromarray(bikes.frames[0][:100]).save(tmp_path / "2.png")
    with pytest.raises(InputError, match="one sequence per folder"):
        read_video(tmp_path)
