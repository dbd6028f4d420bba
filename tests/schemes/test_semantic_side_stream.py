"""The side stream of a transport: all that a receiver knows is read from the bytes that arrived."""

import numpy as np
import pytest

from pvsc_link.schemes import side_stream
from pvsc_link.schemes.side_stream import SideStreamError
from pvsc_link.types import Payload

SIZES = [0, 1, 127, 128, 300, 20_000, 5, 60]
SYMBOLS = [0, 127, 128, 70_000]


def payloads(num_frames, seed=0):
    """Frames with messages that are empty or longer than one length byte can say."""
    rng = np.random.default_rng(seed)
    return [
        Payload(
            np.ones(SYMBOLS[t], np.complex64),
            {"z": rng.bytes(SIZES[2 * t]), "k": rng.bytes(SIZES[2 * t + 1])},
        )
        for t in range(num_frames)
    ]


def read(stream, num_frames, intact=None, **given):
    intact = np.ones(len(stream), bool) if intact is None else intact
    given = {"num_symbols": sum(SYMBOLS[:num_frames]), **given}
    return side_stream.read(stream, intact, num_frames, **given)


@pytest.mark.parametrize("facts", [b"", bytes(range(16))])
@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_a_stream_gives_back_preset_places_and_messages(num_frames, facts):
    sent = payloads(num_frames)
    found = read(side_stream.write(5, sent, facts), num_frames, num_fact_bytes=len(facts))
    assert found.preset == 5
    assert [frame.num_symbols for frame in found.frames] == SYMBOLS[:num_frames]
    assert [frame.messages for frame in found.frames] == [one.side_bits for one in sent]
    assert all(frame.arrived for frame in found.frames)


@pytest.mark.parametrize(
    "change",
    [lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"\xff" * 30, lambda s: b"", lambda s: s[:1]],
)
def test_a_header_that_does_not_fit_the_stream_is_refused(change):
    with pytest.raises(SideStreamError):
        read(change(side_stream.write(0, payloads(2))), 2)


def test_a_header_that_does_not_fit_the_symbols_is_refused():
    with pytest.raises(SideStreamError, match="symbols"):
        read(side_stream.write(0, payloads(2)), 2, num_symbols=126)


def test_the_header_is_the_preset_and_three_numbers_of_a_frame():
    sent = payloads(4)
    num_bytes = sum(len(message) for one in sent for message in one.side_bits.values())
    one_byte, two_bytes, three_bytes = 7, 3, 2  # below 128, below 16,384, below 2,097,152
    header = len(side_stream.write(0, sent)) - num_bytes
    assert header == 1 + one_byte + 2 * two_bytes + 3 * three_bytes


@pytest.mark.parametrize("place", range(7))
def test_without_a_byte_of_the_header_nothing_can_be_read(place):
    stream = side_stream.write(0, payloads(2))
    intact = np.ones(len(stream), bool)
    intact[place] = False
    with pytest.raises(SideStreamError):
        read(stream, 2, intact)


def test_a_lost_byte_behind_the_header_loses_its_message_alone():
    sent = payloads(2)
    stream = side_stream.write(0, sent)
    header = len(stream) - sum(SIZES[:4])
    sizes = np.array(SIZES[:4])
    ends = header + np.cumsum(sizes)
    for lost, message in ((header, 1), (ends[2] - 1, 2), (ends[3] - 1, 3)):
        intact = np.ones(len(stream), bool)
        intact[lost] = False
        found = [m for frame in read(stream, 2, intact).frames for m in frame.messages.values()]
        assert [index for index, m in enumerate(found) if m is None] == [message]
        assert [frame.num_symbols for frame in read(stream, 2, intact).frames] == SYMBOLS[:2]


def test_a_failed_block_damages_the_bytes_that_have_a_bit_in_it():
    intact = side_stream.intact_bytes(np.array([True, False, True]), np.array([12, 9, 19]))
    assert intact.tolist() == [True, False, False, True, True]


def test_session_facts_are_16_bytes_and_tell_sessions_apart():
    facts = [
        side_stream.session_facts(size, fps, weights)
        for size in ((72, 100), (100, 72))
        for fps in (25.0, 29.97)
        for weights in (None, "untrained", "0123456789abcdef")
    ]
    assert {len(one) for one in facts} == {side_stream.NUM_FACT_BYTES} == {16}
    assert len(set(facts)) == len(facts)


@pytest.mark.parametrize("num_channel_uses", [0, 1, 999, 12_345])
def test_shares_add_up_and_follow_the_bytes(num_channel_uses):
    messages = {"z": bytes(30), "k": bytes(10)}
    frames = [Payload(np.zeros(0, np.complex64), messages, bits) for bits in (0.0, 60.0, 120.0)]
    shares = side_stream.shares(frames, num_channel_uses)
    assert shares["z"] + shares["k"] == num_channel_uses
    assert shares["z"] == pytest.approx(0.75 * num_channel_uses, abs=0.5)
    assert shares["motion"] == pytest.approx(0.25 * shares["z"], abs=0.5), "180 of 720 bits"
