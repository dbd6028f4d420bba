"""Videos that are written show what they were given, and are whole or absent."""

import av
import numpy as np
import pytest

from pvsc_link.media.clips import load_clip, stream_clip
from pvsc_link.media.reader import read_video
from pvsc_link.media.writer import Mp4Writer


@pytest.mark.parametrize("size", [(144, 176), (77, 99)])
def test_what_is_written_is_read_again(size, tmp_path):
    frames = load_clip("carphone", num_frames=5).frames[:, : size[0], : size[1]]
    with Mp4Writer(tmp_path / "a.mp4", 30000 / 1001) as writer:
        for frame in frames:
            writer.write(frame)
    video = read_video(tmp_path / "a.mp4")
    assert video.fps == pytest.approx(30000 / 1001)
    shown = video.frames[:, : size[0], : size[1]].astype(float)
    assert shown.shape == frames.shape
    psnr = 10 * np.log10(255**2 / np.mean((shown - frames) ** 2))
    assert psnr > 34, "4:2:0 takes its share; a wrong matrix would leave 25 dB"
    with av.open(str(tmp_path / "a.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range, context.pix_fmt) == (1, 1, "yuv420p")


def test_a_saturated_colour_keeps_its_hue(tmp_path):
    """BT.601 in place of BT.709 would move pure green by 30 levels."""
    green = np.zeros((4, 64, 64, 3), np.uint8)
    green[..., 1] = 200
    with Mp4Writer(tmp_path / "a.mp4", 25) as writer:
        for frame in green:
            writer.write(frame)
    shown = read_video(tmp_path / "a.mp4").frames.astype(int)
    assert np.abs(shown - green).max() <= 4


def test_an_error_leaves_no_file(tmp_path):
    def breaks_off():
        with Mp4Writer(tmp_path / "a.mp4", 25) as writer:
            writer.write(np.zeros((16, 16, 3), np.uint8))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        breaks_off()
    with Mp4Writer(tmp_path / "b.mp4", 25):
        pass  # no frame is no video
    assert not list(tmp_path.iterdir())


def test_a_stream_gives_the_frames_of_the_clip_one_by_one():
    stream = stream_clip("carphone", first_frame=2)
    whole = load_clip("carphone", first_frame=2, num_frames=3)
    for frame in whole.frames:
        assert (next(stream.frames) == frame).all()
    stream.frames.close()
    assert stream.name == "carphone"
    assert stream.fps == whole.fps
    assert stream.num_frames == 120 - 2
