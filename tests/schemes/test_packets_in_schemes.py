"""Codecs and semantic schemes over a packet network that loses chosen packets."""

from pathlib import Path

import numpy as np
import pytest

from pvsc_link.link import CHANNELS, Transport
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.foreign import ForeignScheme
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.types import EncodedGop

FRAMES = LinkOptions("", False, "", 0, Transport(transport_unit="frame"))
WHOLE = LinkOptions("", False, "", 0, Transport())


@pytest.fixture
def lossy(tmp_path):
    """A point whose first GOP loses the packets of these places, at seed 1."""

    def point(*lost, **condition):
        trace = np.zeros(400, int)
        trace[list(lost)] = 1
        start = int(np.random.Generator(np.random.Philox(key=1)).random() * len(trace))
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.csv"
        file.write_text(",".join(map(str, np.roll(trace, start))))
        return CHANNELS["packets"].point(float("inf"), {"loss": str(file), **condition})

    return point


class Coded:
    """Four frames of 1200, 100, 100 and 100 bytes, which need no codec."""

    name, variant, allowed_rates, default_rates = "made", "", (1,), None
    weights_id, content, status = None, {}, "ok"


def gop():
    frames = np.arange(4, dtype=np.uint8)[:, None, None, None] + np.zeros((4, 8, 8, 3), np.uint8)
    return EncodedGop(bytes(1500), (1200, 100, 100, 100), frames, "", "")


@pytest.mark.parametrize(
    ("link", "lost", "num_packets", "num_lost"),
    [
        (FRAMES, (), 5, 0),
        (FRAMES, (1,), 5, 4),  # the second packet of the first frame
        (FRAMES, (3,), 5, 2),
        (WHOLE, (1,), 2, 4),  # the end of the first frame is in it
        (WHOLE, (), 2, 0),
    ],
)
def test_frames_before_the_lost_packet_are_decoded(lossy, link, lost, num_packets, num_lost):
    (got,) = SeparatedScheme(Coded()).transmit([gop()], lossy(*lost), link, 0, [1])
    assert got.details == {"num_packets": num_packets, "packets_lost": len(lost)}
    assert got.num_channel_uses == {"source": 1500 + 40 * num_packets, "pilot": 0}
    assert (got.frames_lost, got.frames_concealed) == (num_lost, num_lost)
    assert got.freeze_events == bool(num_lost)
    assert got.latency_ms == ()
    shown = got.frames_hat[:, 0, 0, 0].tolist()
    good = 4 - num_lost
    assert shown == [0, 1, 2, 3][:good] + [good - 1 if good else 128] * num_lost


def test_pvsc_loses_what_its_packets_carried(scheme, video, lossy):
    """Frame by frame: a packet of side information, then packets of symbols."""
    gops = scheme.encode(video, 4, 0)
    sizes = [frame.symbols.size for frame in gops[0].frames]
    assert 0 < sizes[1] <= 578, "one packet per frame after the first"
    first = 1 + -(-sizes[0] // 578)

    def sent(*lost):
        (got,) = scheme.transmit(gops, lossy(*lost), FRAMES, 0, [1])
        return got

    clean = sent()
    assert (clean.frames_lost, clean.frames_concealed) == (0, 0)
    side = sent(first)
    assert (side.frames_lost, side.frames_concealed, side.details["side_lost"]) == (1, 3, 1)
    symbols = sent(first + 1)
    assert (symbols.frames_lost, symbols.details["side_lost"]) == (1, 0)
    np.testing.assert_array_equal(symbols.frames_hat[1], symbols.frames_hat[0])
    assert clean.num_channel_uses == side.num_channel_uses == symbols.num_channel_uses
    assert clean.num_channel_uses["source"] > 2 * sum(sizes)
    assert clean.num_channel_uses["side"] > 4 * 40
    coarse = scheme.transmit(gops, lossy(symbol_bits=4), FRAMES, 0, [1])[0]
    assert coarse.num_channel_uses["source"] < 0.7 * clean.num_channel_uses["source"]
    assert not np.array_equal(coarse.frames_hat, clean.frames_hat)


def test_a_frame_without_some_of_its_symbols_is_decoded_and_counts_as_concealed(
    scheme, video, lossy
):
    """Packets of 28 symbols; the last ones of the GOP are those of the last frame."""
    gops = scheme.encode(video, 4, 0)
    clean = scheme.transmit(gops, lossy(mtu=100), WHOLE, 0, [1])[0]
    of_last = gops[0].frames[-1].symbols.size
    assert of_last > 28
    last = int(clean.details["num_packets"]) - 1
    (got,) = scheme.transmit(gops, lossy(last, mtu=100), WHOLE, 0, [1])
    assert (got.frames_lost, got.frames_concealed, got.freeze_events) == (0, 1, 0)
    np.testing.assert_array_equal(got.frames_hat[:3], clean.frames_hat[:3])
    assert not np.array_equal(got.frames_hat[3], clean.frames_hat[3])


def test_a_foreign_model_freezes_where_its_symbols_are_lost(video, lossy):
    path = Path(__file__).parent / "foreign_models" / "models.py"
    model = ForeignScheme(f"{path}:Blocks")
    gops = model.encode(video, 4, model.allowed_rates[0])
    clean = model.transmit(gops, lossy(), FRAMES, 0, [1])[0]
    assert (clean.frames_lost, clean.frames_concealed) == (0, 0)
    assert clean.details["num_packets"] == 8, "two per frame"
    (got,) = model.transmit(gops, lossy(5), FRAMES, 0, [1])
    assert (got.frames_lost, got.frames_concealed, got.details["side_lost"]) == (2, 2, 0)
    np.testing.assert_array_equal(got.frames_hat[:2], clean.frames_hat[:2])
    np.testing.assert_array_equal(got.frames_hat[3], clean.frames_hat[1])
