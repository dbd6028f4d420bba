"""The wireless link, built from Sionna blocks: channels, equalisers, QAM, 5G LDPC, error rates.

``Awgn``, ``BlockFading`` and ``CodedLink`` are the blocks to start from. They are loaded, and with
them TensorFlow, when they are first used.
"""

from typing import Any

from pvsc_link.link.registry import CHANNELS, ChannelType
from pvsc_link.options import load_implementation

__all__ = ["CHANNELS", "Awgn", "BlockFading", "ChannelType", "CodedLink"]

_BLOCKS = {
    "Awgn": "pvsc_link.link.flat:Awgn",
    "BlockFading": "pvsc_link.link.flat:BlockFading",
    "CodedLink": "pvsc_link.link.coded_link:CodedLink",
}


def __getattr__(name: str) -> Any:
    if name in _BLOCKS:
        return load_implementation(_BLOCKS[name])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
