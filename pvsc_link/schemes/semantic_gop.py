"""A GOP out of the semantic transmitter: all that the channel cannot change, made once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pvsc_link.link.placed_symbols import places_of
from pvsc_link.schemes import side_stream
from pvsc_link.semantic import symbol_mapping
from pvsc_link.semantic.dvst.model import DvstModel
from pvsc_link.semantic.intra import IntraModel
from pvsc_link.semantic.model import PvscModel
from pvsc_link.semantic.streaming import Transmitter
from pvsc_link.types import Payload


@dataclass(frozen=True)
class SentFrame:
    """One frame on the air, and what its side information tells a receiver that gets it."""

    intra: bool
    payload: Payload
    symbols: np.ndarray  # complex64 [1, Hy, Wy, ceil(Kmax / 2)]: those of the payload, dense
    places: np.ndarray  # int32, like symbols: place of each in the symbol stream of the GOP
    rate_index: np.ndarray  # int32 [1, Hy, Wy]
    z: np.ndarray  # float32 [1, Hz, Wz, C_z]
    gain: np.ndarray  # float32 [], of the equalised symbols
    motion: np.ndarray | None  # int32 [1, Hy, Wy, 2]; None where a frame has no vectors
    preset: int  # quality preset


@dataclass(frozen=True)
class SentGop:
    """One GOP of a semantic scheme; ``command`` and ``version`` go into the manifest."""

    frames: tuple[SentFrame, ...]
    messages: list[bytes]  # b_z and b_k of every frame, in the order of the side stream
    side_stream: bytes
    size: tuple[int, int]  # height and width without padding
    omega_index: int
    command: str
    version: str

    @property
    def side_bits(self) -> np.ndarray:
        """The side stream: uint8 [num_bits]."""
        return np.unpackbits(np.frombuffer(self.side_stream, np.uint8))

    @property
    def num_symbols(self) -> dict[str, int]:
        """Channel uses of the symbols of P frames and of I frames."""
        count = {"y": 0, "intra": 0}
        for frame in self.frames:
            count["intra" if frame.intra else "y"] += frame.payload.symbols.size
        return count


class GopEncoder:
    """Runs a transmitter over GOPs and reads back what it says to the receiver.

    Parameters: the models, a transmitter of theirs, and the frame size without padding.
    """

    def __init__(
        self,
        intra: IntraModel,
        model: PvscModel | DvstModel,
        transmitter: Transmitter,
        size: tuple[int, int],
    ):
        self._models = {True: intra, False: model}
        self._transmitter, self._size = transmitter, size

    def encode(self, frames: np.ndarray, command: str, version: str) -> SentGop:
        """One GOP: an I frame, then P frames.

        Input: ``frames`` : uint8 [num_frames, height, width, 3], of the transmitter's size.
        """
        payloads = [self._transmitter.encode(frame, intra=t == 0) for t, frame in enumerate(frames)]
        messages = [p.side_bits[part] for p in payloads for part in side_stream.PARTS]
        stream = side_stream.write(messages)
        read = iter(side_stream.read(stream, len(messages)))  # as a receiver does that gets it all
        sent, first = [], 0
        for position, payload in enumerate(payloads):
            side = {part: next(read) for part in side_stream.PARTS}
            sent.append(self._sent_frame(payload, side, position, first))
            first += payload.symbols.size
        omega_index = self._transmitter.omega_index
        return SentGop(tuple(sent), messages, stream, self._size, omega_index, command, version)

    def _sent_frame(
        self, payload: Payload, side: dict[str, bytes], position: int, first: int
    ) -> SentFrame:
        end, intra = self._transmitter, position == 0
        coding = end.coding(position)
        z, motion = end.hyper_latent(side["z"], coding)
        rate_index = end.rate_map(side["k"], z, coding)
        gain = np.asarray(end.gain(side["k"], intra=intra))
        rate_set = self._models[intra].config.rate_set
        symbols, places = _dense(payload.symbols, rate_index, rate_set, first)
        floats = z.astype(np.float32)
        return SentFrame(
            intra,
            payload,
            symbols[None],
            places[None],
            rate_index[None],
            floats[None],
            gain,
            None if motion is None else motion[None],
            coding.preset,
        )


def _dense(
    packed: np.ndarray, rate_index: np.ndarray, rate_set: Sequence[int], first: int
) -> tuple[np.ndarray, np.ndarray]:
    """Packed symbols in their units, and the place of each in the stream."""
    sent = np.asarray(symbol_mapping.sent_mask(rate_index, tuple(rate_set))) > 0
    symbols = np.zeros(sent.shape, np.complex64)
    symbols[sent] = packed
    return symbols, places_of(sent, first)
