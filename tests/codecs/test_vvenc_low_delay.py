"""VVenC: low delay P in 4:2:0, repeatable, reconstructed exactly, failures with a status."""

import hashlib
import re
import stat

import numpy as np
import pytest

from pvsc_link.codecs import vvenc
from pvsc_link.codecs.base import CodecFailure
from pvsc_link.codecs.libav import decode_frames, nal_units
from pvsc_link.codecs.vvenc import VVenC
from pvsc_link.media.clips import load_clip
from pvsc_link.media.pixels import planes_of_frame
from pvsc_link.types import InputError


@pytest.fixture(scope="module", autouse=True)
def binary():
    try:
        VVenC().check()
    except CodecFailure as failure:
        pytest.skip(failure.detail)


@pytest.fixture(scope="module")
def clip():
    return load_clip("carphone", 0, 4)


@pytest.fixture(scope="module")
def gop(clip):
    return VVenC(preset="faster").encode(clip.frames, clip.fps, 37)


def psnr(frames, frames_hat):
    error = ((frames.astype(float) - frames_hat) ** 2).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


def test_the_same_gop_gives_the_same_bytes(gop, clip):
    again = VVenC(preset="faster").encode(clip.frames, clip.fps, 37)
    assert again.payload == gop.payload
    assert again.frame_num_bytes == gop.frame_num_bytes


def test_a_gop_is_one_idr_and_trailing_frames_without_delimiters(gop, clip):
    types = [nal[1] >> 3 for _, nal in nal_units(gop.payload)]
    idr, trail, delimiter = {7, 8}, 0, 20
    assert types.count(trail) == len(clip.frames) - 1
    assert sum(kind in idr for kind in types) == 1
    assert delimiter not in types
    assert sum(gop.frame_num_bytes) == len(gop.payload)
    assert gop.frame_num_bytes[0] > max(gop.frame_num_bytes[1:])


def test_streams_are_10_bit_420_and_labelled(gop):
    frames = decode_frames(gop.payload, gop.frame_num_bytes, "vvc")
    assert {frame.format.name for frame in frames} == {"yuv420p10le"}
    assert VVenC().variant == "VVenC, 4:2:0"
    assert VVenC(preset="slower").variant == "VVenC, 4:2:0, slower"
    assert "libvvenc 1." in gop.version


def test_frames_after_the_first_are_p_frames(clip, monkeypatch):
    monkeypatch.setattr(vvenc, "_PARAMS", vvenc._PARAMS + ":verbosity=5")
    logs = []
    run = vvenc._run
    monkeypatch.setattr(vvenc, "_run", lambda *args: logs.append(run(*args)) or logs[-1])
    VVenC(preset="faster").encode(clip.frames, clip.fps, 32)
    found = re.findall(r"POC +\d+ .*?([IPB])-SLICE, QP (\d+)", logs[0][1])
    assert [kind for kind, _ in found] == ["I", "P", "P", "P"]
    assert [int(qp) for _, qp in found[1:]] == [40, 39, 40]  # those of VTM's low-delay P


def test_the_decoder_reproduces_the_reconstruction_of_the_encoder(clip, monkeypatch):
    monkeypatch.setattr(vvenc, "_PARAMS", vvenc._PARAMS + ":seidecodedpicturehash=1")
    gop = VVenC(preset="faster").encode(clip.frames, clip.fps, 37)
    written = []
    for _, nal in nal_units(gop.payload):
        body = re.sub(rb"\x00\x00\x03", b"\x00\x00", nal)
        if nal[1] >> 3 == 24 and body[2] == 132:
            written.append([body[6 + 16 * plane : 22 + 16 * plane] for plane in range(3)])
    decoded = decode_frames(gop.payload, gop.frame_num_bytes, "vvc")
    assert len(written) == len(decoded)
    for digests, frame in zip(written, decoded, strict=True):
        planes = planes_of_frame(frame)
        assert [hashlib.md5(plane.astype("<u2").tobytes()).digest() for plane in planes] == digests


def test_a_coarser_qp_costs_fewer_bits_and_quality(gop, clip):
    fine = VVenC(preset="faster").encode(clip.frames, clip.fps, 27)
    assert len(gop.payload) < 0.5 * len(fine.payload)
    assert psnr(clip.frames, gop.frames_hat) < psnr(clip.frames, fine.frames_hat) - 3


@pytest.mark.parametrize("size", [(15, 17), (33, 65), (1, 1)])
def test_odd_and_tiny_frames_come_back_in_their_size(size, clip):
    frames = np.ascontiguousarray(clip.frames[:2, : size[0], : size[1]])
    gop = VVenC(preset="faster").encode(frames, 25.0, 27)
    assert gop.frames_hat.shape == frames.shape
    assert psnr(frames, gop.frames_hat) > 28


def test_options_are_checked_before_any_work(clip):
    with pytest.raises(InputError, match="'slower'"):
        VVenC(preset="sloweer")
    with pytest.raises(InputError, match="0 to 63"):
        VVenC().encode(clip.frames, clip.fps, 64)


def fake_ffmpeg(tmp_path, monkeypatch, body):
    """A ffmpeg that says it has libvvenc and then runs ``body``."""
    script = tmp_path / "ffmpeg"
    script.write_text(
        "#!/bin/sh\n"
        'case "$*" in *-version*) echo "ffmpeg version fake"; exit 0;; '
        '*-encoders*) echo " V..... libvvenc H.266"; exit 0;; esac\n' + body
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(script))


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        ("cat >/dev/null; echo out of luck >&2; exit 3\n", "codec_error", "out of luck"),
        ("kill -SEGV $$\n", "codec_error", "exit status -11"),
        ("exec sleep 30\n", "codec_timeout", "killed after"),
        ("cat >/dev/null; exit 0\n", "codec_error", "0 of 4 frames"),
    ],
)
def test_a_crash_or_time_out_is_a_status(body, status, detail, tmp_path, monkeypatch, clip):
    fake_ffmpeg(tmp_path, monkeypatch, body)
    with pytest.raises(CodecFailure, match=detail) as failure:
        VVenC(timeout_s=2.0).encode(clip.frames, clip.fps, 32)
    assert failure.value.status == status


def test_a_missing_ffmpeg_is_a_missing_binary(tmp_path, monkeypatch):
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "absent"))
    for codec in (VVenC(), VVenC(binary=str(tmp_path / "elsewhere"))):
        with pytest.raises(CodecFailure) as failure:
            codec.check()
        assert failure.value.status == "missing_binary"


def test_a_ffmpeg_without_libvvenc_is_a_missing_binary(tmp_path, monkeypatch):
    fake_ffmpeg(tmp_path, monkeypatch, "")
    script = tmp_path / "ffmpeg"
    script.write_text(script.read_text().replace("libvvenc", "libx264"))
    with pytest.raises(CodecFailure, match="IMAGEIO_FFMPEG_EXE"):
        VVenC().check()
