"""Whole transmissions: semantic, and separated (codec over the coded link)."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
