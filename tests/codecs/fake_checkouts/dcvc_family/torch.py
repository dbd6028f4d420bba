"""As much of PyTorch as a driver asks for."""

import os

from fake_codec import note, told

__version__ = "2.6.0+fake"


def load(path, map_location=None):
    """What a checkpoint holds; every reading of a file is noted."""
    with open(path) as file:
        text = file.read()
    note("loaded", f"{os.getpid()} {os.path.basename(path)} {text}")
    return {"state_dict": {"module.weight": text}}


class cuda:
    @staticmethod
    def is_available():
        return told() != "no_gpu"

    @staticmethod
    def init():
        pass

    @staticmethod
    def device_count():
        return int(cuda.is_available())

    @staticmethod
    def synchronize(device=None):
        if not cuda.is_available():
            raise RuntimeError("found no NVIDIA driver")

    class Event:
        def __init__(self, **options):
            cuda.synchronize()

        def record(self):
            cuda.synchronize()
