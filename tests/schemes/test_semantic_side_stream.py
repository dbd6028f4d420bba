"""The side stream of a GOP: every byte found again, every lost block charged to its frames."""

import numpy as np
import pytest

from pvsc_link.schemes import side_stream


def messages(num_frames, seed=0):
    """Two messages per frame, some of them empty or longer than one length byte can say."""
    rng = np.random.default_rng(seed)
    sizes = [0, 1, 127, 128, 300, 20_000, 5, 60][: 2 * num_frames]
    return [rng.bytes(size) for size in sizes]


@pytest.mark.parametrize("num_frames", [1, 2, 4])
def test_a_stream_gives_back_its_messages(num_frames):
    sent = messages(num_frames)
    assert side_stream.read(side_stream.write(sent), len(sent)) == sent


@pytest.mark.parametrize("change", [lambda s: s[:-1], lambda s: s + b"\0", lambda s: b"\xff"])
def test_a_stream_of_another_length_than_its_header_says_is_refused(change):
    with pytest.raises(ValueError, match="side stream"):
        side_stream.read(change(side_stream.write(messages(2))), 4)


def test_the_header_costs_one_byte_per_message_below_128_bytes():
    assert len(side_stream.header_of([b"x" * 127] * 6)) == 6
    assert len(side_stream.header_of([b"x" * 128] * 6)) == 12


def blocks_of(sent, block_bits=800):
    num_bits = 8 * len(side_stream.write(sent))
    sizes = np.full(-(-num_bits // block_bits), block_bits)
    return np.ones(len(sizes), bool), sizes


def test_without_the_block_of_the_header_every_message_is_lost():
    sent = messages(4)
    block_ok, sizes = blocks_of(sent)
    assert not side_stream.messages_lost(sent, block_ok, sizes).any()
    block_ok[0] = False
    assert side_stream.messages_lost(sent, block_ok, sizes).all()


def test_a_later_block_loses_exactly_the_messages_that_have_bytes_in_it():
    sent = [bytes(90), bytes(40), bytes(100), bytes(30)]  # header 4 bytes, blocks of 100 bytes
    block_ok, sizes = blocks_of(sent)
    block_ok[1] = False  # bytes 100 to 199: 6 of message 1's last 34 ..., all but 34 of message 2
    lost = side_stream.messages_lost(sent, block_ok, sizes)
    assert lost.tolist() == [False, True, True, False]


@pytest.mark.parametrize("num_channel_uses", [0, 1, 999, 12_345])
def test_shares_add_up_and_follow_the_bytes(num_channel_uses):
    shares = side_stream.shares([bytes(30), bytes(10)] * 3, num_channel_uses)
    assert sum(shares.values()) == num_channel_uses
    assert shares["z"] == pytest.approx(0.75 * num_channel_uses, abs=0.5)
