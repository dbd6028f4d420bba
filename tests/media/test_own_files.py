"""Files as people bring them: turned, trimmed, with a cover, cut, and with odd names."""

import os
import subprocess
from fractions import Fraction
from itertools import product

import av
import imageio_ffmpeg
import numpy as np
import pytest

from pvsc_link.media.clips import load_clip
from pvsc_link.media.container import missing_bytes
from pvsc_link.media.reader import read_video, stream_video
from pvsc_link.types import InputError


def ffmpeg(*words):
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-y", *map(str, words)]
    return subprocess.run(command, check=True, capture_output=True).stdout


def shown_by_ffmpeg(path, height, width):
    """Frames as ffmpeg's own program shows them: turned, trimmed, none repeated."""
    raw = ffmpeg(
        *("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo"), "-pix_fmt", "rgb24", "-"
    )
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


@pytest.fixture(scope="module")
def frames():
    """Thirty frames of 96x64, of which each is another."""
    clip = load_clip("carphone", 0, 30).frames[:, 40:104, 40:136].copy()
    clip[:, :16, :16] = np.arange(30, dtype=np.uint8)[:, None, None, None] * 8
    return clip


@pytest.fixture(scope="module")
def phone(frames, tmp_path_factory):
    """H.264 with B frames and a key frame every twelve."""
    path = tmp_path_factory.mktemp("media") / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 64, 96, "yuv420p"
        stream.options = {"g": "12", "keyint_min": "12", "bf": "2", "qp": "20"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("turn", "mirror"), list(product((0, 90, 180, 270), ((), ("-display_hflip",))))
)
def test_turned_and_mirrored_video_stands_as_ffmpeg_shows_it(turn, mirror, phone, tmp_path):
    path = tmp_path / "turned.mp4"
    ffmpeg("-display_rotation", turn, *mirror, "-i", phone, "-c", "copy", "-frames:v", 2, path)
    video = read_video(path)
    expected = shown_by_ffmpeg(path, *video.frames.shape[1:3])
    assert video.frames.shape[1:3] == ((96, 64) if turn % 180 else (64, 96))
    # ffmpeg's program converts by BT.601 here: the place of the pixels counts, not their colour.
    assert np.abs(video.frames.astype(int) - expected).mean() < 12
    assert any("turned" in note for note in video.notes) == bool(turn or mirror)


@pytest.mark.parametrize(("start", "seconds"), [(0.2, 0.4), (0.52, 0.4), (0.73, 0.3)])
def test_a_trimmed_video_gives_the_frames_that_a_player_shows(start, seconds, phone, tmp_path):
    path = tmp_path / "trimmed.mp4"
    ffmpeg("-ss", start, "-i", phone, "-t", seconds, "-c", "copy", path)
    video, whole = read_video(path), read_video(phone).frames
    assert len(video.frames) == len(shown_by_ffmpeg(path, 64, 96))
    first = next(i for i in range(30) if np.array_equal(whole[i], video.frames[0]))
    assert first == np.ceil(start * 25)
    assert stream_video(path).num_frames == len(video.frames)
    assert any("edit list" in note for note in video.notes)


def test_a_cover_is_not_the_video(phone, tmp_path):
    jpeg, path = tmp_path / "cover.jpg", tmp_path / "covered.mp4"
    ffmpeg("-i", phone, "-frames:v", 1, "-vf", "scale=32:32", jpeg)
    mapped = ("-map", 0, "-map", 1, "-c", "copy", "-disposition:v:0", "attached_pic")
    ffmpeg("-i", jpeg, "-i", phone, *mapped, path)
    video = read_video(path)
    assert video.frames.shape == (30, 64, 96, 3)
    assert any("left out" in note for note in video.notes)


@pytest.mark.parametrize("suffix", ["mp3", "m4a", "flac"])
def test_a_song_with_a_cover_is_no_video(suffix, phone, tmp_path):
    jpeg, path = tmp_path / "cover.jpg", tmp_path / f"song.{suffix}"
    ffmpeg("-i", phone, "-frames:v", 1, "-vf", "scale=32:32", jpeg)
    sine = ("-f", "lavfi", "-i", "sine=d=0.3", "-i", jpeg)
    ffmpeg(*sine, *("-map", 0, "-map", 1, "-c:v", "copy", "-disposition:v", "attached_pic"), path)
    with pytest.raises(InputError, match="only a cover"):
        read_video(path)


def append_all(source, to):
    """As ``list.extend``, which keeps nothing if the source raises."""
    for frame in source:
        to.append(frame)


CUT = {
    "faststart.mp4": ("-c", "copy", "-movflags", "+faststart"),
    "fragments.mp4": ("-c", "copy", "-movflags", "frag_keyframe+empty_moov"),
    "clip.mkv": ("-c", "copy"),
    "clip.webm": ("-c:v", "libvpx-vp9", "-b:v", "200k", "-cpu-used", "8"),
    "clip.avi": ("-c:v", "mpeg4"),
    "clip.flv": ("-c", "copy"),
    "clip.ts": ("-c", "copy"),
    "clip.ogv": ("-c:v", "libtheora"),
    "clip.y4m": (),
}


@pytest.mark.parametrize("name", CUT)
def test_a_cut_file_gives_its_whole_frames_and_then_says_so(name, phone, tmp_path):
    path = tmp_path / name
    ffmpeg("-i", phone, *CUT[name], path)
    whole = read_video(path).frames
    assert missing_bytes(path) is None
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * 0.83) - 1])
    got: list[np.ndarray] = []
    with pytest.raises(InputError):
        append_all(stream_video(path).frames, got)
    assert len(whole) > len(got) >= 8
    assert np.array_equal(got, whole[: len(got)])
    with pytest.raises(InputError):
        read_video(path)
    assert len(read_video(path, num_frames=4).frames) == 4


def test_what_is_unusual_of_a_video_is_noted(phone, tmp_path):
    path = tmp_path / "odd.mp4"
    words = ("-vf", "setsar=16/11,setfield=tff", "-c:v", "libx264", "-flags", "+ildct+ilme")
    ffmpeg("-i", phone, *words, path)
    notes = " ".join(read_video(path).notes)
    assert "16:11" in notes
    assert "interlaced" in notes
    assert "bt709 (no tag)" in notes
    assert "limited range (no tag)" in notes
    assert not any("variable" in note for note in read_video(phone).notes)


def test_a_variable_frame_rate_keeps_every_frame_and_is_noted(phone, tmp_path):
    path = tmp_path / "slow.mp4"
    ffmpeg("-i", phone, "-vf", "setpts='if(gt(N,9),N*3,N)/25/TB'", "-fps_mode", "vfr", path)
    video = read_video(path)
    assert len(video.frames) == 30
    assert any("variable" in note for note in video.notes)


def test_a_size_that_changes_is_refused(phone, tmp_path):
    small, both = tmp_path / "small.h264", tmp_path / "both.h264"
    ffmpeg("-i", phone, "-c", "copy", both)
    ffmpeg("-i", phone, "-vf", "scale=48:32", "-c:v", "libx264", small)
    both.write_bytes(both.read_bytes() + small.read_bytes())
    with pytest.raises(InputError, match=r"48x32 at frame 30.*96x64"):
        read_video(both)


@pytest.mark.parametrize("name", ["~nosuchuser/x.mp4", "a" * 5000, "nul\0byte", "missing.mp4"])
def test_a_path_that_is_none_is_an_input_error(name):
    with pytest.raises(InputError, match="existing file"):
        read_video(name)
    with pytest.raises(InputError):
        load_clip(name)


def test_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        read_video(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("name", ["takes[/final] [x].mp4", "http:/127.0.0.1:1/x.mp4", "a%03d.mp4"])
def test_a_name_is_only_a_name(name, phone, tmp_path, monkeypatch):
    """No pattern, no protocol: the file of this name is opened, and nothing else."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(phone.read_bytes())
    assert len(read_video(name).frames) == 30
