"""PVSC as Keras 3 layers, one per block of the paper, in keras.ops only."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
