"""Copied into every fake checkout: a codec that posterises, counts bytes, and misbehaves if told.

The file ``misbehave`` beside it holds one word.
"""

import os
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))


def told():
    """How to misbehave, or an empty string."""
    path = os.path.join(HERE, "misbehave")
    if not os.path.exists(path):
        return ""
    with open(path) as file:
        return file.read()


def note(name, line):
    """Add a line to a file beside this one, for the test to read."""
    with open(os.path.join(HERE, name), "a") as file:
        file.write(line + "\n")


def misbehave_at_start():
    """A crash, or a hang with a child of its own that would go on."""
    if told() == "crash":
        print("encoding ...")
        print("noise " * 500, file=sys.stderr)
        raise RuntimeError("CUDA out of memory, the last word")
    if told() == "long_error":
        layers = "".join(f"\n\tsize mismatch for layer.{n}" for n in range(500))
        raise RuntimeError("Error(s) in loading state_dict for DMCI:" + layers)
    if told() == "hang":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(os.path.join(HERE, "pids"), "w") as file:
            file.write(f"{os.getpid()} {child.pid}")
        print("stuck in frame 3", file=sys.stderr, flush=True)
        time.sleep(600)


def posterised(image, step):
    """The decoded frame: fewer levels at a lower rate."""
    if told() == "wrong_size":
        image = image.crop((0, 0, image.width - 1, image.height))
    return image.point(lambda level: min(255, level // step * step + step // 2))


def num_decoded(num_frames):
    return num_frames + {"one_frame_less": -1, "one_frame_more": 1}.get(told(), 0)


def frame_bytes(number, step):
    """Bitstream of one frame; the first is an I frame."""
    return bytes([number]) * ((900 if number == 1 else 150) // step + number)
