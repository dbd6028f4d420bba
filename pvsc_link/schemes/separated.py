"""A separated baseline: source codec -> 5G LDPC and QAM -> channel -> the same codec.

The link, and TensorFlow with it, is imported when something is sent.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import numpy as np

from pvsc_link.codecs import (
    Codec,
    cached_encode,
    frames_lost,
    freeze,
    freeze_events,
    gops_as_sent,
)
from pvsc_link.link import Transport, as_adaptation, find_channel
from pvsc_link.schemes.base import LinkOptions, Scheme, packet_details
from pvsc_link.schemes.latency import Clock
from pvsc_link.types import ChannelPoint, EncodedGop, LinkStats, Reception, Video

if TYPE_CHECKING:
    from pvsc_link.link import Adaptation, CodedLink, PacketLink

#: ``rates: all`` of a codec, as far as it has these QPs, unless it states ``default_rates``.
DEFAULT_RATES = (22, 27, 32, 37, 42, 47)


class SeparatedScheme(Scheme):
    """Codec + 5G LDPC (section IV-A, "Each traditional codec and LVC baseline").

    A GOP's bitstream is one transport of consecutive blocks, or one per frame
    (``transport_unit``); all of them follow each other in one fading process. A frame is lost if a
    block that carries any of its bytes fails its CRC. From there to the end of the GOP the last
    good frame is shown, because no later frame can be decoded without it. So is it with a frame
    that misses its latency budget (``latency``). Over a packet network packets stand in the place
    of blocks, and bytes in the place of channel uses. Session facts of the
    bitstream (``codecs.session_facts``) are not sent, unless the link options count them.

    Parameters: ``codec`` : the source codec. Its optional attributes ``default_rates``,
    ``weights_id``, ``content`` and ``status`` mean what they mean in ``Scheme``.
    """

    digital = True

    def __init__(self, codec: Codec):
        self.codec = codec
        self.name, self.variant = codec.name, codec.variant
        self.allowed_rates = codec.allowed_rates
        common = tuple(r for r in DEFAULT_RATES if r in codec.allowed_rates)
        self.default_rates = common if codec.default_rates is None else tuple(codec.default_rates)
        self.weights_id, self.content = codec.weights_id, codec.content
        self.status = codec.status

    def check(self) -> None:
        self.codec.check()

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> EncodedGop:
        coded = cached_encode(
            self.codec,
            video.frames[first : first + gop],
            video.fps,
            rate,
            clip=video.name,
            first_frame=video.first_frame + first,
            history=video.frames[:first],
        )
        return replace(coded, fact_spans=self.codec.fact_spans(coded.payload), fps=float(video.fps))

    def stream(
        self,
        gops: Iterable[EncodedGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int | Adaptation,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        from pvsc_link.link import open_air, open_link

        adaptation, transport = as_adaptation(mcs), link.transport
        is_packets = find_channel(point.channel).is_packets

        def next_link() -> CodedLink | PacketLink:
            return open_link(adaptation.mcs, point, **asdict(link))

        shown: np.ndarray | None = None
        is_frozen = False
        clock: Clock | None = None
        sent_gops = gops_as_sent(gops, transport.count_headers)
        for (gop, num_fact_bits), seed in zip(sent_gops, seeds, strict=True):
            sizes = [8 * sum(frames) for frames in transports(gop, transport.transport_unit)]
            bits = np.split(payload_bits(gop), np.cumsum(sizes)[:-1])
            first_link = next_link()
            # With an adaptation that is not known before; interleaving has none (``sweep.plan``).
            num_uses = _num_uses(bits, first_link) if transport.interleaving != "none" else None
            air = open_air(point, seed, transport.interleaving, num_uses)
            clock = clock or Clock(transport, gop.fps)
            num_frames = len(gop.frame_num_bytes) // len(bits)
            sent, latency = [], []
            # A link is made when its transport is sent: reports may have changed the MCS by then.
            links = itertools.chain([first_link], iter(next_link, None))
            for one, coded_link in zip(bits, links, strict=False):
                received = air.send_bits(coded_link, one, clock.uses_left(num_frames))  # type: ignore[arg-type]
                adaptation.report(received.first_ok)
                uses = received.num_channel_uses - received.num_pilots
                latency.append(clock.sent(num_frames, uses, received.num_rounds))
                sent.append(received)
            latency_ms = np.concatenate(latency)
            block_ok, block_num_bits = (
                np.concatenate(blocks)
                for blocks in zip(*((s.block_ok, s.block_num_bits) for s in sent), strict=True)
            )
            lost = frames_lost(gop.frame_num_bytes, block_ok, block_num_bits)
            lost |= ~clock.in_time(latency_ms)
            details: dict[str, float] = packet_details(air)
            if transport.harq is not None:
                details["num_retransmissions"] = sum(one.num_retransmissions for one in sent)
            if gop.num_decodable is not None:
                out_of_step = np.arange(len(lost)) >= gop.num_decodable
                details["out_of_step"] = int(np.sum(out_of_step))
                lost |= out_of_step
            concealed = freeze(gop.frames_hat, ~lost, shown)
            shown = concealed.frames[-1]
            repeated = np.arange(len(lost)) >= len(lost) - concealed.frames_lost
            events = freeze_events(repeated, is_frozen)
            is_frozen = bool(repeated[-1])
            pilots = sum(one.num_pilots for one in sent)
            uses = sum(one.num_channel_uses for one in sent)
            yield Reception(
                frames_hat=concealed.frames,
                num_channel_uses={"source": uses - pilots, "pilot": pilots},
                frames_lost=concealed.frames_lost,
                frames_concealed=concealed.frames_lost,
                freeze_events=events,
                num_blocks=len(block_ok),
                num_block_errors=int(np.sum(~block_ok)),
                header_uses=_fact_uses(bits[0].size, num_fact_bits, transport, first_link),
                latency_ms=() if is_packets else tuple(latency_ms.tolist()),
                status=self.status,
                note=gop.note,
                details=details,
                stats=LinkStats.joined(one.stats for one in sent),
            )


def transports(gop: EncodedGop, unit: str) -> list[tuple[int, ...]]:
    """Bytes of the frames of each transport of a GOP, which is one ``gop`` or a ``frame`` each."""
    sizes = gop.frame_num_bytes
    return [sizes] if unit == "gop" else [(size,) for size in sizes]


def _num_uses(bits: Sequence[np.ndarray], coded_link: CodedLink | PacketLink) -> int:
    """Channel uses of all transports of a GOP, without pilots and retransmissions."""
    return sum(coded_link.num_channel_uses(one.size) for one in bits)


def _fact_uses(
    num_bits: int, num_fact_bits: int, transport: Transport, coded_link: CodedLink | PacketLink
) -> int:
    """Channel uses that session facts take in the first transport of a GOP, sent or not.

    Parameters: ``num_bits`` : of that transport as it is sent.
    """
    others = num_bits - num_fact_bits if transport.count_headers else num_bits
    with_facts = coded_link.num_channel_uses(others + num_fact_bits)
    return with_facts - coded_link.num_channel_uses(others)


def payload_bits(gop: EncodedGop) -> np.ndarray:
    """The GOP's bitstream as uint8 bits ``[num_bits]``, most significant bit of a byte first."""
    return np.unpackbits(np.frombuffer(gop.payload, np.uint8))
