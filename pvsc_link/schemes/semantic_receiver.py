"""The receiving end of a semantic scheme: frames out of received bits and symbols, nothing else.

It shares with the transmitter what a session holds (weights, frame size, format of the rate map,
GOP structure) and what is scheduled (how many bytes, channel uses and frames a transport has). The
quality preset, the messages of every frame and the places of its symbols come out of the received
side stream.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np

from pvsc_link.codecs import freeze_events
from pvsc_link.models import DecodedFrame, Receiver, SideInfo, SideLostError
from pvsc_link.schemes import side_stream

#: (b_z, b_k, place in the GOP, quality preset of the GOP) to side information; raises
#: ``SideLostError`` for bytes that no transmitter writes.
SideReader = Callable[[bytes, bytes, int, int], SideInfo]


@dataclass(frozen=True)
class ReceivedTransport:
    """Side stream and symbols of one transport as they came out of the link.

    ``bits_hat`` : uint8 [num_bits]; ``block_ok``, ``block_num_bits`` : [num_blocks], CRC results
    and payload bits of its blocks; ``symbols_hat``, ``no_eff`` : [num_symbols], complex64 and
    float32; ``num_frames`` : frames that it holds; ``num_fact_bytes`` : session facts in front;
    ``in_time`` : [num_frames], bool, whether a frame kept its latency budget; None: all did;
    ``parts`` : names of the messages of a frame; ``arrived`` : [num_symbols], bool, which symbols
    arrived, of a network that loses packets; None: all did.
    """

    bits_hat: np.ndarray
    block_ok: np.ndarray
    block_num_bits: np.ndarray
    symbols_hat: np.ndarray
    no_eff: np.ndarray
    num_frames: int
    num_fact_bytes: int = 0
    in_time: np.ndarray | None = None
    parts: tuple[str, ...] = side_stream.PARTS
    arrived: np.ndarray | None = None

    def lost_symbols(self, sizes: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Of which frames a symbol is lost, and of which every symbol: bool [num_frames] each.

        Input: ``sizes`` : symbols of each frame. A frame without symbols loses none.
        """
        arrived = np.ones(sum(sizes), bool) if self.arrived is None else self.arrived
        of_frames = np.split(arrived, np.cumsum(sizes)[:-1])
        some = np.array([not one.all() for one in of_frames])
        return some, np.array([one.size > 0 and not one.any() for one in of_frames])

    def read(self) -> side_stream.SideRead:
        """The side stream; raises ``SideStreamError`` where its header did not arrive."""
        return side_stream.read(
            np.packbits(self.bits_hat).tobytes(),
            side_stream.intact_bytes(self.block_ok, self.block_num_bits),
            self.num_frames,
            len(self.symbols_hat),
            self.num_fact_bytes,
            self.parts,
        )


@dataclass(frozen=True)
class ShownGop:
    """What a receiver shows of a GOP, and what it lost.

    ``frames`` : one per frame, with its status; ``freeze_events`` : runs of repeated frames that
    begin in this GOP; ``size`` : height and width without padding; ``is_damaged`` : bool
    [num_frames], frames that are decoded without some of their symbols.
    """

    frames: list[DecodedFrame]
    freeze_events: int
    size: tuple[int, int]
    is_damaged: np.ndarray

    @property
    def frames_uint8(self) -> np.ndarray:
        """The frames without padding: uint8 RGB [num_frames, height, width, 3]."""
        height, width = self.size
        return np.stack([one.frame_uint8[:height, :width] for one in self.frames])

    @property
    def is_lost(self) -> np.ndarray:
        """Which frames were not decoded from what was sent for them: bool [num_frames]."""
        return np.array([frame.status != "ok" for frame in self.frames])

    @property
    def frames_concealed(self) -> int:
        """Frames from the first lost or damaged one on: later frames refer to it."""
        lost = self.is_lost | self.is_damaged
        return len(lost) - int(np.argmax(lost)) if lost.any() else 0

    @property
    def side_lost(self) -> int:
        """Frames whose side information did not arrive, or does not fit their symbols."""
        others = ("ok", "no_reference", LATE, SYMBOLS_LOST)
        return sum(frame.status not in others for frame in self.frames)


#: Status of a frame whose side information is lost, of one that missed its latency budget, and of
#: one that lost every symbol.
SIDE_LOST, LATE, SYMBOLS_LOST = "side_lost", "late", "symbols_lost"


class GopReceiver:
    """Decodes GOP after GOP of one session.

    Parameters
    ----------
    receiver : models.Receiver, which holds the buffers
    read_side : SideReader of the session
    presets : quality presets that the session's weights serve
    size : height and width without padding
    """

    def __init__(
        self,
        receiver: Receiver,
        read_side: SideReader,
        presets: Collection[int],
        size: tuple[int, int],
    ):
        self._receiver, self._read_side, self._presets = receiver, read_side, presets
        self._size = size
        self._is_frozen = False

    def receive(self, transports: Sequence[ReceivedTransport]) -> ShownGop:
        """The frames of a GOP, in the transports that carried them; never raises on damage.

        A lost frame shows the last one again. One whose transport lost its header is lost with
        all frames of that transport.
        """
        shown: list[DecodedFrame] = []
        self._is_damaged: list[bool] = []
        for transport in transports:
            shown += self._receive(transport, len(shown))
            self._is_damaged += [False] * (len(shown) - len(self._is_damaged))
        repeated = [frame.status != "ok" for frame in shown]
        events = freeze_events(repeated, self._is_frozen)
        self._is_frozen = repeated[-1]
        return ShownGop(shown, events, self._size, np.array(self._is_damaged, bool))

    def _receive(self, transport: ReceivedTransport, place: int) -> list[DecodedFrame]:
        """The frames of one transport, the first of which has this place in the GOP."""
        conceal, num_frames = self._receiver.conceal, transport.num_frames
        try:
            side = transport.read()
        except side_stream.SideStreamError:
            return [conceal(SIDE_LOST) for _ in range(num_frames)]
        if side.preset not in self._presets:
            return [conceal(SIDE_LOST) for _ in range(num_frames)]
        ends = np.cumsum([frame.num_symbols for frame in side.frames])[:-1]
        symbols = np.split(transport.symbols_hat, ends)
        variances = np.split(transport.no_eff, ends)
        in_time = np.ones(num_frames, bool) if transport.in_time is None else transport.in_time
        damaged, nothing = transport.lost_symbols([frame.num_symbols for frame in side.frames])
        self._is_damaged += damaged.tolist()
        shown = []
        for index, frame in enumerate(side.frames):
            z, k = (frame.messages[part] for part in side_stream.PARTS)
            if z is None or k is None:
                shown.append(conceal(SIDE_LOST))
            elif not in_time[index]:
                shown.append(conceal(LATE))
            elif nothing[index]:
                shown.append(conceal(SYMBOLS_LOST))
            else:
                given = symbols[index], variances[index]
                shown.append(self._decode(z, k, place + index, side.preset, *given))
        return shown

    def _decode(
        self,
        z: bytes,
        k: bytes,
        place: int,
        preset: int,
        symbols_hat: np.ndarray,
        no_eff: np.ndarray,
    ) -> DecodedFrame:
        try:
            side = self._read_side(z, k, place, preset)
        except SideLostError as error:
            return self._receiver.conceal(f"side_{error.part}_lost")
        return self._receiver.receive(side, symbols_hat, no_eff)
