"""A small video of odd size on disk, and caches of this test run's own."""

from fractions import Fraction

import av
import numpy as np
import pytest

from pvsc_link.media.clips import load_clip
from pvsc_link.transmit import __main__ as command


@pytest.fixture(scope="session")
def write_video(tmp_path_factory):
    """Writes frames as an H.264 file, losslessly in 4:4:4; returns its path."""

    def write(frames, name="clip"):
        path = tmp_path_factory.mktemp("video") / f"{name}.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=Fraction(25))
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv444p"
            stream.options = {"qp": "0", "preset": "ultrafast"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            container.mux(stream.encode(None))
        return path

    return write


@pytest.fixture(scope="session")
def odd_video(write_video):
    """Ten frames of 99x77."""
    frames = load_clip("carphone", num_frames=10).frames
    return write_video(np.ascontiguousarray(frames[:, 30:107, 40:139]))


@pytest.fixture(scope="session")
def transmit(tmp_path_factory):
    """Runs the command with caches of this test run; returns exit code and folder."""
    cache = tmp_path_factory.mktemp("cache")

    def run(source, *words):
        folder = tmp_path_factory.mktemp("out") / "sent"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("PVSC_LINK_CACHE", str(cache))
            code = command.main([str(source), "-o", str(folder), *words])
        return code, folder

    run.cache = cache
    return run
