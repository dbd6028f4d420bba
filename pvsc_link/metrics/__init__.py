"""How good a received video is and what it cost: quality metrics, CBR, BD-CBR, intervals."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
