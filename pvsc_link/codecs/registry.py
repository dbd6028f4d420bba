"""Every separated source codec by the name that a scenario writes.

Options of the constructor (``variant``, ``preset``, ``timeout_s``, ...) are keywords that the
scenario's entry may set. A new codec is one class and one line here.
"""

from collections.abc import Callable

from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.external.codec import dcvc_fm, dcvc_rt, glc_video, plvc
from pvsc_link.codecs.precoded import Precoded
from pvsc_link.codecs.reference_software import hm, vtm
from pvsc_link.codecs.vvenc import VVenC
from pvsc_link.codecs.x264_x265 import X264, X265


def _lvc(**options) -> Codec:
    # TensorFlow takes seconds: only who names this codec waits for it.
    from pvsc_link.codecs.lvc import LearnedCodec

    return LearnedCodec(**options)


CODECS: dict[str, Callable[..., Codec]] = {
    "x264": X264,
    "x265": X265,
    "vvenc": VVenC,
    "vtm": vtm,
    "hm": hm,
    "precoded": Precoded,
    "dcvc-rt": dcvc_rt,
    "dcvc-fm": dcvc_fm,
    "glc-video": glc_video,
    "plvc": plvc,
    "lvc": _lvc,
}
