"""Analog symbols with digital side information over the link: what all semantic schemes share.

    side information --> CRC, LDPC, QAM --+--> channel --> side information --+--> receiver of the
    symbols ------------------------------+--> channel, equaliser ------------+    scheme --> frames

The side stream of a transport (a GOP, or a frame) and the symbols of its frames follow each other
without a gap in one fading process (``link.Air``), or in the packets of one GOP
(``link.PacketAir``).
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Protocol

import numpy as np

from pvsc_link.link import (
    Adaptation,
    Air,
    ChannelFunction,
    CodedLink,
    PacketAir,
    PacketLink,
    SymbolReception,
    Transport,
    find_channel,
    get_channel_function,
    open_air,
    open_link,
)
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.base import (
    CODED_CSI_AWARE,
    CODED_EQUALIZER,
    LinkOptions,
    packet_details,
)
from pvsc_link.schemes.latency import Clock
from pvsc_link.schemes.semantic_receiver import ReceivedTransport
from pvsc_link.types import ChannelPoint, LinkStats, Payload, Reception


class Shown(Protocol):
    """What a receiver shows of a GOP, and what it lost (``semantic_receiver.ShownGop``)."""

    @property
    def frames_uint8(self) -> np.ndarray:
        """uint8 RGB [num_frames, height, width, 3], without padding."""

    @property
    def is_lost(self) -> np.ndarray:
        """Which frames were not decoded from what was sent for them: bool [num_frames]."""

    @property
    def frames_concealed(self) -> int:
        """Frames that are not what a receiver without losses shows."""

    @property
    def freeze_events(self) -> int:
        """Runs of repeated frames that begin in this GOP."""

    @property
    def side_lost(self) -> int:
        """Frames whose side information did not arrive, or does not fit their symbols."""


class SymbolReceiver(Protocol):
    """The receiving end of a session: the transports of one GOP after another."""

    def receive(self, transports: Sequence[ReceivedTransport]) -> Shown: ...


@dataclass(frozen=True)
class Outgoing:
    """One transport: its side stream goes first, then the symbols of its frames.

    ``is_scheduled`` : whether both ends know quality preset and number of symbols without a header,
    so that frames without side information have no side stream.
    """

    omega_index: int
    frames: tuple[Payload, ...]
    session_facts: bytes  # empty where they are not sent
    is_scheduled: bool = False

    @property
    def side_bits(self) -> np.ndarray:
        """The side stream: uint8 [num_bits]."""
        stream = self.session_facts
        if not self.is_scheduled:
            stream = side_stream.write(self.omega_index, self.frames, self.session_facts)
        return np.unpackbits(np.frombuffer(stream, np.uint8))

    @property
    def symbols(self) -> np.ndarray:
        """The symbols of its frames without a gap: complex64 [num_symbols]."""
        return np.concatenate([frame.symbols for frame in self.frames])


def outgoing_transports(
    frames: Sequence[Payload],
    omega_index: int,
    session_facts: bytes,
    transport: Transport,
    is_scheduled: bool = False,
) -> list[Outgoing]:
    """What is sent of a GOP one after another: all frames at once, or frame by frame.

    Parameters: ``session_facts`` : sent with the first transport where the link counts them.
    """
    step = 1 if transport.transport_unit == "frame" else len(frames)
    starts = range(0, len(frames), step)
    facts = [session_facts if transport.count_headers else b"", *[b""] * len(starts)]
    return [
        Outgoing(omega_index, tuple(frames[start : start + step]), of_first, is_scheduled)
        for start, of_first in zip(starts, facts, strict=False)
    ]


def send_gop(
    outgoing: Sequence[Outgoing],
    point: ChannelPoint,
    link: LinkOptions,
    mcs: Adaptation,
    seed: int,
    receiver: SymbolReceiver,
    clock: Clock,
    *,
    num_symbols: Mapping[str, int],
    status: str = "ok",
    note: str = "",
) -> Reception:
    """One GOP over the channel and through the receiver.

    Parameters: ``outgoing`` : its transports; ``mcs`` : of the side streams; ``seed`` : of fading,
    CSI error and noise; ``num_symbols`` : its symbols by finer part, for the columns of the table;
    ``status``, ``note`` : of the reception.
    """
    side_options = asdict(side_link_options(link))

    def next_link() -> CodedLink | PacketLink:
        return open_link(mcs.mcs, point, **side_options)

    is_packets = find_channel(point.channel).is_packets
    channel = None
    if not is_packets:
        channel = get_channel_function(point.channel, link.equalizer, link.csi_aware)
    num_times = 2 if link.transport.symbol_retransmission == "mrc" else 1
    first_link = next_link()
    # With an adaptation that is not known before; interleaving has none (``sweep.plan``).
    is_permuted = link.transport.interleaving != "none"
    num_uses = _num_uses(outgoing, first_link, num_times) if is_permuted else None
    air = open_air(point, seed, link.transport.interleaving, num_uses)
    sides, symbols, received, latency = [], [], [], []
    # A link is made when its transport is sent: reports may have changed the MCS by then.
    links = itertools.chain([first_link], iter(next_link, None))
    for transport, side_link in zip(outgoing, links, strict=False):
        symbol_uses = num_times * transport.symbols.size
        left = clock.uses_left(len(transport.frames))
        deadline = None if left is None else left - symbol_uses
        side = air.send_bits(side_link, transport.side_bits, deadline)  # type: ignore[arg-type]
        mcs.report(side.first_ok)
        sent = send_symbols(air, channel, transport.symbols, num_times)
        uses = side.num_channel_uses - side.num_pilots + symbol_uses
        latency_ms = clock.sent(len(transport.frames), uses, side.num_rounds)
        sides.append(side)
        symbols.append(sent)
        latency.append(latency_ms)
        received.append(
            ReceivedTransport(
                side.bits_hat,
                side.block_ok,
                side.block_num_bits,
                sent.symbols_hat,
                sent.no_eff,
                len(transport.frames),
                len(transport.session_facts),
                clock.in_time(latency_ms),
                tuple(transport.frames[0].side_bits),
                sent.arrived,
            )
        )
    shown = receiver.receive(received)
    side_pilots = sum(side.num_pilots for side in sides)
    side_uses = sum(side.num_channel_uses for side in sides) - side_pilots
    source_uses = sum(sent.num_channel_uses for sent in symbols)
    pilots, parts = side_pilots, {}
    if not is_packets:
        with_pilots = source_uses
        source_uses = num_times * sum(transport.symbols.size for transport in outgoing)
        pilots += with_pilots - source_uses
        parts = {part: num_times * uses for part, uses in num_symbols.items()}
        frames = [frame for transport in outgoing for frame in transport.frames]
        parts |= side_stream.shares(frames, side_uses)
    block_ok = np.concatenate([side.block_ok for side in sides])
    details: dict[str, float] = {"side_lost": shown.side_lost, **packet_details(air)}
    if link.transport.harq is not None:
        details["num_retransmissions"] = sum(side.num_retransmissions for side in sides)
    return Reception(
        frames_hat=shown.frames_uint8,
        num_channel_uses={"source": source_uses, "side": side_uses, "pilot": pilots},
        frames_lost=int(shown.is_lost.sum()),
        frames_concealed=shown.frames_concealed,
        freeze_events=shown.freeze_events,
        num_blocks=len(block_ok),
        num_block_errors=int(np.sum(~block_ok)),
        header_uses=_fact_uses(outgoing[0], first_link),
        latency_ms=() if is_packets else tuple(np.concatenate(latency).tolist()),
        status=status,
        note=note,
        finer_channel_uses=parts,
        details=details,
        stats=LinkStats.joined(sent.stats for sent in symbols),
    )


def _num_uses(
    outgoing: Iterable[Outgoing], side_link: CodedLink | PacketLink, num_times: int
) -> int:
    """Channel uses of all transports of a GOP, without pilots and repeated blocks.

    Parameters: ``num_times`` : how often symbols are sent.
    """
    return sum(
        side_link.num_channel_uses(one.side_bits.size) + num_times * one.symbols.size
        for one in outgoing
    )


def send_symbols(
    air: Air | PacketAir, channel: ChannelFunction | None, symbols: np.ndarray, num_times: int
) -> SymbolReception:
    """Symbols sent ``num_times``, each time behind the time before, and combined.

    Maximum ratio: receptions are weighted with the inverse of their noise variances, which add up:
    x_hat = no_eff sum(x_hat_i / no_i), 1 / no_eff = sum(1 / no_i). A frame whose rate map is all
    zero has no symbols, and nothing is sent.
    """
    if not symbols.size:
        return SymbolReception(symbols, np.zeros(0, np.float32), 0, LinkStats())
    parts = [air.send_symbols(channel, symbols) for _ in range(num_times)]  # type: ignore[arg-type]
    if num_times == 1:
        return parts[0]
    weights = [1.0 / np.maximum(part.no_eff, _MIN_VARIANCE) for part in parts]
    no_eff = 1.0 / sum(weights)
    weighted = (w * part.symbols_hat for w, part in zip(weights, parts, strict=True))
    return SymbolReception(
        (no_eff * sum(weighted)).astype(np.complex64),
        no_eff.astype(np.float32),
        sum(part.num_channel_uses for part in parts),
        LinkStats.joined(part.stats for part in parts),
    )


#: Least noise variance of a symbol that is combined with others.
_MIN_VARIANCE = 1e-12


def _fact_uses(first: Outgoing, side_link: CodedLink | PacketLink) -> int:
    """Channel uses that session facts take in the first transport of a GOP, sent or not."""
    others = first.side_bits.size - 8 * len(first.session_facts)
    with_facts = side_link.num_channel_uses(others + 8 * side_stream.NUM_FACT_BYTES)
    return with_facts - side_link.num_channel_uses(others)


def side_link_options(link: LinkOptions) -> LinkOptions:
    """The bit link of the side information: equaliser and LLRs as the baselines have them.

    "The same configuration as the corresponding baseline": only the symbols' own receiver is
    the semantic scheme's choice.
    """
    return replace(link, equalizer=CODED_EQUALIZER, csi_aware=CODED_CSI_AWARE)
