"""A separated baseline: source codec -> 5G LDPC and QAM (``CodedLink``) -> the same codec."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict

import numpy as np

from pvsc_link.codecs.base import Codec
from pvsc_link.codecs.cache import cached_encode
from pvsc_link.codecs.concealment import frames_lost, freeze
from pvsc_link.link.coded_link import get_coded_link
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.types import ChannelPoint, EncodedGop, Reception, Video

#: ``rates: all``, as far as a codec has them (QP), unless it states ``default_rates`` itself.
DEFAULT_RATES = (22, 27, 32, 37, 42, 47)


class SeparatedScheme:
    """Codec + 5G LDPC (section IV-A, "Each traditional codec and LVC baseline").

    A GOP's bitstream is one transport of consecutive blocks. A frame is lost if a block that
    carries any of its bytes fails its CRC; from there to the end of the GOP the last good frame
    is shown (``concealment: freeze``), because no later frame can be decoded without it.
    """

    digital = True
    default_equalizer = "lmmse"
    default_csi_aware = True

    def __init__(self, codec: Codec):
        self.codec = codec
        self.name = codec.name
        self.variant = codec.variant
        self.allowed_rates = codec.allowed_rates
        common = tuple(r for r in DEFAULT_RATES if r in codec.allowed_rates)
        self.default_rates = common if codec.default_rates is None else tuple(codec.default_rates)
        self.weights_id = codec.weights_id
        self.status = codec.status

    def encode(self, video: Video, gop: int, rate: int) -> list[EncodedGop]:
        """One closed, self-contained ``EncodedGop`` per ``gop`` frames of the clip."""
        return [
            self.encode_gop(video, first, gop, rate) for first in range(0, len(video.frames), gop)
        ]

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> EncodedGop:
        """The GOP that begins at frame ``first`` of ``video``."""
        frames = video.frames[first : first + gop]
        return cached_encode(
            self.codec,
            frames,
            video.fps,
            rate,
            clip=video.name,
            first_frame=video.first_frame + first,
            history=video.frames[:first],
        )

    def transmit(
        self,
        gops: Sequence[EncodedGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Sequence[int],
    ) -> list[Reception]:
        """Send the real bits of every GOP at one MCS; see ``Scheme.transmit``."""
        return list(self.stream(gops, point, link, mcs, seeds))

    def stream(
        self,
        gops: Iterable[EncodedGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """As :meth:`transmit`, one GOP at a time; see ``Scheme.stream``."""
        coded_link = get_coded_link(mcs, point.channel, **asdict(link))
        shown: np.ndarray | None = None
        for gop, seed in zip(gops, seeds, strict=True):
            sent = coded_link.send(payload_bits(gop), point, seed)
            lost = frames_lost(gop.frame_num_bytes, sent.block_ok, sent.block_num_bits)
            details: dict[str, float] = {}
            if gop.num_decodable is not None:
                out_of_step = np.arange(len(lost)) >= gop.num_decodable
                details = {"out_of_step": int(np.sum(out_of_step))}
                lost |= out_of_step
            concealed = freeze(gop.frames_hat, ~lost, shown)
            shown = concealed.frames[-1]
            yield Reception(
                frames_hat=concealed.frames,
                num_channel_uses={"source": sent.num_channel_uses},
                frames_lost=concealed.frames_lost,
                num_blocks=len(sent.block_ok),
                num_block_errors=int(np.sum(~sent.block_ok)),
                status=self.status,
                note=gop.note,
                details=details,
            )


def payload_bits(gop: EncodedGop) -> np.ndarray:
    """The GOP's bitstream as uint8 bits ``[num_bits]``, most significant bit of a byte first."""
    return np.unpackbits(np.frombuffer(gop.payload, np.uint8))
