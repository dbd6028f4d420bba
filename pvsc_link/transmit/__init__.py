"""A user's own video over the link: reconstructions, side by side, a still, the numbers."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
