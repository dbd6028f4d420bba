"""Runs the stock ``test_video.py`` of the DCVC family or GLC-Video on one GOP at one rate.

Runs in the codec's own Python and never imports pvsc_link. The script runs in this process: the
pool of worker processes that it makes is replaced by plain calls, so that errors arrive here and
two things can be changed around it without editing the checkout:

- GLC-Video scores every frame with LPIPS and DISTS, whose networks are downloaded at run time;
  they are replaced by scores that nobody reads.
- DCVC-FM saves decoded frames only where it writes a bitstream (C++ and CUDA); without one they
  are caught at its conversion to RGB.

The script runs anew for every request of this process; its modules and the files of weights that
``torch.load`` has read are kept.

Traps known: all rates of DCVC-RT and DCVC-FM write their pictures to one folder (so a private
folder per call), an intra period of -1 makes DCVC-FM and GLC-Video code I frames only (so the GOP
length), the summary rounds bits per pixel to six digits (so the log of the point itself).
"""

import concurrent.futures
import copy
import functools
import importlib
import json
import multiprocessing
import os
import runpy
import sys
import types

import request_reply

_DATASET = "clip"
_SEQUENCE = "frames"


#: Runs a function once in this process; ``functools.cache`` came with Python 3.9.
once = functools.lru_cache(maxsize=None)


class Done:
    """A job's result, in the words of a future."""

    def __init__(self, value):
        self._value = value

    def result(self):
        return self._value


class SameProcess:
    """Stands in for ``ProcessPoolExecutor``: every job runs at once, in this process."""

    def __init__(self, max_workers=None, initializer=None, initargs=()):
        # The scripts read their worker's number out of the process name.
        multiprocessing.current_process().name = "SameProcess-1"
        if initializer:
            initializer(*initargs)

    def submit(self, function, *arguments):
        return Done(function(*arguments))


@once
def occupy_device(device):
    """Bind CUDA to the chosen device now: the scripts change CUDA_VISIBLE_DEVICES later.

    Once per process; returns the version of PyTorch.
    """
    import torch

    keep_weights(torch)
    if device == "cpu":
        work_without_cuda(torch)
        return torch.__version__
    if not torch.cuda.is_available():
        raise SystemExit("PyTorch finds no CUDA device; a GPU is needed, or device: cpu")
    torch.cuda.init()
    return torch.__version__


def keep_weights(torch):
    """``torch.load`` reads each file once; networks copy what they get out of it."""
    load, kept = torch.load, {}

    def load_once(file, *arguments, **options):
        if not isinstance(file, (str, os.PathLike)):
            return load(file, *arguments, **options)
        state = os.stat(file)
        key = os.fspath(file), state.st_mtime_ns, state.st_size, str((arguments, options))
        if key not in kept:
            kept[key] = load(file, *arguments, **options)
        return copy_of_dicts(kept[key])

    torch.load = load_once


def copy_of_dicts(value):
    """New dicts around the same tensors: the scripts take prefixes off the names."""
    if not isinstance(value, dict):
        return value
    copied = copy.copy(value)
    for name in copied:
        copied[name] = copy_of_dicts(copied[name])
    return copied


class NoCuda:
    """Stands in for events, streams and their contexts, which time and order work on a GPU."""

    def __init__(self, *arguments, **options):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False

    def __getattr__(self, name):
        return lambda *arguments, **options: 0.0


def work_without_cuda(torch):
    """Calls that the scripts make to time and to order work on a GPU do nothing on a CPU."""
    torch.cuda.synchronize = lambda device=None: None
    torch.cuda.Event = torch.cuda.Stream = torch.cuda.stream = NoCuda
    torch.cuda.current_stream = NoCuda


def start_as_before(method, force=False):
    """In place of ``set_start_method``, which may be called once in a process."""


#: Before PyTorch is imported, which hands it on.
vars(multiprocessing)["set_start_method"] = start_as_before


def write_test_config(request):
    """The data set file of one sequence; pictures are 1-based im00001.png."""
    folder, sequence = os.path.split(request["frames"])
    size = {"width": request["width"], "height": request["height"]}
    entry = dict(size, frames=request["num_frames"], intra_period=request["num_frames"])
    dataset = {"test": 1, "base_path": "", "src_type": "png", "sequences": {sequence: entry}}
    path = os.path.join(request["out"], "test_config.json")
    with open(path, "w") as file:
        json.dump({"root_path": folder, "test_classes": {_DATASET: dataset}}, file)
    return path, sequence


class NoScore:
    """Has the methods of LPIPS and DISTS that the script calls; its value is no number."""

    def __init__(self, *arguments, **options):
        pass

    def to(self, device):
        return self

    def eval(self):
        return self

    def forward(self, *frames):
        return self

    __call__ = forward

    def item(self):
        return float("nan")


@once
def leave_out_scores():
    """GLC-Video's metrics, before anything imports the real ones.

    LPIPS is imported from the package ``src.utils.lpips`` and from its module ``lpips``.
    """
    for module, name in (("lpips", "LPIPS"), ("lpips.lpips", "LPIPS"), ("DISTS_pytorch", "DISTS")):
        stand_in = types.ModuleType("src.utils." + module)
        stand_in.__path__ = []  # a package, so that modules of it can be imported
        setattr(stand_in, name, NoScore)
        sys.modules["src.utils." + module] = stand_in
    vars(sys.modules["src.utils.lpips"])["lpips"] = sys.modules["src.utils.lpips.lpips"]


@once
def catcher():
    """A list whose first item names the folder of what DCVC-FM converts to RGB for its PSNR.

    That is every decoded frame once, in order. The conversion is changed once per process.
    """
    import numpy
    from PIL import Image

    helper = importlib.import_module("src.utils.test_helper")
    convert, folder = vars(helper)["ycbcr444_to_rgb"], [""]

    def convert_and_save(*planes):
        rgb = convert(*planes)
        levels = numpy.clip(numpy.rint(numpy.asarray(rgb, numpy.float64) * 255), 0, 255)
        number = len(os.listdir(folder[0])) + 1
        picture = Image.fromarray(levels.astype(numpy.uint8).transpose(1, 2, 0))
        picture.save(os.path.join(folder[0], f"im{number:05d}.png"))
        return rgb

    vars(helper)["ycbcr444_to_rgb"] = convert_and_save
    return folder


def run_test_video(request, config):
    """The script with its literal command line, as if it were the main program."""
    out = request["out"]
    output = os.path.join(out, "output.json")
    streams = os.path.join(out, "streams")
    places = dict(request["checkpoints"], config=config, streams=streams, output=output)
    (command,) = request["commands"]
    sys.argv = request_reply.fill(command, **places)
    vars(concurrent.futures)["ProcessPoolExecutor"] = SameProcess
    runpy.run_path(os.path.join(request["checkout"], command[0]), run_name="__main__")
    return os.path.join(streams, _DATASET), output


def read_log(folder, sequence, output, rate):
    """Log of the point: its own file where there is one, else its part of the summary."""
    own = os.path.join(folder, f"{sequence}_q{rate}.json")
    if os.path.exists(own):
        with open(own) as file:
            return json.load(file)
    with open(output) as file:
        return json.load(file)[_DATASET][sequence]["000"]


def frame_bits(log):
    """Bits per frame; one I frame and then P frames, or the intra period was misread."""
    types_of_frames = log["frame_type"]
    if types_of_frames != [0] + [1] * (len(types_of_frames) - 1):
        raise SystemExit(f"frames of types {types_of_frames}, wanted I and then P")
    return [bpp * log["frame_pixel_num"] for bpp in log["frame_bpp"]]


def code(request):
    """One GOP by the stock script; leaves the reply."""
    sys.path[0] = request["checkout"]  # in place of the drivers' own folder
    torch_version = occupy_device(request["device"])
    config, sequence = write_test_config(request)
    codec, rate = request["codec"], request["rate"]
    caught = os.path.join(request["out"], "decoded")
    if codec == "glc-video":
        leave_out_scores()
    estimated = codec == "glc-video" or (codec == "dcvc-fm" and request["mode"] == "rate-only")
    catching = codec == "dcvc-fm" and estimated
    if catching:
        os.makedirs(caught)
        catcher()[0] = caught
    folder, output = run_test_video(request, config)
    bits = frame_bits(read_log(folder, sequence, output, rate))
    named = f"{sequence}_q{rate}"
    if codec == "glc-video":
        folder = os.path.join(folder, named)
    request_reply.write_reply(
        request,
        bits,
        "estimated" if estimated else "coded",
        None if estimated else os.path.join(folder, named + ".bin"),
        request_reply.images(caught if catching else folder, "im*.png"),
        {"python": request_reply.python_version(), "torch": str(torch_version)},
    )


if __name__ == "__main__":
    request_reply.serve(code)
