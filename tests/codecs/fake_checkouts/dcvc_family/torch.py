"""As much of PyTorch as a driver asks for."""

from fake_codec import told

__version__ = "2.6.0+fake"


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
