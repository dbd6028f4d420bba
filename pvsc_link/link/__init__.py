"""The wireless link, built from Sionna blocks: channels, equalisers, QAM, 5G LDPC, error rates.

``Awgn``, ``BlockFading`` and ``CodedLink`` are the blocks to start from. They are loaded, and with
them TensorFlow, when they are first used.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
