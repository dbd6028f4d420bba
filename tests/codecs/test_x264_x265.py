"""x264 and x265: repeatable, per-frame bytes, the encoder's own reconstruction, paper settings."""

import hashlib
import re
from itertools import pairwise

import av
import numpy as np
import pytest

from pvsc_link.codecs import x264_x265 as ffmpeg
from pvsc_link.codecs.base import CodecFailure, run_program
from pvsc_link.codecs.libav import decode_frames, decode_rgb, nal_units
from pvsc_link.codecs.x264_x265 import X264, X265
from pvsc_link.media.clips import load_clip
from pvsc_link.media.pixels import planes_of_frame, rgb_to_yuv444
from pvsc_link.media.reader import write_raw_yuv444
from pvsc_link.types import InputError

I_AND_P = {"x264": {5, 1}, "x265": {20, 1}}  # IDR and P; x265 calls its IDR type 20 (IDR_N_LP)


#: NAL unit type from the first byte after the start code.
NAL_TYPE = {"h264": lambda nal: nal[0] & 31, "hevc": lambda nal: (nal[0] >> 1) & 63}


def nal_types(stream, stream_format):
    return [NAL_TYPE[stream_format](nal) for _, nal in nal_units(stream)]


@pytest.fixture(scope="module")
def clip():
    return load_clip("carphone", 0, 4)


def psnr(frames, frames_hat):
    error = ((frames.astype(float) - frames_hat) ** 2).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / np.maximum(error, 1e-3))))


@pytest.fixture(scope="module", params=[X264, X265])
def coded(request, clip):
    codec = request.param()
    return codec, codec.encode(clip.frames, clip.fps, 32)


def test_the_same_gop_gives_the_same_bytes(coded, clip):
    codec, gop = coded
    again = type(codec)().encode(clip.frames, clip.fps, 32)
    assert again.payload == gop.payload
    assert np.array_equal(again.frames_hat, gop.frames_hat)


def test_narrow_frames_give_the_same_bytes_every_time(clip):
    """x265 with one CTU of 64 columns across the frame gives other bits in some runs."""
    codec = X265()
    for left in (0, 40, 80):
        frames = clip.frames[:2, 40:104, left : left + 64]
        for rate in (22, 27, 32, 37):
            gops = [codec.encode(frames, clip.fps, rate) for _ in range(4)]
            assert len({gop.payload for gop in gops}) == 1, (left, rate)
            assert gops[0].command.endswith(":ctu=32")
    wide = codec.encode(clip.frames[:1, :, :65], clip.fps, 37)
    assert wide.command == codec.describe(37, 1)


def test_frame_bytes_are_access_units_that_sum_to_the_payload(coded, clip):
    codec, gop = coded
    assert len(gop.frame_num_bytes) == len(clip.frames)
    assert sum(gop.frame_num_bytes) == len(gop.payload)
    assert gop.num_bits == 8 * len(gop.payload)
    offsets = np.cumsum((0, *gop.frame_num_bytes))
    pictures = I_AND_P[codec.name]
    for start, end in pairwise(offsets):
        types = nal_types(gop.payload[start:end], codec.stream_format)
        assert sum(kind in pictures for kind in types) == 1


def test_a_gop_is_one_idr_and_p_frames_without_banner(coded, clip):
    codec, gop = coded
    types = nal_types(gop.payload, codec.stream_format)
    idr, p = {"x264": (5, 1), "x265": (20, 1)}[codec.name]
    assert [kind for kind in types if kind in (idr, p)] == [idr, p, p, p]
    assert not {"x264": {6}, "x265": {39, 40}}[codec.name] & set(types)
    slices = [
        f.pict_type for f in decode_frames(gop.payload, gop.frame_num_bytes, codec.stream_format)
    ]
    assert [int(kind) for kind in slices] == [1, 2, 2, 2]


def test_streams_are_10_bit_444(coded):
    codec, gop = coded
    frames = decode_frames(gop.payload, gop.frame_num_bytes, codec.stream_format)
    assert {frame.format.name for frame in frames} == {"yuv444p10le"}


def without_emulation_prevention(nal):
    return re.sub(rb"\x00\x00\x03", b"\x00\x00", nal)


def hevc_picture_md5(payload):
    """MD5 of each plane that the encoder wrote for its own reconstruction (H.265, D.3.19)."""
    for _, nal in nal_units(payload):
        body = without_emulation_prevention(nal)
        if (body[0] >> 1) & 63 == 40 and body[2] == 132 and body[4] == 0:
            yield [body[5 + 16 * plane : 21 + 16 * plane] for plane in range(3)]


def test_the_decoder_reproduces_the_reconstruction_of_x265(clip, monkeypatch):
    plain = X265._options
    monkeypatch.setattr(
        X265,
        "_options",
        lambda self, *args: (
            (o := plain(self, *args)) | {"x265-params": o["x265-params"] + ":hash=1"}
        ),
    )
    gop = X265().encode(clip.frames, clip.fps, 37)
    written = list(hevc_picture_md5(gop.payload))
    decoded = decode_frames(gop.payload, gop.frame_num_bytes, "hevc")
    assert len(written) == len(decoded)
    for digests, frame in zip(written, decoded, strict=True):
        planes = planes_of_frame(frame)
        assert [hashlib.md5(plane.astype("<u2").tobytes()).digest() for plane in planes] == digests


def test_the_decoder_reproduces_the_reconstruction_of_x264(clip, monkeypatch, tmp_path):
    dump, plain = tmp_path / "recon.yuv", X264._options
    monkeypatch.setattr(
        X264,
        "_options",
        lambda self, *args: plain(self, *args) | {"x264-params": f"dump-yuv={dump}"},
    )
    gop = X264().encode(clip.frames, clip.fps, 37)
    written = np.fromfile(dump, "<u2").reshape(4, 3, *clip.frames.shape[1:3])
    decoded = decode_frames(gop.payload, gop.frame_num_bytes, "h264")
    assert np.array_equal(np.stack([planes_of_frame(frame) for frame in decoded]), written)


def test_damage_does_not_change_the_result_of_decoding_twice(coded, clip):
    codec, gop = coded
    size = clip.frames.shape[2], clip.frames.shape[1]
    for _ in range(2):
        frames = decode_rgb(gop.payload, gop.frame_num_bytes, codec.stream_format, size=size)
        assert np.array_equal(frames, gop.frames_hat)


@pytest.mark.parametrize("variant", ["psy", "psy-off"])
@pytest.mark.parametrize("codec", [X264, X265])
def test_the_stated_command_does_the_same_in_a_ffmpeg_program(codec, variant, clip, tmp_path):
    """Byte for byte where the program has the same library versions; its builds may differ."""
    program = pytest.importorskip("imageio_ffmpeg").get_ffmpeg_exe()
    gop = codec(variant=variant).encode(clip.frames, clip.fps, 32)
    write_raw_yuv444(tmp_path / "in.yuv", rgb_to_yuv444(clip.frames))
    source = "-f rawvideo -pix_fmt yuv444p10le -s 176x144 -r 30000/1001 -i in.yuv"
    command = f"{source} {gop.command} -f {codec.stream_format} out.bin"
    run_program([program, *command.split()], timeout_s=120, cwd=tmp_path)
    stream = (tmp_path / "out.bin").read_bytes()
    assert abs(len(stream) - len(gop.payload)) < 0.03 * len(stream)


@pytest.mark.parametrize("codec", [X264, X265])
def test_a_coarser_qp_costs_fewer_bits_and_quality(codec, clip):
    fine, coarse = (codec().encode(clip.frames, clip.fps, qp) for qp in (27, 37))
    assert len(coarse.payload) < 0.5 * len(fine.payload)
    assert psnr(clip.frames, coarse.frames_hat) < psnr(clip.frames, fine.frames_hat) - 3


def test_x264_and_x265_mean_the_same_by_a_qp(clip):
    gops = [codec(variant="psy-off").encode(clip.frames, clip.fps, 32) for codec in (X264, X265)]
    quality = [psnr(clip.frames, gop.frames_hat) for gop in gops]
    assert abs(quality[0] - quality[1]) < 1.5  # unshifted, 12 steps of QP would be some 7 dB


@pytest.mark.parametrize("codec", [X264, X265])
def test_psy_off_gains_psnr_at_equal_qp(codec, clip):
    gain = [
        psnr(clip.frames, codec(variant=variant).encode(clip.frames, clip.fps, 32).frames_hat)
        for variant in ("psy-off", "psy")
    ]
    assert gain[0] > gain[1] + 0.2


@pytest.mark.parametrize("size", [(15, 17), (8, 8), (33, 65), (1, 1)])
@pytest.mark.parametrize("codec", [X264, X265])
def test_odd_and_tiny_frames_come_back_in_their_size(codec, size, clip):
    frames = np.ascontiguousarray(clip.frames[:2, : size[0], : size[1]])
    gop = codec().encode(frames, 25.0, 27)
    assert gop.frames_hat.shape == frames.shape
    assert psnr(frames, gop.frames_hat) > 28


@pytest.mark.parametrize("num_frames", [1, 2])
@pytest.mark.parametrize("codec", [X264, X265])
def test_a_gop_may_be_shorter_than_usual(codec, num_frames, clip):
    gop = codec().encode(clip.frames[:num_frames], clip.fps, 37)
    assert len(gop.frame_num_bytes) == num_frames


def test_options_are_written_out_and_variants_differ():
    assert "-qp 44" in X264().describe(32)
    assert "qp=32" in X265().describe(32)
    assert "info=0" in X265().describe(32)
    assert "psy" not in X265().describe(32)
    assert "psy-rd=0" in X265(variant="psy-off").describe(32)
    assert X265().variant == "psy"
    assert X265(variant="psy-off", preset="fast").variant == "psy-off, fast"


@pytest.mark.parametrize(
    ("options", "message"), [({"variant": "psy-of"}, "'psy-off'"), ({"preset": "slwo"}, "slow")]
)
def test_unknown_options_name_the_nearest(options, message):
    with pytest.raises(InputError, match=message):
        X265(**options)


@pytest.mark.parametrize("rate", [-1, 52])
def test_a_qp_out_of_range_is_an_input_error(rate, clip):
    with pytest.raises(InputError, match="0 to 51"):
        X264().encode(clip.frames, clip.fps, rate)


@pytest.mark.parametrize("frames", [np.zeros((4, 8, 8)), np.zeros((0, 8, 8, 3), np.uint8)])
def test_frames_of_another_kind_are_refused(frames):
    with pytest.raises(InputError, match="uint8"):
        X265().encode(frames, 25.0, 32)


def test_a_slow_encoder_is_a_time_out(clip):
    with pytest.raises(CodecFailure) as failure:
        X264(timeout_s=0.0).encode(clip.frames, clip.fps, 32)
    assert failure.value.status == "codec_timeout"


def test_an_encoder_that_refuses_its_options_is_a_codec_error(clip, monkeypatch):
    monkeypatch.setattr(X265, "_options", lambda self, *_: {"preset": "no-such-preset"})
    with pytest.raises(CodecFailure) as failure:
        X265().encode(clip.frames, clip.fps, 32)
    assert failure.value.status == "codec_error"
    assert "libx265" in failure.value.detail


def test_a_build_without_the_encoder_is_a_missing_binary(monkeypatch):
    monkeypatch.setattr(ffmpeg.av, "codecs_available", set(av.codecs_available) - {"libx264"})
    with pytest.raises(CodecFailure) as failure:
        X264().check()
    assert failure.value.status == "missing_binary"


def test_a_stream_that_lost_its_first_frame_is_not_decoded_silently(coded, clip):
    codec, gop = coded
    rest = gop.payload[gop.frame_num_bytes[0] :]
    with pytest.raises(CodecFailure, match=r"frames|decoder"):
        decode_rgb(rest, gop.frame_num_bytes[1:], codec.stream_format, size=(176, 144))
