"""Learned codecs in somebody else's checkout: stand-ins keep command line, layout and traps."""

import ast
import gc
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.codecs.base import Codec, CodecFailure
from pvsc_link.codecs.cache import cached_encode
from pvsc_link.codecs.external import codec as external
from pvsc_link.codecs.external.families import FAMILIES
from pvsc_link.codecs.precoded import export_streams
from pvsc_link.codecs.registry import CODECS
from pvsc_link.own_python import IdleProcesses
from pvsc_link.types import InputError, Video

FAKES = Path(__file__).parent / "fake_checkouts"
#: Every codec in every link mode it has.
SYSTEMS = [(name, mode) for name, family in FAMILIES.items() for mode in family.bits]
DEFAULTS = [(name, next(iter(family.bits))) for name, family in FAMILIES.items()]
NUM_FRAMES = 3


def rates(name):
    """A low and a high rate."""
    return (256, 1024) if name == "plvc" else (10, 62)


@pytest.fixture(autouse=True)
def _no_real_checkout(monkeypatch):
    for family in FAMILIES.values():
        monkeypatch.delenv(family.variable, raising=False)


@pytest.fixture
def gop():
    """Smooth frames of no round size that differ from one another; the order shows."""
    y, x = np.mgrid[0:24, 0:40]
    ramp = (4 * x + 2 * y)[..., None] + np.arange(0, 60, 20)
    return np.stack([(ramp + 9 * t) % 256 for t in range(NUM_FRAMES)]).astype(np.uint8)


def install(folder, name, misbehave=""):
    """A checkout with the fake of codec ``name`` and its checkpoints; returns the options."""
    folder.mkdir(exist_ok=True)
    root, weights = folder / "checkout", folder / "weights"
    family = "rlvc" if name == "plvc" else "dcvc_family"
    shutil.copytree(FAKES / family, root, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(FAKES / "fake_codec.py", root)
    weights.mkdir()
    if name == "plvc":
        for part in [f"RAE_GAN_{q}" for q in ("lo", "mi", "hi")] + [
            f"RPM_PSNR_{rate}_{part}" for rate in (256, 512, 1024) for part in ("mv", "res")
        ]:
            (weights / part).mkdir()
            (weights / part / "model.ckpt.index").write_text(f"PLVC {part}")
        hific = [sys.executable, str(root / "hific.py"), "{quality}", "{image}", "{bitstream}"]
        (root / "pvsc_link.json").write_text(json.dumps({"intra": [[*hific, "{decoded}"]]}))
    else:
        (root / "video_script.py").rename(root / "test_video.py")
        (root / "video_helper.py").rename(root / "src" / "utils" / "test_helper.py")
        (root / "family").write_text(name)
        several = ("video_ld", "video_hts") if name == "dcvc-uf" else ("video",)
        for role in ("image", *several):
            (weights / f"fake_{role}.pth.tar").write_text(role)
    tell(root, misbehave)
    return {"checkout": str(root), "python": sys.executable, "checkpoints": str(weights)}


def tell(root, misbehave):
    if misbehave:
        (Path(root) / "misbehave").write_text(misbehave)


def failure_of(tmp_path, name, mode, frames, misbehave, **options):
    codec = CODECS[name](**install(tmp_path, name, misbehave), variant=mode, **options)
    with pytest.raises(CodecFailure) as caught:
        codec.encode(frames, 25.0, rates(name)[0])
    return caught.value


def mean_error(a, b):
    return np.abs(a.astype(float) - b).mean()


@pytest.mark.parametrize(("name", "mode"), SYSTEMS)
def test_a_gop_goes_through_every_codec_and_link_mode(tmp_path, gop, name, mode):
    codec = CODECS[name](**install(tmp_path, name), variant=mode)
    codec.check()
    low, high = (codec.encode(gop, 25.0, rate, clip="ramp") for rate in rates(name))
    for coded in (low, high):
        assert len(coded.frame_num_bytes) == NUM_FRAMES
        assert sum(coded.frame_num_bytes) == len(coded.payload)
        assert coded.frames_hat.shape == gop.shape
        assert coded.frames_hat.dtype == np.uint8
    assert low.num_bits < high.num_bits
    assert mean_error(high.frames_hat, gop) < mean_error(low.frames_hat, gop) < 12
    assert all(mean_error(high.frames_hat[t], gop[t]) < 3 for t in range(NUM_FRAMES)), "order"
    bits = codec._family.bits[mode]
    assert f"bits: {bits}" in high.note
    assert codec.variant == f"{mode}, bits: {bits}"
    assert ("filler" in high.note) == (mode == "rate-only")


@pytest.mark.parametrize(("name", "mode"), SYSTEMS)
def test_a_payload_is_the_bitstream_or_repeatable_filler(tmp_path, gop, name, mode):
    """The fakes write the frame's number as every byte of its bitstream."""
    codec = CODECS[name](**install(tmp_path, name), variant=mode)
    coded, again = (codec.encode(gop, 25.0, rates(name)[1], clip="ramp") for _ in range(2))
    assert coded.payload == again.payload
    ends = np.cumsum(coded.frame_num_bytes)
    bytes_of_frames = np.split(np.frombuffer(coded.payload, np.uint8), ends[:-1])
    own = [np.mean(part == t) > 0.95 for t, part in enumerate(bytes_of_frames, start=1)]
    assert all(own) if mode == "bit-exact" else not any(own)


@pytest.mark.parametrize(("name", "mode"), SYSTEMS)
def test_bits_are_those_of_the_codec(tmp_path, gop, name, mode):
    sys.path.insert(0, str(FAKES))
    try:
        from fake_codec import frame_bytes
    finally:
        sys.path.remove(str(FAKES))
    rate = rates(name)[1]
    step = 4096 // rate if name == "plvc" else 1 + (63 - rate) // 2
    sizes = [len(frame_bytes(t, step)) for t in range(1, NUM_FRAMES + 1)]
    if name == "plvc":  # motion and residual, and the length of the motion part between them
        sizes[2:] = [2 * size + 2 * (mode == "bit-exact") for size in sizes[2:]]
    coded = CODECS[name](**install(tmp_path, name), variant=mode).encode(gop, 25.0, rate)
    assert list(coded.frame_num_bytes) == sizes


@pytest.mark.parametrize(("name", "mode"), DEFAULTS)
def test_rates_at_a_time_do_not_overwrite_each_other(tmp_path, gop, name, mode):
    """DCVC-RT and DCVC-FM write all rates to the same names; a longer GOP would leave frames."""
    codec = CODECS[name](**install(tmp_path, name), variant=mode)
    alone = [codec.encode(gop[:n], 25.0, rate) for rate in rates(name) for n in (3, 2)]
    with ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(codec.encode, gop[:n], 25.0, rate) for rate in rates(name) for n in (3, 2)
        ]
    for job, expected in zip(jobs, alone, strict=True):
        assert np.array_equal(job.result().frames_hat, expected.frames_hat)


DCVC_LIKE = [name for name in FAMILIES if name != "plvc"]


def loaded(options):
    """(process, file, content) of every checkpoint that a fake script has read."""
    lines = (Path(options["checkout"]) / "loaded").read_text().splitlines()
    return [tuple(line.split(" ", 2)) for line in lines]


@pytest.mark.parametrize("name", DCVC_LIKE)
def test_gops_and_rates_of_a_codec_share_a_process_and_its_weights(tmp_path, gop, name):
    options = install(tmp_path, name)
    codec = CODECS[name](**options)
    for frames in (gop, gop[:2]):
        for rate in rates(name):
            alone = CODECS[name](**install(tmp_path / f"{len(frames)} {rate}", name))
            coded = codec.encode(frames, 25.0, rate)
            assert np.array_equal(coded.frames_hat, alone.encode(frames, 25.0, rate).frames_hat)
            assert coded.num_bits == alone.encode(frames, 25.0, rate).num_bits
    assert len(loaded(options)) == 2  # image and video, once each
    (process,) = {process for process, *_ in loaded(options)}
    assert is_running(int(process))
    (Path(options["checkpoints"]) / "fake_image.pth.tar").write_text("others")
    codec.encode(gop, 25.0, rates(name)[0])
    assert loaded(options)[2:] == [(process, "fake_image.pth.tar", "others")]
    del codec
    gc.collect()
    assert dies(int(process))


@pytest.mark.parametrize("name", ["dcvc-rt", "plvc"])
def test_a_codec_goes_on_after_a_gop_that_failed(tmp_path, gop, name):
    options = install(tmp_path, name, "crash")
    codec = CODECS[name](**options)
    with pytest.raises(CodecFailure, match="the last word"):
        codec.encode(gop, 25.0, rates(name)[0])
    (Path(options["checkout"]) / "misbehave").unlink()
    assert len(codec.encode(gop, 25.0, rates(name)[0]).frame_num_bytes) == NUM_FRAMES


def test_a_process_that_waits_too_long_is_closed_and_replaced(tmp_path, gop):
    options = install(tmp_path, "dcvc-fm")
    codec = CODECS["dcvc-fm"](**options)
    codec._drivers = IdleProcesses(most_idle_s=0.2)
    first = codec.encode(gop, 25.0, 10)
    assert dies(int(loaded(options)[0][0]))
    assert codec.encode(gop, 25.0, 10).payload == first.payload
    (process,) = {process for process, *_ in loaded(options)[2:]}
    assert process != loaded(options)[0][0]


def test_a_process_that_died_while_it_waited_is_replaced(tmp_path, gop):
    options = install(tmp_path, "dcvc-fm")
    codec = CODECS["dcvc-fm"](**options)
    first = codec.encode(gop, 25.0, 10)
    process = int(loaded(options)[0][0])
    os.kill(process, signal.SIGKILL)
    assert dies(process)
    assert codec.encode(gop, 25.0, 10).payload == first.payload


@pytest.mark.parametrize(("name", "mode"), DEFAULTS)
def test_a_gop_of_one_frame_is_an_i_frame(tmp_path, gop, name, mode):
    codec = CODECS[name](**install(tmp_path, name), variant=mode)
    assert len(codec.encode(gop[:1], 25.0, rates(name)[1]).frame_num_bytes) == 1


@pytest.mark.parametrize("misbehave", ["one_frame_less", "one_frame_more"])
@pytest.mark.parametrize(("name", "mode"), DEFAULTS)
def test_a_wrong_number_of_frames_is_an_error(tmp_path, gop, name, mode, misbehave):
    failure = failure_of(tmp_path, name, mode, gop, misbehave)
    found = NUM_FRAMES + (1 if misbehave == "one_frame_more" else -1)
    assert failure.status == "codec_error"
    assert f"{found} decoded frames, wanted {NUM_FRAMES}" in failure.detail


@pytest.mark.parametrize(("name", "mode"), DEFAULTS)
def test_frames_of_another_size_are_an_error(tmp_path, gop, name, mode):
    failure = failure_of(tmp_path, name, mode, gop, "wrong_size")
    assert failure.status == "codec_error"
    assert "wanted 48x32" in failure.detail if name == "plvc" else "wanted 40x24" in failure.detail


@pytest.mark.parametrize(("name", "mode"), DEFAULTS)
def test_the_last_words_of_a_crash_are_kept(tmp_path, gop, name, mode):
    failure = failure_of(tmp_path, name, mode, gop, "crash")
    assert failure.status == "codec_error"
    assert "CUDA out of memory, the last word" in failure.detail
    assert len(failure.detail) < 1200


@pytest.mark.parametrize("name", ["dcvc-fm", "glc-video"])
def test_the_cause_of_a_long_error_is_kept(tmp_path, gop, name):
    """PyTorch lists every layer that does not fit a checkpoint behind the cause."""
    detail = failure_of(tmp_path, name, None, gop, "long_error").detail
    assert "Error(s) in loading state_dict for DMCI" in detail


def test_a_time_out_kills_the_codec_and_its_children(tmp_path, gop):
    """The limit leaves time to start on a loaded machine; the fakes would sleep ten minutes."""
    with ThreadPoolExecutor(len(DEFAULTS)) as pool:
        jobs = {
            name: pool.submit(failure_of, tmp_path / name, name, mode, gop, "hang", timeout_s=8.0)
            for name, mode in DEFAULTS
        }
    for name, job in jobs.items():
        assert job.result().status == "codec_timeout"
        assert "8 s" in job.result().detail
        assert "stuck in frame 3" in job.result().detail
        pids = (tmp_path / name / "checkout" / "pids").read_text().split()
        assert len(pids) == 2
        assert all(dies(int(pid)) for pid in pids)


ENCODE = """
import json, sys
import numpy as np
from pvsc_link.codecs.registry import CODECS
codec = CODECS["dcvc-fm"](**json.loads(sys.argv[1]))
codec.encode(np.zeros((2, 24, 40, 3), np.uint8), 25.0, 10)
"""


@pytest.mark.slow
def test_a_codec_ends_with_the_process_that_waits_for_it(tmp_path):
    """Also where that was killed and could not end it; the fake would sleep ten minutes."""
    options = install(tmp_path, "dcvc-fm", "hang")
    process = subprocess.Popen([sys.executable, "-c", ENCODE, json.dumps(options)])
    path = tmp_path / "checkout" / "pids"
    while process.poll() is None and not (path.exists() and len(path.read_text().split()) == 2):
        time.sleep(0.05)
    process.kill()
    process.wait()
    assert all(dies(int(pid)) for pid in path.read_text().split())


def dies(pid):
    """Whether a killed process is gone soon; on a loaded machine it takes a moment."""
    for _ in range(100):
        if not is_running(pid):
            return True
        time.sleep(0.1)
    return False


def is_running(pid):
    """Whether a process lives; one that nobody has waited for yet is dead."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


@pytest.mark.parametrize(("name", "mode"), SYSTEMS)
def test_a_log_that_lacks_the_bits_is_an_error(tmp_path, gop, name, mode):
    failure = failure_of(tmp_path, name, mode, gop, "missing_key")
    assert failure.status == "codec_error"
    absent = {"bit-exact": "f003_mv.bin", "rate-only": "no bits of frame 3"}
    assert (absent[mode] if name == "plvc" else "frame_bpp") in failure.detail


@pytest.mark.parametrize(("name", "mode"), [s for s in SYSTEMS if s != ("plvc", "bit-exact")])
def test_bits_that_are_no_number_are_an_error(tmp_path, gop, name, mode):
    failure = failure_of(tmp_path, name, mode, gop, "nan_bits")
    assert failure.status == "codec_error"
    assert f"frame {NUM_FRAMES - 1} has nan bits" in failure.detail


@pytest.mark.parametrize("name", ["dcvc-rt", "dcvc-fm", "dcvc-uf"])
def test_a_log_that_contradicts_the_bitstream_is_an_error(tmp_path, gop, name):
    failure = failure_of(tmp_path, name, "bit-exact", gop, "short_stream")
    assert failure.status == "codec_error"
    assert "the log has" in failure.detail


@pytest.mark.parametrize(("name", "mode"), [s for s in SYSTEMS if s[0] != "plvc"])
def test_a_gop_of_i_frames_only_is_an_error(tmp_path, gop, name, mode):
    failure = failure_of(tmp_path, name, mode, gop, "all_intra")
    assert failure.status == "codec_error"
    assert "wanted I and then P" in failure.detail


@pytest.mark.parametrize("name", ["dcvc-rt", "dcvc-fm", "dcvc-uf", "glc-video"])
def test_a_missing_gpu_is_said_and_never_replaced_by_the_cpu(tmp_path, gop, name):
    failure = failure_of(tmp_path, name, None, gop, "no_gpu")
    assert failure.status == "codec_error"
    assert "CUDA" in failure.detail


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        *(("dcvc-rt", "bit-exact"), ("dcvc-fm", "bit-exact"), ("dcvc-fm", "rate-only")),
        *(("glc-video", "rate-only"), ("plvc", "rate-only")),
    ],
)
def test_codecs_that_can_run_on_a_cpu(tmp_path, gop, name, mode):
    """What the scripts call of torch.cuda to time and order their work does nothing there."""
    options = install(tmp_path, name, "no_gpu")
    codec = CODECS[name](**options, variant=mode, device="cpu")
    assert len(codec.encode(gop, 25.0, rates(name)[0]).frame_num_bytes) == NUM_FRAMES


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("dcvc-rt", {"device": "tpu"}),
        ("plvc", {"device": "tpu"}),
        ("dcvc-uf", {"device": "cpu"}),
        ("glc-video", {"variant": "bit-exact"}),
        ("plvc", {"variant": "bitexact"}),
    ],
)
def test_what_a_codec_cannot_is_refused_at_once(name, options):
    with pytest.raises(InputError, match=next(iter(options.values()))):
        CODECS[name](**options)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_checkout_that_is_not_stated_has_a_remedy(gop, name):
    codec = CODECS[name]()
    for call in (codec.check, lambda: codec.encode(gop, 25.0, rates(name)[0])):
        with pytest.raises(CodecFailure, match=FAMILIES[name].variable) as caught:
            call()
        assert caught.value.status == "missing_binary"
        assert "pvsc_link.json" in caught.value.detail
    assert codec.version == "absent"


@pytest.mark.parametrize(
    ("absent", "words"),
    [("checkout", "has no"), ("python", "its Python is"), ("checkpoints", "checkpoint")],
)
@pytest.mark.parametrize("name", FAMILIES)
def test_each_absent_part_is_named(tmp_path, name, absent, words):
    options = install(tmp_path, name)
    with pytest.raises(CodecFailure, match=words) as caught:
        CODECS[name](**{**options, absent: str(tmp_path / "nothing")}).check()
    assert caught.value.status == "missing_binary"


def test_plvc_says_how_to_state_its_i_frame_codec(tmp_path):
    options = install(tmp_path, "plvc")
    (tmp_path / "checkout" / "pvsc_link.json").unlink()
    with pytest.raises(CodecFailure, match="intra"):
        CODECS["plvc"](**options).check()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_environment_variable_names_a_folder_with_settings(tmp_path, gop, name, monkeypatch):
    options = install(tmp_path, name)
    there = tmp_path / "checkout" / "pvsc_link.json"
    settings = json.loads(there.read_text()) if there.exists() else {}
    home = tmp_path / "home"
    home.mkdir()
    parts = {"checkout": "../checkout", "python": sys.executable, "checkpoints": "../weights"}
    (home / "pvsc_link.json").write_text(json.dumps(settings | parts))
    monkeypatch.setenv(FAMILIES[name].variable, str(home))
    rate = rates(name)[0]
    by_variable = CODECS[name]().encode(gop, 25.0, rate)
    by_options = CODECS[name](**options).encode(gop, 25.0, rate)
    assert by_variable.payload == by_options.payload


@pytest.mark.parametrize("settings", ["{", "[]", '{"python": 3}', '{"intra": ["x"]}'])
def test_settings_that_cannot_be_read_are_an_input_error(tmp_path, settings):
    options = install(tmp_path, "dcvc-rt")
    (tmp_path / "checkout" / "pvsc_link.json").write_text(settings)
    with pytest.raises(InputError, match=r"pvsc_link\.json"):
        CODECS["dcvc-rt"](**options).check()


def test_an_unknown_setting_names_the_nearest(tmp_path):
    options = install(tmp_path, "dcvc-rt")
    (tmp_path / "checkout" / "pvsc_link.json").write_text('{"pyhton": "python3"}')
    with pytest.raises(InputError, match="Did you mean 'python'"):
        CODECS["dcvc-rt"](**options).check()


@pytest.mark.parametrize("name", FAMILIES)
def test_sources_and_weights_are_in_the_version_and_the_store_notices(tmp_path, gop, name):
    """A user's edit of the checkout, or another checkpoint, must not meet old results."""
    options = install(tmp_path, name)
    codec = CODECS[name](**options)
    coded = cached_encode(codec, gop, 25.0, rates(name)[0], folder=tmp_path / "store")
    assert "sha256" in coded.version
    assert "python 3" in coded.version
    assert coded.version.startswith(codec.version)
    of_others = "fake_video_ld.pth.tar" if name == "dcvc-uf" else "fake_video.pth.tar"
    one = "RAE_GAN_lo/model.ckpt.index" if name == "plvc" else of_others
    (Path(options["checkpoints"]) / one).write_text("PLVC other weights")
    after_weights = CODECS[name](**options).version
    assert after_weights != codec_version_of(coded)
    external._stamp.cache_clear()
    (tmp_path / "checkout" / "fake_codec.py").open("a").write("\n# edited\n")
    assert CODECS[name](**options).version not in (after_weights, codec_version_of(coded))
    cached_encode(CODECS[name](**options), gop, 25.0, rates(name)[0], folder=tmp_path / "store")
    assert len(list((tmp_path / "store").rglob("*.npz"))) == 2


def codec_version_of(coded):
    return coded.version.partition(", python ")[0]


def test_a_device_counts_within_what_is_visible(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,6")
    assert external._environment("cuda")["CUDA_VISIBLE_DEVICES"] == "4,6"
    assert external._environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "6"
    assert external._environment("cpu")["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert external._environment("cuda:1")["CUDA_VISIBLE_DEVICES"] == "1"


def test_drivers_are_of_python_3_6_and_do_not_import_this_package():
    """TensorFlow 1.12 has no later Python."""
    folder = Path(external.__file__).parent / "drivers"
    drivers = sorted(folder.glob("*.py"))
    assert {"dcvc_family.py", "plvc.py", "request_reply.py"} <= {path.name for path in drivers}
    for path in drivers:
        tree = ast.parse(path.read_text(), feature_version=(3, 6))
        for node in ast.walk(tree):
            names = [alias.name for alias in getattr(node, "names", [])]
            modules = [getattr(node, "module", None) or "", *map(str, names)]
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                assert not any(name.startswith("pvsc_link") for name in modules)
                assert not getattr(node, "level", 0)
            of_later = ("functools", "cache"), ("str", "removeprefix"), ("str", "removesuffix")
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                assert (node.value.id, node.attr) not in of_later


@pytest.mark.parametrize("name", FAMILIES)
def test_the_registry_names_a_codec_by_its_own_name_and_signature(name):
    codec = CODECS[name]()
    assert codec.name == name
    for member in ("describe", "check", "encode"):
        own = inspect.signature(getattr(type(codec), member)).parameters
        assert list(own) == list(inspect.signature(getattr(Codec, member)).parameters)
    assert str(codec.allowed_rates[-1]) in codec.describe(codec.allowed_rates[-1])


def test_streams_that_libav_cannot_decode_are_not_exported(tmp_path, gop):
    codec = CODECS["dcvc-rt"](**install(tmp_path, "dcvc-rt"))
    with pytest.raises(InputError, match="dcvc-rt"):
        export_streams(
            codec, Video("ramp", gop, 25.0, "test"), gop=3, rates=[10], folder=tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", FAMILIES)
def test_the_default_rates_are_rates_that_the_codec_has(name):
    codec = CODECS[name]()
    assert set(codec.default_rates) <= set(codec.allowed_rates)
    with pytest.raises(InputError, match=str(max(codec.allowed_rates) + 1)):
        codec.encode(np.zeros((1, 16, 16, 3), np.uint8), 25.0, max(codec.allowed_rates) + 1)


def test_this_environment_does_not_leak_into_the_codecs_python(tmp_path, gop, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "leak"))
    (tmp_path / "leak").mkdir()
    (tmp_path / "leak" / "json.py").write_text("raise ImportError('leaked')")
    CODECS["dcvc-rt"](**install(tmp_path, "dcvc-rt")).encode(gop, 25.0, 10)
    assert os.environ["PYTHONPATH"] == str(tmp_path / "leak")
