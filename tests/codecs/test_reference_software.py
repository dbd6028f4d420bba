"""VTM and HM through their programs: a stand-in program writes real streams and POC lines."""

import json
import os
import shlex
import stat
import sys
import textwrap

import numpy as np
import pytest

from pvsc_link.codecs.cache import cached_encode, history_argument
from pvsc_link.codecs.precoded import PACKAGED_STREAMS, read_index
from pvsc_link.codecs.reference_software import _MODELS, ReferenceSoftware, poc_line_bytes
from pvsc_link.codecs.registry import CODECS
from pvsc_link.media.clips import load_clip
from pvsc_link.types import CodecFailure, InputError

#: What the programs print per picture, and at their start.
LINES = {
    "vtm": "POC {poc:4} LId:  0 TId: 0 ( {nal}, {s}-SLICE, QP {qp} ) {bits:10} bits "
    "[Y 33.6438 dB    U 41.9037 dB    V 42.1601 dB] [ET     5 ] [L0] [L1]",
    "hm": "POC {poc:4} TId: 0 ( {s}-SLICE, nQP {qp} QP {qp} ) {bits:10} bits "
    "[Y -nan dB    U inf dB    V 43.7326 dB] [ET     0 ] [L0 0 ] [L1 ]",
}
VERSION = {
    "vtm": "VVCSoftware: VTM Encoder Version 17.0 [Linux][GCC 12.2.0][64 bit]",
    "hm": "HM software: Encoder Version [16.25] (including RExt)[Linux][GCC 12.2.0][64 bit]",
}

PROGRAM = """
    #!{python}
    import sys
    from pathlib import Path
    import numpy as np
    from pvsc_link.codecs.libav import decode_frames
    from pvsc_link.media.pixels import planes_of_frame
    given = " ".join(sys.argv[1:])
    Path({record!r}).write_text(given + "\\n" + str(Path("in.yuv").stat().st_size))
    {misbehave}
    payload = Path({stream!r}).read_bytes()
    Path("out.bin").write_bytes(payload)
    frames = decode_frames(payload, {sizes!r}, {format!r})
    planes = [p.astype("<u2").tobytes() for f in frames for p in planes_of_frame(f)]
    Path("rec.yuv").write_bytes(b"".join(planes))
    print({version!r})
    for line in {lines!r}:
        print(line)
"""


@pytest.fixture(scope="module")
def carphone():
    return load_clip("carphone", 0, 4)


def install(tmp_path, name, misbehave="", **changed):
    """A folder like a built checkout, whose program repeats the packaged carphone stream."""
    entry = next(
        e
        for e in read_index(PACKAGED_STREAMS / name)
        if (e.clip, e.gop, e.first_frame, e.qp) == ("carphone", 4, 0, 32)
    )
    lines = [
        LINES[name].format(
            poc=t, s=s, qp=31 + 9 * (t > 0), bits=bits, nal="IDR_N_LP" if t == 0 else "TRAIL"
        )
        for t, (s, bits) in enumerate(zip(entry.slice_types, entry.frame_bits, strict=True))
    ]
    values = {
        "python": sys.executable,
        "record": str(tmp_path / "record"),
        "misbehave": misbehave,
        "stream": str(PACKAGED_STREAMS / name / entry.file),
        "sizes": entry.frame_num_bytes,
        "format": entry.format,
        "version": VERSION[name],
        "lines": lines,
    } | changed
    for folder in ("bin", "cfg"):
        (tmp_path / folder).mkdir(exist_ok=True)
    program = tmp_path / "bin" / _MODELS[name].programs[0]
    program.write_text(textwrap.dedent(PROGRAM).lstrip().format(**values))
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    (tmp_path / "cfg" / _MODELS[name].configuration).touch()
    return entry


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_the_program_gives_the_gop_that_its_stream_holds(name, tmp_path, carphone):
    entry = install(tmp_path, name)
    gop = CODECS[name](binary=str(tmp_path)).encode(carphone.frames, carphone.fps, 32)
    packaged = CODECS[name]().encode(carphone.frames, 30, 32, clip="carphone")
    assert gop.payload == packaged.payload
    assert gop.frame_num_bytes == packaged.frame_num_bytes == entry.frame_num_bytes
    assert np.array_equal(gop.frames_hat, packaged.frames_hat)
    assert _MODELS[name].variant.split("-")[1].split(",")[0] in gop.version
    assert gop.note == ""


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_the_command_is_that_of_the_packaged_streams(name, tmp_path, carphone):
    entry = install(tmp_path, name)
    CODECS[name](binary=str(tmp_path)).encode(carphone.frames, carphone.fps, 32)
    given, num_bytes = (tmp_path / "record").read_text().splitlines()
    given = given.replace(str(tmp_path.resolve() / "cfg") + "/", "")
    # The packaged streams were cut out of a longer file; a GOP is a file of its own here.
    stated = shlex.split(entry.options)[1:]
    added = ["-i", "in.yuv", "-b", "out.bin", "-o", "rec.yuv"]
    assert [word for word in given.split() if word not in added] == stated
    assert int(num_bytes) == 4 * 176 * 144 * 3 * 2
    assert ("--Profile=main-RExt" in given) == (name == "hm")


def test_earlier_frames_reach_the_prefilter_of_the_program(tmp_path):
    """The packaged streams of later GOPs were coded with --FrameSkip in the whole clip."""
    install(tmp_path, "vtm")
    video = load_clip("carphone", 0, 12)
    codec = CODECS["vtm"](binary=str(tmp_path))
    frames, history = video.frames[8:], video.frames[:8]
    gop = cached_encode(codec, frames, 30, 32, history=history, folder=tmp_path / "store")
    given, num_bytes = (tmp_path / "record").read_text().splitlines()
    assert "--FrameSkip=4" in given
    assert "--FrameSkip=4" in gop.command
    assert int(num_bytes) == 8 * 176 * 144 * 3 * 2
    (tmp_path / "record").unlink()
    cached_encode(codec, frames, 30, 32, history=history, folder=tmp_path / "store")
    assert not (tmp_path / "record").exists()
    cached_encode(codec, frames, 30, 32, history=history[:4], folder=tmp_path / "store")
    assert (tmp_path / "record").exists()


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_without_a_program_only_packaged_gops_work(name, monkeypatch, carphone):
    monkeypatch.delenv(_MODELS[name].variable, raising=False)
    codec = CODECS[name]()
    codec.check()
    assert codec.encode(carphone.frames, 30, 32, clip="carphone").num_bits > 0
    with pytest.raises(CodecFailure, match=_MODELS[name].variable) as failure:
        codec.encode(carphone.frames[:3], 30, 32, clip="carphone")
    assert failure.value.status == "missing_binary"


@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_the_environment_serves_what_the_package_lacks(name, tmp_path, monkeypatch, carphone):
    install(tmp_path, name)
    monkeypatch.setenv(_MODELS[name].variable, str(tmp_path))
    gop = CODECS[name]().encode(carphone.frames, 30, 32, clip="my own clip")
    assert (tmp_path / "record").exists()
    assert len(gop.frame_num_bytes) == 4


@pytest.mark.parametrize(("folder", "absent"), [("bin", "EncoderApp"), ("cfg", "lowdelay_P")])
def test_a_folder_without_program_or_configuration_is_found_early(folder, absent, tmp_path):
    install(tmp_path, "vtm")
    for path in (tmp_path / folder).iterdir():
        path.unlink()
    with pytest.raises(CodecFailure, match=absent) as failure:
        CODECS["vtm"](binary=str(tmp_path)).check()
    assert failure.value.status == "missing_binary"


@pytest.mark.parametrize(
    ("misbehave", "status", "detail"),
    [
        ("print('Error: bad option'); sys.exit(1)", "codec_error", "bad option"),
        ("import os; os.abort()", "codec_error", "exit status -6"),
        ("import time; time.sleep(60)", "codec_timeout", "killed after"),
        ("sys.exit(0)", "codec_error", "wrote no out.bin"),
    ],
)
def test_a_crash_or_time_out_is_a_status(misbehave, status, detail, tmp_path, carphone):
    install(tmp_path, "vtm", misbehave)
    codec = CODECS["vtm"](binary=str(tmp_path), timeout_s=3.0 if "sleep" in misbehave else 60.0)
    with pytest.raises(CodecFailure, match=detail) as failure:
        codec.encode(carphone.frames, 30, 32)
    assert failure.value.status == status


def test_another_encoder_version_is_noted(tmp_path, carphone):
    install(tmp_path, "vtm", version="VVCSoftware: VTM Encoder Version 22.1 [Linux]")
    gop = CODECS["vtm"](binary=str(tmp_path)).encode(carphone.frames, 30, 32)
    assert gop.note == "encoder version 22.1, not 17.0"


def test_sizes_that_are_no_multiple_of_8_are_padded_for_the_program(tmp_path, carphone):
    install(tmp_path, "vtm")
    frames = np.ascontiguousarray(carphone.frames[:, :139, :171])
    gop = CODECS["vtm"](binary=str(tmp_path)).encode(frames, 30, 32)
    assert gop.frames_hat.shape == frames.shape
    assert "-wdt 176 -hgt 144" in (tmp_path / "record").read_text()


LOG = "\n".join(
    LINES["hm"].format(poc=t, s="IP"[t > 0], qp=30, bits=bits)
    for t, bits in enumerate((800, 80, 8))
)


def test_poc_lines_give_bytes_per_frame():
    assert poc_line_bytes(LOG, 3, 111) == (100, 10, 1)


@pytest.mark.parametrize(
    ("log", "num_frames", "num_bytes"),
    [(LOG, 4, 111), (LOG, 3, 112), (LOG.replace("P-SLICE", "B-SLICE"), 3, 111), ("", 1, 0)],
)
def test_a_log_that_contradicts_the_file_is_a_codec_error(log, num_frames, num_bytes):
    with pytest.raises(CodecFailure) as failure:
        poc_line_bytes(log, num_frames, num_bytes)
    assert failure.value.status == "codec_error"


def test_the_index_states_the_slices_that_the_log_had():
    rows = json.loads((PACKAGED_STREAMS / "hm" / "index.json").read_text())
    assert {row["slice_types"] for row in rows} == {"IPPP"}


def test_a_qp_out_of_range_or_another_model_is_an_input_error(carphone):
    with pytest.raises(InputError, match="0 to 51"):
        CODECS["hm"]().encode(carphone.frames, 30, 52)
    with pytest.raises(InputError, match="'vtm', 'hm'"):
        ReferenceSoftware("jm")


@pytest.mark.slow
@pytest.mark.parametrize("first_frame", [0, 4, 8])
@pytest.mark.parametrize("name", ["vtm", "hm"])
def test_the_real_program_gives_the_bits_of_the_packaged_streams(name, first_frame):
    """Needs VTM-17.0 and HM-16.25, named by PVSC_LINK_VTM and PVSC_LINK_HM."""
    folder = os.environ.get(_MODELS[name].variable)
    if not folder:
        pytest.skip(f"needs {_MODELS[name].variable}")
    video = load_clip("carphone", 0, 12)
    real, packaged = CODECS[name](binary=folder), CODECS[name]()
    frames = video.frames[first_frame : first_frame + 4]
    request = {"clip": "carphone", "first_frame": first_frame}
    earlier = history_argument(real, video.frames[:first_frame])
    gop = real.encode(frames, video.fps, 47, **request, **earlier)
    assert gop.payload == packaged.encode(frames, video.fps, 47, **request).payload
    assert gop.note == ""
