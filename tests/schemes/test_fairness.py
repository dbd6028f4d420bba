"""Rules 1 to 4 of ``docs/fairness.md`` at whole schemes; every rule names tests that exist."""

import ast
import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.codecs.precoded import PACKAGED_STREAMS
from pvsc_link.codecs.registry import CODECS
from pvsc_link.link.air import Air
from pvsc_link.link.channel import get_channel_function
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.link.transport_options import DEFAULT_TRANSPORT, Transport
from pvsc_link.media.clips import load_clip
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic_receiver import ReceivedTransport
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.types import ChannelPoint

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "fairness.md").read_text(encoding="utf-8")
LINK = LinkOptions("lmmse", True, "layered", 20)
CLEAR = ChannelPoint("awgn", 60.0)
MCS = 5


def rules():
    """Text of every numbered section of the page by its number."""
    parts = re.split(r"^## (\d+)\. ", PAGE, flags=re.MULTILINE)[1:]
    return dict(zip(map(int, parts[::2]), parts[1::2], strict=True))


def test_the_page_has_the_rules_in_order():
    assert [number for number in rules() if number <= 4] == [1, 2, 3, 4]
    assert list(rules()) == sorted(rules())


@pytest.mark.parametrize("number", sorted(rules()))
def test_every_rule_names_tests_that_exist(number):
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", rules()[number])
    assert named, f"rule {number} names no test"
    for file, name in named:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert name in functions, f"{name} is not in {file}"


def codec_scheme(name):
    if name in ("x264", "x265"):
        return SeparatedScheme(CODECS[name](preset="ultrafast"))
    return SeparatedScheme(CODECS["precoded"](index=PACKAGED_STREAMS / name))


@pytest.mark.parametrize("name", ["x264", "x265", "hm", "vtm", "pvsc"])
def test_session_facts_are_free_or_counted_for_every_scheme_alike(name, scheme, video):
    """Rule 1: counted, a GOP takes exactly ``header_uses`` more, and shows the same pictures."""
    if name == "pvsc":
        sender, gops = scheme, scheme.encode(video, 4, 0)
    else:
        sender = codec_scheme(name)
        gops = sender.encode(load_clip("carphone", num_frames=8), 4, 37)
    counted = dataclasses.replace(LINK, transport=Transport(count_headers=True))
    seeds = range(len(gops))
    free = sender.transmit(gops, CLEAR, LINK, MCS, seeds)
    paid = sender.transmit(gops, CLEAR, counted, MCS, seeds)
    for one, other in zip(free, paid, strict=True):
        uses = [sum(each.num_channel_uses.values()) for each in (one, other)]
        assert uses[1] - uses[0] == one.header_uses == other.header_uses > 0
        assert one.frames_lost == other.frames_lost == 0
        difference = np.abs(one.frames_hat.astype(int) - other.frames_hat).mean()
        assert difference < (0.5 if name == "pvsc" else 1e-9)  # its noise lies at other places


def sent_over(gop, point, seed):
    """A GOP over the link by hand: the received transport."""
    (outgoing,) = gop.transports(DEFAULT_TRANSPORT)
    air = Air(point, seed)
    side = air.send_bits(get_coded_link(MCS, point.channel), outgoing.side_bits)
    symbols = air.send_symbols(get_channel_function(point.channel, "lmmse", True), outgoing.symbols)
    return ReceivedTransport(
        side.bits_hat,
        side.block_ok,
        side.block_num_bits,
        symbols.symbols_hat,
        symbols.no_eff,
        len(gop.frames),
    )


def receiver_of_the_session(scheme, gop):
    """A receiver that was told weights and frame size, and another quality preset than is sent."""
    return scheme._receiver(dataclasses.replace(gop, frames=(), omega_index=0))


def test_a_receiver_with_nothing_but_received_bits_and_symbols_shows_the_same(scheme, video):
    """Rule 2: quality preset, messages and places of the symbols come out of received bits."""
    (gop,) = scheme.encode(video, 4, 2)
    assert gop.omega_index == 2
    (expected,) = scheme.transmit([gop], CLEAR, LINK, MCS, [5])
    transport = sent_over(gop, CLEAR, 5)
    shown = receiver_of_the_session(scheme, gop).receive([transport])
    found = np.stack([frame.frame_uint8[:72, :100] for frame in shown.frames])
    np.testing.assert_array_equal(found, expected.frames_hat)
    assert expected.frames_lost == 0


@pytest.mark.parametrize("seed", range(4))
def test_a_lost_block_loses_exactly_the_frames_that_cannot_be_decoded(scheme, video, seed):
    """Rule 2: blocks of 40 bytes fail; what is in them is garbage, and is not looked at."""
    (gop,) = scheme.encode(video, 4, 2)
    clean = sent_over(gop, CLEAR, 5)
    rng, num_bytes = np.random.default_rng(seed), len(clean.bits_hat) // 8
    sizes = np.full(-(-num_bytes // 40), 40)
    sizes[-1] -= sizes.sum() - num_bytes
    ok = rng.random(len(sizes)) > 0.25
    ok[0] = seed > 0  # block 0 has the header
    garbage = rng.integers(0, 2, len(clean.bits_hat), dtype=np.uint8)
    bits_hat = np.where(np.repeat(ok, 8 * sizes), clean.bits_hat, garbage)
    damaged = dataclasses.replace(clean, bits_hat=bits_hat, block_ok=ok, block_num_bits=8 * sizes)
    intact = np.repeat(ok, sizes)
    lengths = [len(frame.side_bits[part]) for frame in gop.frames for part in side_stream.PARTS]
    header = num_bytes - sum(lengths)
    assert header <= 40
    starts = header + np.cumsum([0, *lengths])
    messages = [intact[a:b].all() for a, b in itertools.pairwise(starts)]
    arrived = [ok[0] and messages[2 * t] and messages[2 * t + 1] for t in range(4)]
    # Without its I frame, a first GOP has nothing that P frames could refer to.
    expected = [arrived[0] and one for one in arrived]
    shown = receiver_of_the_session(scheme, gop).receive([damaged])
    assert (~shown.is_lost).tolist() == expected
    whole = receiver_of_the_session(scheme, gop).receive([clean])
    first = shown.is_lost.argmax() if shown.is_lost.any() else 4
    for mine, theirs in zip(shown.frames[:first], whole.frames[:first], strict=True):
        np.testing.assert_array_equal(mine.frame, theirs.frame)


def test_losses_mean_the_same_for_a_codec_and_for_a_semantic_scheme(scheme, video):
    """Rule 3: ``frames_concealed`` is what differs from a reception without losses, to the end."""
    fading = ChannelPoint("rayleigh", 9.0, None, coherence_length=3000)
    codec = codec_scheme("x264")
    senders = {
        "x264": (codec, codec.encode(load_clip("carphone", num_frames=4), 4, 32)),
        "pvsc": (scheme, scheme.encode(video, 4, 2)),
    }
    for name, (sender, gops) in senders.items():
        seen = 0
        for seed in range(15):
            (reception,) = sender.transmit(gops, fading, LINK, MCS, [seed])
            lost, concealed = reception.frames_lost, reception.frames_concealed
            assert lost <= concealed <= 4
            assert (lost == 0) == (concealed == 0) == (reception.freeze_events == 0)
            assert name == "pvsc" or lost == concealed
            seen += lost > 0
        assert 0 < seen < 15, name


def test_every_scheme_meets_the_same_channel_use_by_use(scheme, video):
    """Rule 4: the k-th channel use of a GOP meets the same fade, whoever sends it."""
    gops = scheme.encode(video, 4, 1)
    (outgoing,) = gops[0].transports(DEFAULT_TRANSPORT)
    uses = get_coded_link(MCS, "rayleigh").num_channel_uses(outgoing.side_bits.size)
    point = ChannelPoint("rayleigh", 60.0, None, coherence_length=16)
    channel = get_channel_function("rayleigh", "lmmse", True)
    air = Air(point, 11)
    air.send_bits(get_coded_link(MCS, "rayleigh"), outgoing.side_bits)
    behind = air.send_symbols(channel, outgoing.symbols).no_eff
    alone = Air(point, 11).send_symbols(
        channel, np.ones(uses + outgoing.symbols.size, np.complex64)
    )
    np.testing.assert_allclose(behind, alone.no_eff[uses:], rtol=1e-4)
    assert np.std(behind) > 0
