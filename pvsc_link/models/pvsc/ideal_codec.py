"""The ideal branch of section II-C as a video codec: frames to a bitstream of a GOP and back.

    I frame   x --> F_ext --> y, z --> LatentCoder --> bits --> LatentCoder --> y_tilde --> G
    P frame   the same, with C_e and C_f of the frame before; the vectors of the extension are sent
              in front of y

F_tx and F_rx have no part in it: what PVSC's symbols carry is here carried by range-coded bits.

The bitstream: a header (layout and quality preset in one byte, number of frames in one, height and
width in two each), then for every frame the length of its message (7 bits a byte, the highest bit
set where more follow) and the message. The link's CRC finds transmission errors.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from pvsc_link.models.entropy.latent import LatentCoder
from pvsc_link.models.entropy.range_coder import MessageReader, SideInformationError
from pvsc_link.models.layers.base import Compiler, as_is
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.pvsc.steps import IntraSteps
from pvsc_link.types import InputError

#: Version of the bitstream: it grows when the same weights give other bits.
LAYOUT = 2
_HEADER = struct.Struct(">BBHH")
#: First byte and end of height and width in the header, which belong to a session.
SIZE_SPAN = (2, 6)
MAX_FRAMES, MAX_PRESETS, MAX_SIDE = 255, 16, 65535
_LONGEST = 5  # bytes of a length


@dataclass(frozen=True)
class CodedGop:
    """A GOP out of the codec.

    ``frames_hat`` : uint8 [num_frames, height, width, 3]; ``frame_num_bytes`` : of each frame,
    the first with the header; ``estimated_bits`` : of each frame, as training counts them.
    """

    payload: bytes
    frame_num_bytes: tuple[int, ...]
    frames_hat: np.ndarray
    estimated_bits: tuple[float, ...]


class IdealCodec:
    """Encoder and decoder of one pair of models.

    Parameters
    ----------
    intra, model : the I-frame and P-frame models; both ends need equal weights
    compiled : wraps each step once, e.g. ``tf.function``
    """

    def __init__(self, intra: IntraModel, model: PvscModel, compiled: Compiler = as_is):
        self.models = {True: intra, False: model}
        self.coders = {kind: LatentCoder(m, compiled) for kind, m in self.models.items()}
        self.intra_steps = IntraSteps(intra, model, compiled)
        self.steps = model.steps(compiled)
        self.show_intra, self.generate = compiled(self._show_intra), compiled(self._generate)

    def _show_intra(self, y_tilde: Any, omega_index: Any) -> Any:
        return self.models[True].generate(y_tilde, omega_index)

    def _generate(self, y_tilde: Any, omega_index: Any, context_f: Any, reference: Any) -> Any:
        model = self.models[False]
        feature = model.feature_generator(y_tilde, omega_index, context_f)
        frame = model.picture(feature, reference, omega_index)
        return model.kept(feature, frame), frame

    @property
    def padding_multiple(self) -> int:
        """Frames are coded at whole multiples of this height and width."""
        return max(model.config.padding_multiple for model in self.models.values())

    def encode(self, frames: np.ndarray, omega_index: int, size: tuple[int, int]) -> CodedGop:
        """One closed GOP: an I frame, then P frames.

        Input: ``frames`` : uint8 [num_frames, height, width, 3], padded; ``size`` : height and
        width before padding. Raises ``InputError`` for more than the header can say, or for
        weights that let the latents run away.
        """
        _check(len(frames), omega_index, size)
        session = _Session(self, omega_index, frames.shape[1:3], size)
        pieces, pictures, estimates = [], [], []
        for frame in frames:
            message, estimate = session.encode(frame)
            pieces.append(_length(len(message)) + message)
            pictures.append(session.picture())
            estimates.append(estimate)
        pieces[0] = _HEADER.pack(LAYOUT << 4 | omega_index, len(frames), *size) + pieces[0]
        sizes = tuple(map(len, pieces))
        return CodedGop(b"".join(pieces), sizes, np.stack(pictures), tuple(estimates))

    def decode(self, payload: bytes) -> Iterator[np.ndarray]:
        """The frames of a bitstream, uint8 [height, width, 3] each, as far as it can be read.

        Raises ``SideInformationError`` at the first thing that no encoder writes.
        """
        omega_index, num_frames, size = self._read_header(payload)
        multiple = self.padding_multiple
        padded = (-(-size[0] // multiple) * multiple, -(-size[1] // multiple) * multiple)
        session = _Session(self, omega_index, padded, size)
        place = _HEADER.size
        for _ in range(num_frames):
            message, place = _next_message(payload, place)
            session.decode(message)
            yield session.picture()
        if place != len(payload):
            raise SideInformationError(f"{len(payload) - place} bytes behind the last frame")

    def _read_header(self, payload: bytes) -> tuple[int, int, tuple[int, int]]:
        if len(payload) < _HEADER.size:
            raise SideInformationError(f"{len(payload)} bytes are no header")
        first, num_frames, height, width = _HEADER.unpack_from(payload)
        omega_index = first & 15
        known = min(model.config.num_omega for model in self.models.values())
        if first >> 4 != LAYOUT or omega_index >= known or 0 in (num_frames, height, width):
            raise SideInformationError(f"header {payload[: _HEADER.size].hex()} says nothing")
        return omega_index, num_frames, (height, width)


class _Contexts(NamedTuple):
    """C_e, C_f and what they were made of (``PvscModel.reference``)."""

    e: Any
    f: Any
    reference: Any


class _Session:
    """The buffer F of one end of a stream, moved on frame by frame."""

    def __init__(
        self, codec: IdealCodec, omega_index: int, padded: tuple[int, ...], size: tuple[int, int]
    ):
        self._codec, self._omega_index = codec, omega_index
        self._omega = ops.full((1,), omega_index, dtype="int32")
        self._grid, self._size = (padded[0] // 64, padded[1] // 64), size
        self._feature: Any = None
        self._frame: Any = None

    def encode(self, frame: np.ndarray) -> tuple[bytes, float]:
        """Message and estimated bits of the next frame: uint8 [height, width, 3], padded."""
        pixels = ops.convert_to_tensor(frame[None].astype(np.float32) / 255.0)
        codec, motion = self._codec, self._search(pixels)
        contexts = self._contexts(motion)
        if contexts is None:
            y, z_hat = codec.intra_steps.analyse(pixels, self._omega)
        else:
            y, z_hat = codec.steps.analyse(pixels, contexts.f, self._omega)
        z = np.rint(ops.convert_to_numpy(z_hat)[0]).astype(np.int32)
        coder = codec.coders[contexts is None]
        coded = coder.encode(y, z, self._parameters(z, contexts), self._omega_index, motion)
        self._advance(coded.y_tilde, contexts)
        return coded.message, coded.estimated_bits

    def decode(self, message: bytes) -> None:
        """Move on by the next frame's message."""
        reader, intra = MessageReader(message), self._feature is None
        coder = self._codec.coders[intra]
        z = coder.read_z(reader, self._grid, self._omega_index)
        contexts = self._contexts(self._read_motion(reader))
        self._advance(coder.read_y(reader, self._parameters(z, contexts)), contexts)

    def picture(self) -> np.ndarray:
        """The newest frame: uint8 [height, width, 3], without padding."""
        shown = ops.convert_to_numpy(ops.cast(self._frame, "float32"))[0]
        height, width = self._size
        levels = np.rint(255.0 * np.clip(np.nan_to_num(shown), 0.0, 1.0))
        return levels[:height, :width].astype(np.uint8)

    @property
    def _moves(self) -> bool:
        return self._feature is not None and self._codec.models[False].motion_prior is not None

    def _search(self, pixels: Any) -> np.ndarray | None:
        """Vectors [Hy, Wy, 2] of a P frame, where its model has any."""
        if not self._moves:
            return None
        model = self._codec.models[False]
        return model.search_motion(self._feature, pixels, [self._omega_index])[0]  # type: ignore[no-any-return]

    def _read_motion(self, reader: MessageReader) -> np.ndarray | None:
        if not self._moves:
            return None
        units = (4 * self._grid[0], 4 * self._grid[1])
        return self._codec.models[False].motion_prior.read(reader, units)  # type: ignore[no-any-return]

    def _contexts(self, motion: np.ndarray | None) -> "_Contexts | None":
        """Those of a P frame; None at the start of a GOP, which is an I frame."""
        if self._feature is None:
            return None
        vectors = None if motion is None else ops.convert_to_tensor(motion[None], "int32")
        reference = self._codec.steps.reference(self._feature, vectors)
        return _Contexts(*self._codec.steps.contexts(reference, self._omega), reference)

    def _parameters(self, z: np.ndarray, contexts: "_Contexts | None") -> Any:
        # Out of integers at both ends: the encoder's own z_hat may hold a negative zero.
        z_hat = ops.convert_to_tensor(z[None].astype(np.float32))
        if contexts is None:
            return self._codec.intra_steps.parameters(z_hat)
        return self._codec.steps.parameters(z_hat, contexts.e)

    def _advance(self, y_tilde: np.ndarray, contexts: "_Contexts | None") -> None:
        codec, latent = self._codec, ops.convert_to_tensor(y_tilde)
        if contexts is None:
            self._frame = codec.show_intra(latent, self._omega)
            self._feature, _ = codec.intra_steps.start(self._frame)
        else:
            self._feature, self._frame = codec.generate(
                latent, self._omega, contexts.f, contexts.reference
            )


def _check(num_frames: int, omega_index: int, size: tuple[int, int]) -> None:
    fits = num_frames <= MAX_FRAMES and omega_index < MAX_PRESETS and max(size) <= MAX_SIDE
    if num_frames and omega_index >= 0 and fits:
        return
    raise InputError(
        "GOP for the header of the bitstream",
        found=f"{num_frames} frames of {size[1]}x{size[0]}, quality preset {omega_index}",
        allowed=f"1 to {MAX_FRAMES} frames, sides up to {MAX_SIDE}, presets below {MAX_PRESETS}",
        remedy="Code a shorter GOP, smaller frames, or another preset.",
    )


def _length(number: int) -> bytes:
    """A length in 7 bits a byte, the lowest first; the highest bit says that more follow."""
    digits = [number & 127]
    while number := number >> 7:
        digits[-1] |= 128
        digits.append(number & 127)
    return bytes(digits)


def _next_message(payload: bytes, place: int) -> tuple[bytes, int]:
    """The message whose length stands at ``place``, and where the next length stands."""
    length = shift = 0
    for digit in payload[place : place + _LONGEST]:
        place += 1
        length |= (digit & 127) << shift
        shift += 7
        if digit < 128:
            break
    else:
        raise SideInformationError(f"no length of a message at byte {place}")
    if place + length > len(payload):
        raise SideInformationError(f"message of {length} bytes, {len(payload) - place} are left")
    return payload[place : place + length], place + length
