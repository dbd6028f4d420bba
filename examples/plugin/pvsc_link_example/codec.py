"""JPEG by Pillow: every frame is a picture of its own."""

import io

import numpy as np
import PIL
from PIL import Image

from pvsc_link.codecs import Codec
from pvsc_link.types import EncodedGop


class Jpeg(Codec):
    """Baseline JPEG; a rate is a quality from 1 to 95."""

    name = "jpeg"
    allowed_rates = range(1, 96)
    default_rates = (10, 30, 60, 90)

    def __init__(self, subsampling="4:4:4"):
        self.subsampling = subsampling
        self.variant = "" if subsampling == "4:4:4" else subsampling

    @property
    def version(self):
        return f"Pillow {PIL.__version__}"

    def describe(self, rate):
        return f"JPEG quality {rate}, {self.subsampling}"

    def check(self):
        """Pillow always has JPEG."""

    def encode(self, frames, fps, rate, *, clip="", first_frame=0):
        files = []
        for frame in frames:
            file = io.BytesIO()
            Image.fromarray(frame).save(file, "JPEG", quality=rate, subsampling=self.subsampling)
            files.append(file.getvalue())
        shown = [np.asarray(Image.open(io.BytesIO(file)).convert("RGB")) for file in files]
        sizes = tuple(map(len, files))
        return EncodedGop(
            b"".join(files), sizes, np.stack(shown), self.describe(rate), self.version
        )
