"""Peak memory of a stream: bounded at 1080p, and constant in the number of frames."""

import subprocess
import sys

import pytest

GIB = 2**30

SCRIPT = """
import resource, sys
import numpy as np
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.models.pvsc.model import PvscModel
from pvsc_link.models.presets import PRESETS
from pvsc_link.models.stream import Receiver, Transmitter

preset, height, width, num_frames = sys.argv[1], *map(int, sys.argv[2:])
models = IntraModel(PRESETS[preset + "_intra"]), PvscModel(PRESETS[preset])
session = {"height": height, "width": width}
transmitter, receiver = Transmitter(*models, **session), Receiver(*models, **session)
rng = np.random.default_rng(0)
for t in range(num_frames):
    coarse = rng.random((height // 16, width // 16, 3))
    frame = np.kron(coarse, np.ones((16, 16, 1))).astype(np.float32)
    payload = transmitter.encode(frame, intra=t == 0)
    decoded = receiver.decode(payload.symbols, payload.side_bits, intra=t == 0)
    assert decoded.status == "ok"
    print(1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""


def peaks(tmp_path, *arguments):
    """Peak resident bytes of a fresh process after each frame, both ends in it."""
    script = tmp_path / "stream.py"
    script.write_text(SCRIPT)
    words = [sys.executable, str(script), *map(str, arguments)]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return [int(line) for line in done.stdout.split()]


@pytest.mark.slow
def test_paper_model_streams_1080p_in_six_gib_whatever_the_number_of_frames(tmp_path):
    after = peaks(tmp_path, "pvsc_paper", 1152, 1920, 4)
    assert after[-1] <= 6 * GIB
    assert after[-1] <= 1.02 * after[1]  # the I frame and one P frame have seen every shape


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_frames(tmp_path):
    after = peaks(tmp_path, "pvsc_tiny", 256, 256, 40)
    assert after[-1] <= after[9] + 16 * 2**20
