"""Fig. 1: a receiver that rounds otherwise costs PVSC next to nothing."""

import numpy as np
import pytest

from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic import PvscMcScheme
from pvsc_link.types import ChannelPoint, InputError

POINT = ChannelPoint("awgn", 20.0)
LINK = LinkOptions("zf", False, "layered", 20)


@pytest.fixture(scope="module")
def sent(scheme, video):
    return scheme.encode(video, 4, 1)


def shown(scheme, sent):
    (received,) = scheme.transmit(sent, POINT, LINK, 5, seeds=[1])
    assert received.frames_lost == 0
    return received.frames_hat.astype(float)


def test_pvsc_does_not_need_equal_arithmetic_at_both_ends(scheme, sent, micro, same_models):
    other = PvscMcScheme(micro, receiver_arithmetic="bfloat16")
    assert other.variant == f"{micro}, receiver bfloat16"
    same, rounded = shown(scheme, sent), shown(other, sent)
    difference = same - rounded
    assert 0 < np.mean(difference**2) < 4.0  # it is other arithmetic, and beyond 42 dB PSNR
    assert same.std() > 10.0


def test_an_unknown_arithmetic_is_refused(micro):
    with pytest.raises(InputError, match="receiver_arithmetic"):
        PvscMcScheme(micro, receiver_arithmetic="float12")
