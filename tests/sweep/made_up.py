"""A codec, a semantic scheme and a clip that cost next to nothing, for tests of how sweeps run."""

import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.registry import CODECS, CodecType
from pvsc_link.options import StrictModel
from pvsc_link.schemes.base import Scheme
from pvsc_link.schemes.registry import SCHEMES, SchemeType
from pvsc_link.types import EncodedGop, Reception

SIZE, NUM_FRAMES = 16, 4


class NoOptions(StrictModel):
    pass


class Coarse(Codec):
    """Frames with every sample rounded to a multiple of ``rate``, packed by zlib."""

    name, variant, version = "coarse", "", "1"
    allowed_rates = range(1, 129)
    default_rates = (8, 64)
    encoded: list[int] = []

    def describe(self, rate):
        return f"step {rate}"

    def check(self):
        return

    def encode(self, frames, fps, rate, *, clip="", first_frame=0):
        self.encoded.append(rate)
        packed = [zlib.compress((frame // rate).tobytes()) for frame in frames]
        return EncodedGop(
            payload=b"".join(packed),
            frame_num_bytes=tuple(map(len, packed)),
            frames_hat=np.minimum(frames // rate * rate + rate // 2, 255).astype(np.uint8),
            command=self.describe(rate),
            version=self.version,
        )


@dataclass(frozen=True)
class Sent:
    frames: np.ndarray
    command: str = "noisy"
    version: str = "1"


class Noisy(Scheme):
    """Shows the frames with noise that depends on the seed and on the rate; has no networks."""

    name, variant, digital = "noisy", "", False
    allowed_rates = (1, 2)

    def encode_gop(self, video, first, gop, rate):
        return Sent(video.frames[first : first + gop] // rate * rate)

    def stream(self, gops, point, link, mcs, seeds):
        for gop, seed in zip(gops, seeds, strict=True):
            noise = np.random.default_rng(seed).normal(0, 60 - point.snr_db, gop.frames.shape)
            shown = np.clip(gop.frames + noise, 0, 255)
            yield Reception(shown.astype(np.uint8), {"source": 64, "side": mcs}, 0, 0, 0)


def register(patch):
    """Make both known for one test, and measure no block: error-free up to MCS 5 to 9."""
    patch.setitem(CODECS, "coarse", CodecType("coarse", "Coarse", NoOptions, Coarse))
    patch.setitem(SCHEMES, "noisy", SchemeType("noisy", "Noisy", NoOptions, Noisy))

    def bler(point, options, mcs, n, max_blocks=0):
        return float(mcs > 5 + point.snr_db % 5)

    patch.setattr("pvsc_link.sweep.mcs._bler", bler)


def write_clip(folder, start=0):
    """A folder of pictures; returns its path as text."""
    folder.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[:SIZE, :SIZE]
    for t in range(NUM_FRAMES):
        frame = np.stack([4 * x + t, 4 * y + 2 * t, 3 * (x + y) + start], axis=-1)
        Image.fromarray(frame.astype(np.uint8)).save(folder / f"{t:04d}.png")
    return str(folder)


def described(clip, **changes):
    """A scenario of both schemes: two rates each, two SNRs, two seeds."""
    return {
        "name": "small",
        "seed": [1, 2],
        "media": {"clips": clip, "gop": 2, "num_gops": 2},
        "link": {"channel": "awgn", "snr_db": [32, 33]},
        "schemes": [{"scheme": "coarse"}, {"scheme": "noisy"}],
        "anchor": "coarse",
        "metrics": ["psnr"],
    } | changes
