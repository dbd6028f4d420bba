"""Streams coded beforehand: found, checked, decoded; real VTM and HM rows from a plain install."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.codecs.libav import access_units
from pvsc_link.codecs.precoded import INDEX_FILE, PACKAGED_STREAMS, Precoded, read_index
from pvsc_link.codecs.registry import CODECS
from pvsc_link.media.clips import load_clip
from pvsc_link.types import CodecFailure, InputError

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(scope="module")
def carphone():
    return load_clip("carphone", 0, 12)


def psnr(frames, frames_hat):
    error = ((frames.astype(float) - frames_hat) ** 2).mean((1, 2, 3))
    return float(np.mean(10 * np.log10(255**2 / error)))


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_every_packaged_stream_is_intact_and_complete(name):
    folder = PACKAGED_STREAMS / name
    entries = read_index(folder)
    for entry in entries:
        payload = (folder / entry.file).read_bytes()
        assert hashlib.sha256(payload).hexdigest() == entry.sha256
        assert sum(entry.frame_bits) == 8 * len(payload)
        assert entry.slice_types == "I" + "P" * (entry.gop - 1)
    grid = {(e.clip, e.gop_index, e.qp) for e in entries if e.gop == 4}
    qps = (22, 27, 32, 37, 42, 47)
    assert grid == {(c, g, q) for c in ("bikes", "carphone") for g in range(3) for q in qps}


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_packaged_streams_decode_to_the_measured_quality(name, carphone):
    """VTM-17.0 on carphone, GOP 4: 38.75, 32.84 and 27.57 dB at QP 22, 32 and 42."""
    codec = CODECS[name]()
    expected = {"vtm": (38.75, 32.84, 27.57), "hm": (38.1, 32.0, 26.6)}[name]
    for qp, quality in zip((22, 32, 42), expected, strict=True):
        gops = [
            codec.encode(
                carphone.frames[k : k + 4], carphone.fps, qp, clip="carphone", first_frame=k
            )
            for k in (0, 4, 8)
        ]
        measured = psnr(carphone.frames, np.concatenate([gop.frames_hat for gop in gops]))
        assert measured == pytest.approx(quality, abs=0.02 if name == "vtm" else 0.5)
        assert {gop.note for gop in gops} == {""}


def test_hm_needs_15_to_35_percent_more_bits_than_vtm_on_both_clips():
    """BD-rate over RGB PSNR of three GOPs of four frames; the literature says some 30 %."""
    for clip in ("bikes", "carphone"):
        frames = load_clip(clip, 0, 12).frames
        curves = {name: rate_curve(CODECS[name](), frames, clip) for name in ("vtm", "hm")}
        assert 15 < bd_rate_percent(curves["vtm"], curves["hm"]) < 35


def rate_curve(codec, frames, clip):
    points = []
    for qp in (22, 27, 32, 37, 42):
        gops = [
            codec.encode(frames[k : k + 4], 25, qp, clip=clip, first_frame=k) for k in (0, 4, 8)
        ]
        quality = psnr(frames, np.concatenate([gop.frames_hat for gop in gops]))
        points.append((quality, np.log10(sum(gop.num_bits for gop in gops))))
    return np.array(sorted(points)).T


def bd_rate_percent(anchor, test):
    """Mean difference of log rate over the common quality range, linear interpolation."""
    quality = np.linspace(max(anchor[0, 0], test[0, 0]), min(anchor[0, -1], test[0, -1]), 500)
    gap = np.interp(quality, *test) - np.interp(quality, *anchor)
    return 100 * (10 ** gap.mean() - 1)


def test_frame_bytes_split_the_payload_into_access_units(carphone):
    gop = CODECS["vtm"]().encode(carphone.frames, 30, 37, clip="carphone", first_frame=0)
    assert len(gop.frame_num_bytes) == 12
    offset = gop.frame_num_bytes[0]
    assert gop.payload[offset:].lstrip(b"\x00")[0] == 1  # a start code
    assert access_units(gop.payload, "vvc") == gop.frame_num_bytes
    assert "-q 37" in gop.command


def test_other_source_pictures_are_said_in_the_note(carphone):
    frames = carphone.frames[:4].copy()
    frames[2, 0, 0, 0] ^= 1
    gop = CODECS["vtm"]().encode(frames, 30, 37, clip="carphone", first_frame=0)
    assert "1 of 4 source frames differ" in gop.note


@pytest.fixture
def folder(tmp_path):
    shutil.copytree(PACKAGED_STREAMS / "vtm", tmp_path / "vtm")
    return tmp_path / "vtm"


def test_a_folder_is_a_codec_with_its_own_rates_and_label(folder, carphone):
    codec = Precoded(index=folder)
    codec.check()
    assert codec.variant == "VTM-17.0"
    assert codec.allowed_rates == [22, 27, 32, 37, 42, 47]
    assert "-q 27" in codec.describe(27)
    gop = codec.encode(carphone.frames[:4], 30, 42, clip="carphone_176x144_30fps", first_frame=0)
    packaged = CODECS["vtm"]().encode(carphone.frames[:4], 30, 42, clip="carphone", first_frame=0)
    assert gop.payload == packaged.payload
    assert "no hashes" in gop.note


@pytest.mark.parametrize("clip", ["carphone", "clips/Carphone_176x144_30fps.mkv"])
def test_a_clip_is_found_by_its_name_or_its_file(clip, folder, carphone):
    gop = Precoded(index=folder).encode(carphone.frames[:4], 30, 32, clip=clip)
    assert gop.payload


@pytest.mark.parametrize(
    "request_", [{"clip": "elsewhere"}, {"first_frame": 2}, {"rate": 30}, {"num_frames": 3}]
)
def test_a_gop_that_the_index_lacks_is_a_missing_stream(request_, folder, carphone):
    wanted = {"clip": "carphone", "first_frame": 0, "rate": 32, "num_frames": 4} | request_
    frames = carphone.frames[: wanted.pop("num_frames")]
    with pytest.raises(CodecFailure, match="it holds") as failure:
        Precoded(index=folder).encode(frames, 30, **wanted)
    assert failure.value.status == "missing_stream"


@pytest.mark.parametrize("damage", [b"", None])
def test_a_damaged_or_absent_file_is_a_codec_error(damage, folder, carphone):
    path = folder / "carphone_gop4" / "qp32_g0.bin"
    if damage is None:
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CodecFailure, match=r"qp32_g0\.bin") as failure:
        Precoded(index=folder).encode(carphone.frames[:4], 30, 32, clip="carphone")
    assert failure.value.status == "codec_error"


def test_files_that_the_index_names_are_looked_for_early(folder):
    (folder / "bikes_gop4" / "qp22_g0.bin").unlink()
    with pytest.raises(InputError, match="1 files absent"):
        Precoded(index=folder).check()


def test_frames_of_another_size_are_refused(folder, carphone):
    small = carphone.frames[:4, :, :100]
    with pytest.raises(CodecFailure, match="176x144, the clip 100x144"):
        Precoded(index=folder).encode(small, 30, 32, clip="carphone")


@pytest.mark.parametrize(
    "edit",
    [
        lambda rows: "not json",
        lambda rows: json.dumps([{**rows[0], "frame_bits": [8]}]),
        lambda rows: json.dumps([{**rows[0], "format": "mpeg2"}]),
        lambda rows: json.dumps([{k: v for k, v in rows[0].items() if k != "sha256"}]),
        lambda rows: json.dumps({"a": 1}),
    ],
)
def test_a_malformed_index_is_an_input_error(edit, folder):
    path = folder / INDEX_FILE
    path.write_text(edit(json.loads(path.read_text())))
    with pytest.raises(InputError, match="index of precoded streams"):
        Precoded(index=folder)


def test_a_folder_without_index_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        Precoded(index=tmp_path)


def test_an_index_of_two_codecs_needs_the_variant(folder):
    path = folder / INDEX_FILE
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([rows[0], {**rows[1], "codec": "other"}]))
    with pytest.raises(InputError, match="State the variant"):
        Precoded(index=folder)
    assert Precoded(index=folder, variant="other").variant == "other"
    with pytest.raises(InputError, match=r"VTM-17\.0"):
        Precoded(index=folder, variant="VTM-17.1")


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_streams_of_evaluation_clips_match_their_pictures(name):
    index = SHARED / "precoded" / name
    if not index.exists():
        pytest.skip("needs ../shared")
    # The file is tagged BT.601; the pictures that were coded are those by BT.709.
    path = SHARED / "eval" / "basketballpass_416x240_50fps.mkv"
    video = load_clip(path, 4, 4, matrix="bt709")
    codec = Precoded(index=index)
    gop = codec.encode(video.frames, video.fps, 32, clip=video.name, first_frame=4)
    assert gop.note == ""
    assert psnr(video.frames, gop.frames_hat) > 30
