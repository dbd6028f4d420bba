"""The I-frame model alone, on still images."""

import numpy as np
import pytest

from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic import PvscIntraScheme, PvscMcScheme
from pvsc_link.types import ChannelPoint, InputError

LINK = LinkOptions("zf", csi_aware=False, decoder="layered", num_iter=20)


def test_it_sends_what_the_scheme_of_its_preset_sends_in_gops_of_one_frame(
    micro, video, same_models
):
    point, shown = ChannelPoint("awgn", 12.0), []
    for kind in (PvscIntraScheme, PvscMcScheme):
        scheme = kind(micro)
        gops = [scheme.encode_gop(video, 0, 1, 0)]
        (got,) = scheme.transmit(gops, point, LINK, 5, [1])
        assert got.frames_lost == 0
        assert got.finer_channel_uses["y"] == 0
        shown.append(got)
    np.testing.assert_array_equal(shown[0].frames_hat, shown[1].frames_hat)
    assert shown[0].num_channel_uses == shown[1].num_channel_uses


def test_a_longer_gop_is_refused(micro, video, same_models):
    with pytest.raises(InputError, match="pvsc-intra"):
        PvscIntraScheme(micro).encode_gop(video, 0, 2, 0)
