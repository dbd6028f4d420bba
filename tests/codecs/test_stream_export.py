"""Export once, decode anywhere: a folder of streams stands for the codec that wrote it."""

import json

import numpy as np
import pytest

from pvsc_link.codecs.__main__ import main
from pvsc_link.codecs.base import CodecFailure
from pvsc_link.codecs.precoded import (
    Precoded,
    export_streams,
    frame_hashes,
    read_hashes,
    read_index,
)
from pvsc_link.codecs.registry import CODECS
from pvsc_link.codecs.x264_x265 import X264, X265
from pvsc_link.media.clips import load_clip
from pvsc_link.types import InputError


def export(folder, *more):
    arguments = "--codec x265 --option preset=ultrafast --clip carphone --num-gops 2 --rates 32 42"
    return main(["export", *arguments.split(), "--folder", str(folder), *more])


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams") / "x265"
    assert export(folder, "--workers", "2") == 0
    return folder


def test_precoded_streams_are_what_the_codec_itself_gives(exported):
    codec, precoded = X265(preset="ultrafast"), Precoded(index=exported)
    precoded.check()
    assert precoded.variant == "x265 (psy, ultrafast)"
    for first in (0, 4):
        video = load_clip("carphone", first, 4)
        own = codec.encode(video.frames, video.fps, 42)
        kept = precoded.encode(video.frames, video.fps, 42, clip="carphone", first_frame=first)
        assert kept.payload == own.payload
        assert kept.frame_num_bytes == own.frame_num_bytes
        assert np.array_equal(kept.frames_hat, own.frames_hat)
        assert kept.command == own.command
        assert kept.note == ""


def test_the_index_says_what_a_stranger_needs(exported):
    entries = read_index(exported)
    assert {(e.qp, e.first_frame, e.gop_index) for e in entries} == {
        (q, 4 * g, g) for q in (32, 42) for g in (0, 1)
    }
    assert {entry.slice_types for entry in entries} == {"IPPP"}
    assert {entry.format for entry in entries} == {"hevc"}
    assert all(entry.pixel_format.startswith("yuv444p10le") for entry in entries)
    assert len(read_hashes(exported)["carphone"]) == 8


def test_a_stopped_export_goes_on_and_mends_damaged_files(exported, monkeypatch):
    entries = read_index(exported)
    (exported / entries[0].file).write_bytes(b"cut")
    coded = []
    encode = X265.encode
    monkeypatch.setattr(
        X265, "encode", lambda self, *a, **k: coded.append(a[2]) or encode(self, *a, **k)
    )
    assert export(exported) == 0
    assert coded == [entries[0].qp]
    Precoded(index=exported).check()
    assert sorted(e.sha256 for e in read_index(exported)) == sorted(e.sha256 for e in entries)


def test_a_stated_matrix_takes_the_place_of_the_tag_as_in_a_scenario(tmp_path):
    one_gop = ["--num-gops", "1", "--rates", "42"]
    for matrix in ("bt601", "bt709"):
        folder = tmp_path / matrix
        assert export(folder, *one_gop, "--matrix", matrix) == 0
        frames = load_clip("carphone", 0, 4, matrix=matrix).frames
        assert read_hashes(folder)["carphone"] == frame_hashes(frames)
    assert read_hashes(tmp_path / "bt601") != read_hashes(tmp_path / "bt709")


@pytest.mark.parametrize("codec", [X264(preset="ultrafast"), X265(preset="ultrafast")])
def test_a_later_start_keeps_frame_numbers(codec, tmp_path):
    video = load_clip("carphone", 8, 2)
    (entry,) = export_streams(codec, video, gop=2, rates=[40], folder=tmp_path)
    assert (entry.first_frame, entry.gop_index) == (8, 0)
    gop = Precoded(index=tmp_path).encode(
        video.frames, video.fps, 40, clip="carphone", first_frame=8
    )
    assert gop.note == ""


def test_packaged_streams_can_be_exported_again(tmp_path):
    video = load_clip("carphone", 0, 4)
    (entry,) = export_streams(CODECS["vtm"](), video, gop=4, rates=[47], folder=tmp_path)
    assert entry.format == "vvc"
    assert entry.codec == "vtm (VTM-17.0, 4:4:4)"


def test_other_pictures_do_not_enter_a_folder(tmp_path):
    video = load_clip("carphone", 0, 2)
    codec = X264(preset="ultrafast")
    export_streams(codec, video, gop=2, rates=[40], folder=tmp_path)
    video.frames[0, 0, 0] ^= 255
    with pytest.raises(InputError, match="folder of its own"):
        export_streams(codec, video, gop=2, rates=[41], folder=tmp_path)


def test_a_failure_keeps_the_streams_before_it(tmp_path, monkeypatch):
    encode = X264.encode

    def fail_at_41(self, frames, fps, rate, **where):
        if rate == 41:
            raise CodecFailure("codec_error", "on purpose")
        return encode(self, frames, fps, rate, **where)

    monkeypatch.setattr(X264, "encode", fail_at_41)
    video = load_clip("carphone", 0, 2)
    with pytest.raises(CodecFailure):
        export_streams(X264(preset="ultrafast"), video, gop=2, rates=[40, 41], folder=tmp_path)
    assert [entry.qp for entry in read_index(tmp_path)] == [40]


@pytest.mark.parametrize(
    ("change", "status", "message"),
    [
        (["--codec", "x256"], 2, "'x265'"),
        (["--clip", "bike"], 2, "'bikes'"),
        (["--option", "colour=red"], 2, "colour"),
        (["--option", "timeout_s=soon"], 2, "soon"),
        (["--rates", "99"], 2, "0 to 51"),
        (["--gop", "500"], 2, "fewer|at least"),
        (["--matrix", "bt470"], 2, "bt601"),
        (["--option", "timeout_s=0"], 2, "greater than 0"),
        (["--option", "timeout_s=1e-6"], 1, "codec_timeout"),
    ],
)
def test_bad_input_ends_with_a_message_and_a_status(change, status, message, tmp_path, capsys):
    assert export(tmp_path / "new", *change) == status
    said = capsys.readouterr().err
    assert any(word in said for word in message.split("|"))


def test_the_command_says_how_to_use_the_folder(exported, capsys):
    assert export(exported) == 0
    assert f"{{scheme: precoded, index: {exported}}}" in capsys.readouterr().out


def test_the_index_is_one_stream_a_line(exported):
    lines = (exported / "index.json").read_text().splitlines()
    assert len(lines) == 2 + len(json.loads("\n".join(lines)))
