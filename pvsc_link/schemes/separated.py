"""A separated baseline: source codec -> 5G LDPC and QAM -> channel -> the same codec."""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace

import numpy as np

from pvsc_link.codecs import (
    Codec,
    cached_encode,
    frames_lost,
    freeze,
    freeze_events,
    gops_as_sent,
)
from pvsc_link.link import get_coded_link
from pvsc_link.schemes.base import LinkOptions, Scheme
from pvsc_link.types import ChannelPoint, EncodedGop, Reception, Video

#: ``rates: all`` of a codec, as far as it has these QPs, unless it states ``default_rates``.
DEFAULT_RATES = (22, 27, 32, 37, 42, 47)


class SeparatedScheme(Scheme):
    """Codec + 5G LDPC (section IV-A, "Each traditional codec and LVC baseline").

    A GOP's bitstream is one transport of consecutive blocks. A frame is lost if a block that
    carries any of its bytes fails its CRC. From there to the end of the GOP the last good frame is
    shown, because no later frame can be decoded without the lost one. Session facts of the
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
        return replace(coded, fact_spans=self.codec.fact_spans(coded.payload))

    def stream(
        self,
        gops: Iterable[EncodedGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        coded_link = get_coded_link(mcs, point.channel, **asdict(link))
        shown: np.ndarray | None = None
        is_frozen = False
        for (gop, num_fact_bits), seed in zip(gops_as_sent(gops), seeds, strict=True):
            sent = coded_link.send(payload_bits(gop), point, seed)
            lost = frames_lost(gop.frame_num_bytes, sent.block_ok, sent.block_num_bits)
            details: dict[str, float] = {}
            if gop.num_decodable is not None:
                out_of_step = np.arange(len(lost)) >= gop.num_decodable
                details = {"out_of_step": int(np.sum(out_of_step))}
                lost |= out_of_step
            concealed = freeze(gop.frames_hat, ~lost, shown)
            shown = concealed.frames[-1]
            repeated = np.arange(len(lost)) >= len(lost) - concealed.frames_lost
            events = freeze_events(repeated, is_frozen)
            is_frozen = bool(repeated[-1])
            facts = coded_link.num_channel_uses(gop.num_bits + num_fact_bits)
            yield Reception(
                frames_hat=concealed.frames,
                num_channel_uses={
                    "source": sent.num_channel_uses - sent.num_pilots,
                    "pilot": sent.num_pilots,
                },
                frames_lost=concealed.frames_lost,
                frames_concealed=concealed.frames_lost,
                freeze_events=events,
                num_blocks=len(sent.block_ok),
                num_block_errors=int(np.sum(~sent.block_ok)),
                header_uses=facts - coded_link.num_channel_uses(gop.num_bits),
                status=self.status,
                note=gop.note,
                details=details,
                stats=sent.stats,
            )


def payload_bits(gop: EncodedGop) -> np.ndarray:
    """The GOP's bitstream as uint8 bits ``[num_bits]``, most significant bit of a byte first."""
    return np.unpackbits(np.frombuffer(gop.payload, np.uint8))
