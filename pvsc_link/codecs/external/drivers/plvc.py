"""Runs PLVC on one GOP at one rate: HiFiC for the I frame, the RLVC repository for P frames.

Runs in the codec's own Python (3.6 for TensorFlow 1.12) and never imports pvsc_link.

PLVC has no inference code of its own: its authors name that of RLVC, edited. Here nothing is
edited: the scripts run in a private folder, whose ``model`` links to PLVC's checkpoints under
RLVC's names, and stand-ins for ``bpgenc`` and ``bpgdec`` leave the I frame alone that the
``intra`` commands have put in place. ``RLVC.py`` is passed over because it forgets the exit status
of the two scripts that it starts.

A GOP is one I frame and forward P frames (uni-IPPP): what is shown in order is coded in order. The
two-way GOP of the publication would hold the link's frames back by four. Each script starts a
Python of its own and loads its weights, because TensorFlow 1 builds one graph per process.
"""

import glob
import os
import re
import shutil
import subprocess
import sys

import request_reply

_QUALITY = {256: "lo", 512: "mi", 1024: "hi"}
_BITS_LINE = re.compile(r"^Frame (\d+) (mv|res)_bits = (\S+)", re.MULTILINE)
_MAX_MOTION_BYTES = 65535


def prepare(request):
    """Private folder with f001.png ..., ``model`` and the folders that the I frame goes to."""
    work = os.path.join(request["out"], "work")
    os.makedirs(os.path.join(work, "frames"))
    for number in range(1, request["num_frames"] + 1):
        source = os.path.join(request["frames"], f"im{number:05d}.png")
        shutil.copyfile(source, os.path.join(work, "frames", f"f{number:03d}.png"))
    os.makedirs(os.path.join(work, "model"))
    for role, folder in request["checkpoints"].items():
        name = {"rae": "RAE_PSNR_{}", "mv": "RPM_PSNR_{}_mv", "res": "RPM_PSNR_{}_res"}[role]
        os.symlink(folder, os.path.join(work, "model", name.format(request["rate"])))
    coded = os.path.join(work, "frames_PSNR_{}".format(request["rate"]))
    for name in ("frames", "bitstreams", "latents"):
        os.makedirs(os.path.join(coded, name))
    return work, coded


def without_bpg(work):
    """Environment in which RLVC's calls of BPG do nothing."""
    folder = os.path.join(work, "stand_ins")
    os.makedirs(folder)
    for name in ("bpgenc", "bpgdec"):
        path = os.path.join(folder, name)
        with open(path, "w") as file:
            file.write("#!/bin/sh\nexit 0\n")
        os.chmod(path, 0o755)
    return dict(os.environ, PATH=folder + os.pathsep + os.environ.get("PATH", os.defpath))


def run(argv, work, environment, log):
    """One program; what it prints goes to ``log``, and its end to stderr where it fails."""
    with open(log, "ab") as file:
        status = subprocess.call(argv, cwd=work, env=environment, stdout=file)
    if status:
        with open(log, errors="replace") as file:
            sys.stderr.write(file.read()[-400:])
        raise SystemExit(f"{' '.join(argv[:2])}: exit status {status}")


def code_intra(request, work, coded, log):
    """The I frame by the user's commands, to the places where RLVC looks for it."""
    places = {
        "image": os.path.join(work, "frames", "f001.png"),
        "bitstream": os.path.join(coded, "bitstreams", "f001.bin"),
        "decoded": os.path.join(coded, "frames", "f001.png"),
        "quality": _QUALITY[request["rate"]],
    }
    for command in request["intra"]:
        run(request_reply.fill(command, **places), work, None, log)
    for what in ("bitstream", "decoded"):
        if not os.path.exists(places[what]):
            raise SystemExit(f"the intra commands wrote no {what} at {places[what]}")


def frame_payload(folder, number):
    """Bytes of one frame: I frame and first P frame have one file, later ones motion and residual.

    The length of the motion part goes before it in two bytes, as RLVC itself does in the first.
    """
    stem = os.path.join(folder, f"f{number:03d}")
    if number <= 2:
        return read(stem + ".bin")
    motion, residual = read(stem + "_mv.bin"), read(stem + "_res.bin")
    if len(motion) > _MAX_MOTION_BYTES:
        raise SystemExit(f"frame {number}: {len(motion)} bytes of motion")
    return len(motion).to_bytes(2, "little") + motion + residual


def read(path):
    with open(path, "rb") as file:
        return file.read()


def coded_bits(request, coded):
    """Bits per frame of the files, which are joined to one stream."""
    folder = os.path.join(coded, "bitstreams")
    payloads = [frame_payload(folder, n) for n in range(1, request["num_frames"] + 1)]
    path = os.path.join(request["out"], "stream.bin")
    with open(path, "wb") as file:
        file.write(b"".join(payloads))
    return [8 * len(payload) for payload in payloads], path


def estimated_bits(request, coded, log):
    """Bits per frame: files of the I frame and the first P frame, for later ones the log."""
    with open(log, errors="replace") as file:
        lines = _BITS_LINE.findall(file.read())
    said = {(int(number), part): float(bits) for number, part, bits in lines}
    folder = os.path.join(coded, "bitstreams")
    bits = []
    for number in range(1, request["num_frames"] + 1):
        if number <= 2:
            bits.append(8.0 * len(frame_payload(folder, number)))
        elif (number, "mv") in said and (number, "res") in said:
            bits.append(said[number, "mv"] + said[number, "res"])
        else:
            raise SystemExit(f"Recurrent_Prob_Model.py says no bits of frame {number}")
    return bits


def code(request):
    """One GOP by the stock scripts; leaves the reply."""
    work, coded = prepare(request)
    log = os.path.join(request["out"], "log.txt")
    code_intra(request, work, coded, log)
    environment = without_bpg(work)
    for command in request["commands"]:
        script = os.path.join(request["checkout"], command[0])
        words = request_reply.fill(command[1:], frames="frames")
        run([sys.executable, script, *words], work, environment, log)
    stream = None
    if request["mode"] == "bit-exact":
        bits, stream = coded_bits(request, coded)
    else:
        bits = estimated_bits(request, coded, log)
    request_reply.write_reply(
        request,
        bits,
        "coded" if stream else "estimated",
        stream,
        request_reply.images(os.path.join(coded, "frames"), "f*.png"),
        {"python": request_reply.python_version(), "tensorflow": tensorflow_version()},
    )


def tensorflow_version():
    """Version of the installed package; importing it would cost seconds and a GPU."""
    for folder in sys.path:
        for name in ("tensorflow", "tensorflow_gpu"):
            for path in glob.glob(os.path.join(folder, name + "-*-info")):
                return os.path.basename(path).split("-")[1].replace(".dist", "")
    return "unknown"


if __name__ == "__main__":
    request_reply.serve(code)
