"""Video in and out: reading, BT.709 colour, padding, clips and test sets by name."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
