"""Adapters of learned codecs on their real repositories, with random weights, on a CPU.

Without these environment variables the tests are skipped:

- ``TORCH_PYTHON``: a Python with torch, torchvision, einops, scipy, tqdm and Pillow, and for
  DCVC-RT its module MLCodec_extensions_cpp; ``DCVC_CHECKOUT``: a clone of microsoft/DCVC, in whose
  DCVC-FM the modules MLCodec_rans and MLCodec_CXX lie in ``src/models``; ``GLC_CHECKOUT``: a clone
  of jzyustc/GLC.
- ``DCVC_UF_PYTHON``: a Python 3.12 for the top level of microsoft/DCVC, with its two extensions.
- ``PLVC_PYTHON``: a Python 3.6 with TensorFlow 1.12, scipy 1.2.0 and Pillow; ``RLVC_CHECKOUT``: a
  clone of RenYang-home/RLVC with ``tensorflow_compression`` of version 1.0 in it.

Each stock script runs by its own command line, without any code of pvsc_link; what it reports and
writes is what the adapter must give.
"""

import json
import math
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pvsc_link.codecs.registry import CODECS
from pvsc_link.own_python import environment_of_other_python
from pvsc_link.types import CodecFailure

UPSTREAM = Path(__file__).parent / "upstream"
#: Codec -> (environment variable of its clone, folder in it, of its Python).
PLACES = {
    "dcvc-rt": ("DCVC_CHECKOUT", "DCVC-family/DCVC-RT", "TORCH_PYTHON"),
    "dcvc-fm": ("DCVC_CHECKOUT", "DCVC-family/DCVC-FM", "TORCH_PYTHON"),
    "dcvc-uf": ("DCVC_CHECKOUT", ".", "DCVC_UF_PYTHON"),
    "glc-video": ("GLC_CHECKOUT", ".", "TORCH_PYTHON"),
}
#: What a Python must import before the codec can run in a link mode.
MODULES = {
    ("dcvc-rt", "bit-exact"): "MLCodec_extensions_cpp",
    ("dcvc-rt", "rate-only"): "MLCodec_extensions_cpp",  # it has no way without a bitstream
    ("dcvc-fm", "bit-exact"): "src.models.MLCodec_rans, src.models.MLCodec_CXX",
    ("dcvc-fm", "rate-only"): "torch",
    ("dcvc-uf", "bit-exact"): "MLCodec_extensions_cpp, inference_extensions_cuda",
    ("glc-video", "rate-only"): "einops, torchvision",
}
#: Options of the stock scripts, by which their authors' examples choose a rate.
RATE_OPTIONS = {
    "dcvc-rt": "--qp_i {0} --qp_p {0} --write_stream 1 --force_zero_thres 0.12 --reset_interval 64",
    "dcvc-fm": "--q_indexes_i {0} --q_indexes_p {0} --write_stream {1}",
    "dcvc-uf": "--qp_i {0} --qp_p {0} --model_structure ld --skip_thres 0.15",
    "glc-video": "--q_indexes_i {0} --q_indexes_p {0}",
}
NUM_FRAMES, HEIGHT, WIDTH = 3, 72, 100
TIMEOUT_S = 3600.0  # of a busy machine
ON_CPU = [key for key in MODULES if key[0] != "dcvc-uf"]
#: Prints as JSON what the parser of a stock script makes of a command line.
PARSE = """
import json, sys
sys.path.insert(0, ".")
import test_video
print(json.dumps(vars(test_video.parse_args())))
"""


def stated(name):
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set; the head of {Path(__file__).name} says what it names")
    return value


def run(argv, cwd, **environment):
    done = subprocess.run(
        [str(word) for word in argv],
        cwd=cwd,
        env=environment_of_other_python() | environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@dataclass
class Installed:
    """A real codec with random weights."""

    name: str
    checkout: Path
    python: str
    checkpoints: Path

    def codec(self, mode):
        return CODECS[self.name](
            checkout=str(self.checkout),
            python=self.python,
            checkpoints=str(self.checkpoints),
            variant=mode,
            timeout_s=TIMEOUT_S,
            device="cuda" if self.name == "dcvc-uf" else "cpu",
        )


def install(name, folder, needs="import torch, scipy, tqdm, PIL"):
    """The codec with random weights, or a skip with what its Python lacks."""
    variable, below, python = PLACES[name]
    checkout = Path(stated(variable)).absolute() / below
    found = Installed(name, checkout, stated(python), folder / "weights")
    tried = subprocess.run(
        [found.python, "-c", f"import sys; sys.path.insert(0, '.'); {needs}"],
        cwd=checkout,
        env=environment_of_other_python(),
        capture_output=True,
        text=True,
    )
    if tried.returncode:
        pytest.skip(f"{python} {found.python}: {tried.stderr.splitlines()[-1]}")
    found.checkpoints.mkdir()
    run([found.python, UPSTREAM / "random_checkpoints.py", found.checkpoints, name], checkout)
    return found


def install_for(name, mode, folder):
    """The codec with all that a link mode needs."""
    needs = f"import torch, {MODULES[name, mode]}"
    if name == "dcvc-uf":
        needs += "; assert torch.cuda.is_available(), 'PyTorch finds no CUDA device'"
    return install(name, folder, needs)


@dataclass
class Stock:
    """What the stock script reports and writes for one sequence at one rate."""

    bits: list[float]
    psnr: list[float]  # dB of each frame before its samples are rounded to 8 bits
    stream: bytes | None
    pictures: np.ndarray
    notes: list[list[str]]  # side, digest


def run_stock_script(installed, mode, frames, rate, folder):
    """The script's own command line; its worker process is one of its own."""
    source = folder / "source" / "seq"
    source.mkdir(parents=True)
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(source / f"im{number:05d}.png")
    sequence = {"width": WIDTH, "height": HEIGHT, "frames": len(frames), "intra_period": 32}
    test_class = {"test": 1, "base_path": "", "src_type": "png", "sequences": {"seq": sequence}}
    config = folder / "config.json"
    config.write_text(
        json.dumps({"root_path": str(folder / "source"), "test_classes": {"set": test_class}})
    )
    (image,) = installed.checkpoints.glob("*image*")
    (video,) = installed.checkpoints.glob("*video*")
    rate_options = RATE_OPTIONS[installed.name].format(rate, int(mode == "bit-exact"))
    argv = [installed.python, "test_video.py", "--model_path_i", image, "--model_path_p", video]
    argv += ["--rate_num", "1", *rate_options.split(), "--test_config", config, "--worker", "1"]
    argv += ["--verbose_json", "1", "--save_decoded_frame", "1"]
    argv += ["--stream_path", folder / "streams", "--output_path", folder / "output.json"]
    notes = folder / "notes"
    notes.touch()
    run(argv, installed.checkout, PYTHONPATH=str(UPSTREAM), UPSTREAM_NOTES=str(notes))
    written = folder / "streams" / "set"
    log = json.loads((folder / "output.json").read_text())["set"]["seq"]["000"]
    whole = written / f"seq_q{rate}.json"
    log = json.loads(whole.read_text()) if whole.exists() else log
    streams = [path.read_bytes() for path in written.glob("*.bin")]
    pictures = sorted(written.rglob("im*.png"))
    return Stock(
        bits=[bpp * HEIGHT * WIDTH for bpp in log["frame_bpp"]],
        psnr=log["frame_psnr"],
        stream=streams[0] if streams else None,
        pictures=np.array([np.asarray(Image.open(path)) for path in pictures]),
        notes=[json.loads(line) for line in notes.read_text().splitlines()],
    )


@pytest.fixture
def gop():
    """Coarse noise that moves by three samples a frame, of a size that every codec must pad."""
    noise = np.random.default_rng(1).integers(0, 256, (12, 20, 3), np.uint8)
    large = np.kron(noise, np.ones((8, 8, 1), np.uint8))
    starts = range(0, 3 * NUM_FRAMES, 3)
    return np.stack([large[t : t + HEIGHT, t : t + WIDTH] for t in starts])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), MODULES)
def test_an_adapter_gives_what_the_stock_script_reports(tmp_path, gop, name, mode):
    installed = install_for(name, mode, tmp_path)
    codec = installed.codec(mode)
    codec.check()
    gops = {rate: codec.encode(gop, 25.0, rate) for rate in (0, 42)}
    assert gops[0].num_bits != gops[42].num_bits
    assert not np.array_equal(gops[0].frames_hat, gops[42].frames_hat)
    for rate, coded in gops.items():
        print(name, codec.variant, rate, coded.frame_num_bytes)
        stock = run_stock_script(installed, mode, gop, rate, tmp_path / str(rate))
        compare(coded, stock, gop)
        if (name, mode) != ("dcvc-fm", "rate-only"):  # which saves no pictures
            assert np.array_equal(coded.frames_hat, stock.pictures)
        if mode == "bit-exact":
            assert coded.payload == stock.stream
        if mode == "bit-exact" and name != "dcvc-uf":  # whose networks are inside its extension
            both = {
                side: [digest for of, digest in stock.notes if of == side]
                for side in ("encoder", "decoder")
            }
            assert len(both["encoder"]) == NUM_FRAMES
            assert both["encoder"] == both["decoder"]
            assert len(set(both["decoder"])) == NUM_FRAMES


def compare(coded, stock, gop):
    """Bytes and PSNR of every frame."""
    assert len(stock.bits) == NUM_FRAMES
    assert list(coded.frame_num_bytes) == [math.ceil(bits / 8 - 1e-6) for bits in stock.bits]
    assert len(coded.payload) == sum(coded.frame_num_bytes)
    assert coded.frames_hat.shape == gop.shape
    assert all(np.ptp(frame) > 0 for frame in coded.frames_hat)
    mse = np.mean((coded.frames_hat.astype(float) - gop) ** 2, axis=(1, 2, 3))
    assert 10 * np.log10(255**2 / mse) == pytest.approx(stock.psnr, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mode"), ON_CPU)
def test_a_bad_checkpoint_is_a_codec_error_with_the_cause(tmp_path, gop, name, mode):
    """A file that is cut off, and one of another network."""
    installed = install_for(name, mode, tmp_path)
    (image,) = installed.checkpoints.glob("*image*")
    (video,) = installed.checkpoints.glob("*video*")
    whole = image.read_bytes()
    shutil.copy(video, image)
    assert "Error(s) in loading state_dict" in failure(installed, mode, gop).detail
    image.write_bytes(whole[: len(whole) // 2])
    assert "Error: " in failure(installed, mode, gop).detail
    image.unlink()
    assert "image" in failure(installed, mode, gop, "missing_binary").detail


def failure(installed, mode, gop, status="codec_error"):
    with pytest.raises(CodecFailure) as caught:
        installed.codec(mode).encode(gop[:1], 25.0, 0)
    assert caught.value.status == status
    return caught.value


@pytest.mark.slow
def test_the_script_of_dcvc_uf_takes_the_command_and_the_driver_asks_for_a_gpu(tmp_path, gop):
    """As far as its code goes without a GPU, also where its extensions are not built."""
    installed = install("dcvc-uf", tmp_path)
    codec = installed.codec("bit-exact")
    codec.check()
    ((_script, *words),) = codec._family.commands("bit-exact", 42, NUM_FRAMES, "cuda")
    taken = json.loads(run([installed.python, "-c", PARSE, *words], installed.checkout))
    assert (taken["qp_i"], taken["qp_p"]) == ([42], [42])
    assert (taken["force_frame_num"], taken["force_intra_period"]) == (NUM_FRAMES, NUM_FRAMES)
    assert taken["model_structure"] == "ld"
    assert taken["cuda_idx"] is None
    assert taken["save_decoded_frame"]
    has_gpu = run([installed.python, "-c", "import torch; print(torch.cuda.is_available())"], ".")
    if has_gpu.strip() == "False":
        assert "PyTorch finds no CUDA device" in failure(installed, "bit-exact", gop).detail


#: An I-frame codec for PLVC in the place of HiFiC, and for RLVC's scripts in the place of BPG.
JPEG = """
import sys
from PIL import Image
source, target = sys.argv[1:]
kind = {"format": "JPEG", "quality": 80} if target.endswith(".bin") else {"format": "PNG"}
Image.open(source).convert("RGB").save(target, **kind)
"""
PLVC_RATES = {256: "lo", 1024: "hi"}


@pytest.fixture(scope="module")
def plvc(tmp_path_factory):
    """Folder of settings, and checkpoints under PLVC's names; two rates have the same ones."""
    python, checkout = stated("PLVC_PYTHON"), Path(stated("RLVC_CHECKOUT")).absolute()
    folder = tmp_path_factory.mktemp("plvc")
    (folder / "jpeg.py").write_text(JPEG)
    jpeg = [python, str(folder / "jpeg.py")]
    (folder / "frames").mkdir()
    Image.new("RGB", (96, 64)).save(folder / "frames" / "f001.png")
    weights = folder / "weights"
    weights.mkdir()
    for rate, quality in PLVC_RATES.items():
        for script in ("Recurrent_AutoEncoder.py", "Recurrent_Prob_Model.py"):
            run([python, UPSTREAM / "random_rlvc.py", checkout, script, rate], folder)
        shutil.move(folder / "model" / f"RAE_PSNR_{rate}", weights / f"RAE_GAN_{quality}")
        for part in ("mv", "res"):
            shutil.move(folder / "model" / f"RPM_PSNR_{rate}_{part}", weights)
    for name in ("RAE_GAN_{}", "RPM_PSNR_{}_mv", "RPM_PSNR_{}_res"):
        low, middle = (256, 512) if "PSNR" in name else ("lo", "mi")
        shutil.copytree(weights / name.format(low), weights / name.format(middle))
    settings = folder / "settings"
    settings.mkdir()
    intra = [[*jpeg, "{image}", "{bitstream}"], [*jpeg, "{bitstream}", "{decoded}"]]
    parts = {"checkout": str(checkout), "python": python, "checkpoints": str(weights)}
    (settings / "pvsc_link.json").write_text(json.dumps(parts | {"intra": intra}))
    return settings


def run_rlvc(settings, frames, rate, coding, folder):
    """Encoder and decoder of RLVC, in a folder with the checkpoints under RLVC's names.

    Returns (pictures of the encoder, of the decoder, bits that it prints, files of the frames).
    """
    stated_parts = json.loads((settings / "pvsc_link.json").read_text())
    python, checkout = stated_parts["python"], Path(stated_parts["checkout"])
    weights = Path(stated_parts["checkpoints"])
    (folder / "frames").mkdir(parents=True)
    (folder / "model").mkdir()
    for number, frame in enumerate(frames, start=1):
        Image.fromarray(frame).save(folder / "frames" / f"f{number:03d}.png")
    (folder / "model" / f"RAE_PSNR_{rate}").symlink_to(weights / f"RAE_GAN_{PLVC_RATES[rate]}")
    for part in ("mv", "res"):
        name = f"RPM_PSNR_{rate}_{part}"
        (folder / "model" / name).symlink_to(weights / name)
    jpeg = f"{python} {settings.parent / 'jpeg.py'}"
    for name, places in (("bpgenc", '"$5" "$7"'), ("bpgdec", '"$1" "$3"')):
        program = folder / name
        program.write_text(f"#!/bin/sh\nexec {jpeg} {places}\n")
        program.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    options = ["--path", "frames", "--frame", len(frames), "--f_P", len(frames) - 1, "--b_P", 0]
    options += ["--mode", "PSNR", "--l", rate]
    scripts = ["Recurrent_AutoEncoder.py", "Recurrent_Prob_Model.py"]
    if coding:
        scripts += ["Bottleneck_decoder.py", "RPM_decoder.py", "RAE_decoder.py"]
    printed = ""
    for script in scripts:
        own = ["--entropy_coding", int(coding)] if script == "Recurrent_Prob_Model.py" else []
        printed += run([python, checkout / script, *options, *own], folder, PATH=path)
    coded = folder / f"frames_PSNR_{rate}"
    shown, decoded = (
        np.array([np.asarray(Image.open(file)) for file in sorted((coded / name).glob("f*.png"))])
        for name in ("frames", "frames_dec")
    )
    bits = {
        (int(number), part): float(value)
        for number, part, value in re.findall(r"Frame (\d+) (mv|res)_bits = (\S+)", printed)
    }
    files = {file.name: file.read_bytes() for file in (coded / "bitstreams").glob("*.bin")}
    return shown, decoded, bits, files


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["bit-exact", "rate-only"])
def test_plvc_gives_what_the_scripts_of_rlvc_report(tmp_path, gop, mode, plvc, monkeypatch):
    """96x64 needs no padding. In the third frame motion and residual have files of their own."""
    monkeypatch.setenv("PVSC_LINK_PLVC", str(plvc))
    codec = CODECS["plvc"](variant=mode, device="cpu", timeout_s=TIMEOUT_S)
    codec.check()
    gop = gop[:, :64, :96]
    coding = mode == "bit-exact"
    gops = {rate: codec.encode(gop, 25.0, rate) for rate in PLVC_RATES}
    assert gops[256].payload != gops[1024].payload
    for rate, coded in gops.items():
        print(codec.name, codec.variant, rate, coded.frame_num_bytes)
        shown, decoded, bits, files = run_rlvc(plvc, gop, rate, coding, tmp_path / str(rate))
        assert np.array_equal(coded.frames_hat, shown)
        sizes = [len(files["f001.bin"]), len(files["f002.bin"])]
        if coding:
            motion, residual = files["f003_mv.bin"], files["f003_res.bin"]
            assert bits == {(3, "mv"): 8 * len(motion), (3, "res"): 8 * len(residual)}
            length = len(motion).to_bytes(2, "little")
            whole = files["f001.bin"] + files["f002.bin"] + length + motion + residual
            assert coded.payload == whole
            assert np.array_equal(decoded, shown)
            sizes.append(2 + len(motion) + len(residual))
        else:
            sizes.append(math.ceil((bits[3, "mv"] + bits[3, "res"]) / 8))
        assert list(coded.frame_num_bytes) == sizes


@pytest.mark.slow
def test_a_bad_checkpoint_of_plvc_is_a_codec_error_with_the_cause(tmp_path, gop, plvc, monkeypatch):
    """The data of a checkpoint cut off, and an autoencoder in the place of a probability model."""
    monkeypatch.setenv("PVSC_LINK_PLVC", str(plvc))
    weights = tmp_path / "weights"
    shutil.copytree(plvc.parent / "weights", weights)
    options = {"device": "cpu", "checkpoints": str(weights), "timeout_s": TIMEOUT_S}
    codec = CODECS["plvc"](variant="rate-only", **options)
    (data,) = (weights / "RAE_GAN_lo").glob("model.ckpt.data*")
    data.write_bytes(data.read_bytes()[:1000])
    shutil.rmtree(weights / "RPM_PSNR_1024_mv")
    shutil.copytree(weights / "RAE_GAN_hi", weights / "RPM_PSNR_1024_mv")
    for rate, words in ((256, "Recurrent_AutoEncoder.py"), (1024, "Recurrent_Prob_Model.py")):
        with pytest.raises(CodecFailure, match=words) as caught:
            codec.encode(gop[:, :64, :96], 25.0, rate)
        assert caught.value.status == "codec_error"
    (weights / "RPM_PSNR_256_mv" / "model.ckpt.index").unlink()
    with pytest.raises(CodecFailure, match="no RPM_PSNR_256_mv") as caught:
        codec.check()
    assert caught.value.status == "missing_binary"
