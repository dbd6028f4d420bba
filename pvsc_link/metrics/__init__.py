"""How good a received video is and what it cost: PSNR, LPIPS, DISTS, CBR, BD-CBR, intervals.

``METRICS`` is looked up on first use, so that the rooms which only need :mod:`.bd` or
:mod:`.statistics` do not pay for Keras.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pvsc_link.metrics.registry import METRICS

__all__ = ["METRICS"]


def __getattr__(name: str) -> Any:
    if name == "METRICS":
        from pvsc_link.metrics.registry import METRICS

        return METRICS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
