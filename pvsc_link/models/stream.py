"""Transmitter and receiver of a stream, frame by frame, for PVSC, its extension and DVST (Fig. 5).

    frame --> Transmitter --> symbols, b_z, b_k
    symbols_hat, b_z, b_k (where they arrived) --> Receiver --> frame as shown

Each end owns its buffers: F and C_s. An I frame resets them. The transmitter feeds its own as if
the channel were ideal (eq. 22 to 24), through the very steps that the receiver runs, so that over a
noise-free channel both ends hold equal numbers. Memory does not grow with the number of frames.

Example::

    intra, pvsc = load_models("pvsc_mc_small", find_weights("pvsc_mc_small"))
    session = {"height": 64, "width": 128, "omega_index": 2}
    transmitter, receiver = Transmitter(intra, pvsc, **session), Receiver(intra, pvsc, **session)
    for t, frame in enumerate(np.random.rand(3, 64, 128, 3).astype("float32")):
        payload = transmitter.encode(frame, intra=t == 0)
        noise = 0.1 * np.random.randn(payload.symbols.size)
        shown = receiver.decode(payload.symbols + noise, payload.side_bits, intra=t == 0)
        print(shown.status, payload.symbols.size, len(payload.side_bits["z"]))
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.entropy import side_information
from pvsc_link.models.entropy.side_information import SideInformationError
from pvsc_link.models.layers import rate_adaptive
from pvsc_link.models.layers.base import Compiler, as_is
from pvsc_link.models.presets import SIDE_FORMATS
from pvsc_link.models.pvsc.model import IntraModel, missing_noise
from pvsc_link.models.pvsc.steps import (
    Buffers,
    CodedFrame,
    IntraSteps,
    RateChoice,
    StreamModel,
    with_gradient_of,
)
from pvsc_link.models.pvsc_mc.config import check_refresh, preset_at
from pvsc_link.types import InputError, Payload


class StreamSteps:
    """The steps of both kinds of frame of a pair of models, each compiled once.

    Transmitters and receivers of many sessions may share one object, and with it its traces.

    Parameters: ``intra``, ``model`` : the I-frame and the P-frame model; ``compiled`` : wraps each
    step, for instance ``tf.function``; ``quantiser`` : ``round``, or ``ste`` for gradients.
    """

    def __init__(
        self,
        intra: IntraModel,
        model: StreamModel,
        compiled: Compiler = as_is,
        quantiser: str = "round",
    ):
        self.models: dict[bool, Any] = {True: intra, False: model}
        self.intra = IntraSteps(intra, model, compiled, quantiser)
        self.predicted = model.steps(compiled, quantiser)


@dataclass(frozen=True)
class SideInfo:
    """Decoded side information of one frame; arrays with a batch axis of one."""

    intra: bool
    preset: int  # quality preset
    z_hat: np.ndarray  # float32 [1, Hz, Wz, C_z], whole numbers
    motion: np.ndarray | None  # int32 [1, Hy, Wy, 2]; None for a frame without vectors
    rate_index: np.ndarray  # int32 [1, Hy, Wy]
    gain: np.float32  # factor of the equalised symbols


class SideLostError(SideInformationError):
    """``part`` ("z" or "k") of the side information of a frame is missing or damaged."""

    def __init__(self, part: str, reason: object):
        super().__init__(f"b_{part}: {reason}")
        self.part = part


@dataclass(frozen=True)
class _Coding:
    """How a frame is coded: what both ends know of it from its place in the GOP."""

    intra: bool
    preset: int
    row: int  # of the statistics
    hyper_tables: side_information.HyperTables


class _StreamEnd:
    """Models, session parameters and buffers of one end."""

    def __init__(
        self,
        intra: IntraModel,
        model: StreamModel,
        *,
        height: int,
        width: int,
        omega_index: int = 0,
        side_format: str = "png",
        refresh_every: int = 0,
        steps: StreamSteps | None = None,
    ):
        _check_session(intra, model, height, width, omega_index, side_format)
        check_refresh(refresh_every)
        self.height, self.width = height, width
        self.omega_index, self.side_format = omega_index, side_format
        self.refresh_every = refresh_every
        self._steps = steps or StreamSteps(intra, model)
        self._models: dict[bool, Any] = {True: intra, False: model}
        self._codings: dict[tuple[bool, int], _Coding] = {}
        self._place = 0  # of the newest frame in its GOP
        #: F, [1, height / 8, width / 8, channels_feature], or the previous picture; None at first.
        self.feature: Any = None
        #: C_s, [1, Hy, Wy, embed_dim], or None.
        self.state: Any = None

    def preset_at(self, place: int, omega_index: int | None = None) -> int:
        """Quality preset of the frame at ``place`` of its GOP (0: the I frame).

        Parameters: ``omega_index`` : quality preset of the GOP; None: that of the session.
        """
        num_presets = self._models[False].config.num_omega
        omega_index = self.omega_index if omega_index is None else omega_index
        return preset_at(omega_index, place, self.refresh_every, num_presets)

    def _coding(self, place: int, omega_index: int | None = None) -> _Coding:
        key = place == 0, self.preset_at(place, omega_index)
        if key not in self._codings:
            intra, preset = key
            row = self._models[intra].config.row(preset)
            self._codings[key] = _Coding(intra, preset, row, self._models[intra].hyper_tables(row))
        return self._codings[key]

    def _next(self, intra: bool) -> int:
        """Place in its GOP of the frame that follows the newest one."""
        self._place = 0 if intra else self._place + 1
        return self._place

    def read_side(
        self,
        side_bits: Mapping[str, bytes | None],
        place: int,
        omega_index: int | None = None,
    ) -> SideInfo:
        """Side information of the frame at ``place`` of its GOP, out of b_z ("z") and b_k ("k").

        Parameters: ``omega_index`` : quality preset of the GOP; None: that of the session.
        Raises ``SideLostError`` for a part that is absent or None, or that no encoder has written.
        """
        coding = self._coding(place, omega_index)
        model = self._models[coding.intra]
        with _part("z"):
            shape = (self.height // 64, self.width // 64)
            tables = coding.hyper_tables, self._motion_tables(coding.intra)
            message = _present(side_bits, "z")
            z, motion = side_information.decode_hyper_latent(message, shape, *tables)
        with _part("k"):
            gain, message = self._gain(_present(side_bits, "k"), coding.intra)
            rate_index = side_information.decode_rate_map(
                message,
                model.config.rate_map_shape(self.height, self.width),
                len(model.config.rate_set),
                self.side_format,
                self._rate_tables(z, coding),
            )
        return SideInfo(
            coding.intra,
            coding.preset,
            z[None].astype(np.float32),
            None if motion is None else motion[None],
            rate_index[None],
            gain,
        )

    def _motion_tables(self, intra: bool) -> Any:
        return None if intra else self._models[False].motion_prior

    def _rate_tables(self, z: np.ndarray, coding: _Coding) -> side_information.MapTables | None:
        """Tables of the rate map, which only the format ``range`` needs."""
        if self.side_format != "range":
            return None
        return self._models[coding.intra].rate_map_prior.tables(z, coding.row)

    def write_side(self, side: SideInfo, place: int) -> dict[str, bytes]:
        """b_z ("z") and b_k ("k") of the frame at ``place`` of its GOP, for ``read_side``."""
        coding = self._coding(place)
        model = self._models[coding.intra]
        z, rate_index = side.z_hat[0].astype(np.int32), side.rate_index[0].astype(np.int32)
        moved = None
        if side.motion is not None:
            moved = self._motion_tables(coding.intra).parts(side.motion[0])
        b_k = side_information.encode_rate_map(
            rate_index,
            len(model.config.rate_set),
            self.side_format,
            self._rate_tables(z, coding),
        )
        if model.sends_gain:
            b_k = bytes([int(rate_adaptive.gain_index(side.gain))]) + b_k
        return {"z": side_information.encode_hyper_latent(z, coding.hyper_tables, moved), "k": b_k}

    def _gain(self, message: bytes, intra: bool) -> tuple[np.float32, bytes]:
        """The gain out of the first byte of b_k, where this kind of frame has one; and the rest."""
        if not self._models[intra].sends_gain:
            return np.float32(1.0), message
        if not message:
            raise SideInformationError("empty")
        gain = rate_adaptive.gain_of(message[0])
        return np.float32(ops.convert_to_numpy(gain)), message[1:]


class FrameEncoder:
    """A frame from its pixels to its symbols, and the buffers that it leaves the transmitter.

    The transmitter decodes what it sends as if the channel were ideal (eq. 22 to 24). In the
    ``CodedFrame`` that comes out, ``gain``, [batch], float32, is what the receiver will know of
    it: 1 where a model sends none; and nothing is ``kept``.

    Parameters
    ----------
    steps : StreamSteps
    compiled : wraps each of the two functions, for instance ``tf.function``
    """

    def __init__(self, steps: StreamSteps, compiled: Compiler = as_is):
        self._steps = steps
        self.intra = compiled(self._intra)
        self.predicted = compiled(self._predicted)

    def _intra(
        self, frame: Any, omega_index: Any, choose: RateChoice | None = None
    ) -> tuple[CodedFrame, Any, Any, Any]:
        """(coded, picture, F, C_s) of an I frame, [batch, height, width, 3], float32 in [0, 1]."""
        steps = self._steps.intra
        coded = _with_known_gain(steps.encode(frame, None, omega_index, choose))
        picture = steps.decode(*_as_sent(coded), None, omega_index, coded.kept)
        return (coded._replace(kept=None), picture, *steps.start(picture))

    def _predicted(
        self,
        frame: Any,
        omega_index: Any,
        motion: Any,
        feature: Any,
        state: Any,
        choose: RateChoice | None = None,
    ) -> tuple[CodedFrame, Any, Any]:
        """(coded, F, C_s) of a P frame, from the buffers F and C_s of the frame before."""
        steps = self._steps.predicted
        buffers: Buffers = steps.reference(feature, motion), state
        coded = _with_known_gain(steps.encode(frame, buffers, omega_index, choose))
        following = steps.decode(*_as_sent(coded), buffers, omega_index, coded.kept)
        return (coded._replace(kept=None), *following)


def _with_known_gain(coded: CodedFrame) -> CodedFrame:
    """The gain as one byte says it."""
    if coded.gain is None:
        return coded._replace(gain=ops.ones((ops.shape(coded.symbols)[0],)))
    known = rate_adaptive.gain_of(rate_adaptive.gain_index(coded.gain))
    return coded._replace(gain=with_gradient_of(known, coded.gain))


def _as_sent(coded: CodedFrame) -> tuple[Any, Any, Any]:
    """What a step ``decode`` is given of a frame that meets no channel."""
    return coded.gain[:, None, None, None] * coded.symbols, coded.rate_index, coded.z_hat


class Transmitter(_StreamEnd):
    """Frames in, symbols and side bits out (section II-B2, and its buffer update, II-B4).

    Parameters
    ----------
    intra, model : the I-frame and P-frame models; both ends need equal weights
    height, width : coded frame size in pixels, multiples of ``padding_multiple``
    omega_index : quality preset, below ``num_omega``
    side_format : of b_k, ``png`` (the paper's), ``payload`` or ``range`` (``RateMapTables.choose``)
    refresh_every : every n-th P frame of a GOP is sent finer (``pvsc_mc.config.preset_at``), so
        that what later frames are predicted from does not decay; 0: none (the paper's)
    steps : StreamSteps of these models, to share compiled steps; None: eager steps

    Raises ``InputError`` for any of these out of range.
    """

    def __init__(self, *models: Any, **session: Any):
        super().__init__(*models, **session)
        self._encoder = FrameEncoder(self._steps)
        self._intra_frame: Any = None  # the picture while an I frame is the newest
        self._shown_with: Any = None  # quality preset of the newest frame, [1], int32

    def encode(self, frame: np.ndarray, *, intra: bool) -> Payload:
        """Code one frame and update the transmitter's buffers.

        Parameters: ``intra`` : an I frame, which starts a GOP; else a P frame.
        Input: ``frame`` : [height, width, 3], uint8, or float32 in [0, 1].
        Output: Payload : unit-power symbols, and ``side_bits`` "z" and "k".
        Raises ``InputError`` for a bad frame, or a P frame before any I frame.
        """
        pixels = ops.convert_to_tensor(_checked_frame(frame, self.height, self.width)[None])
        if not intra:
            self._require_reference()
        coding = self._coding(self._next(intra))
        omega, choose = _omega(coding.preset), self._choice_of_rates(coding)
        motion = picture = None
        if intra:
            coded, picture, feature, state = self._encoder.intra(pixels, omega, choose)
        else:
            motion = self._models[False].search_motion(self.feature, pixels, [coding.preset])
            given = _as_vectors(motion), self.feature, self.state
            coded, feature, state = self._encoder.predicted(pixels, omega, *given, choose)
        payload = self._payload(coded, motion, coding)
        self._shown_with, self._intra_frame = omega, picture
        self.feature, self.state = feature, state
        return payload

    def frame_hat(self) -> np.ndarray:
        """The newest frame as it arrives over an ideal channel: float32 [height, width, 3].

        It is computed when asked for: the buffers do not need the picture of a P frame.
        """
        self._require_reference()
        frame = self._intra_frame
        if frame is None:
            frame = self._steps.predicted.show(self.feature, self._shown_with)
        return np.clip(ops.convert_to_numpy(frame)[0], 0.0, 1.0)

    def _choice_of_rates(self, coding: _Coding) -> Any:
        """``steps.RateChoice``; None: the rate nearest to what eq. 14 asks for.

        The extension with motion also counts the bits of the map where these have tables.
        """
        prior, weighs = self._models[coding.intra].rate_map_prior, self._models[False].weighs_maps
        if self.side_format != "range" or not weighs or prior.choose is None:
            return None
        return partial(prior.choose, preset_index=coding.row)

    def _payload(self, coded: CodedFrame, motion: np.ndarray | None, coding: _Coding) -> Payload:
        """Packed symbols and side bitstreams of a frame."""
        z_hat, rate_index, symbols, gain = (
            ops.convert_to_numpy(one)
            for one in (coded.z_hat, coded.rate_index, coded.symbols, coded.gain)
        )
        side = SideInfo(coding.intra, coding.preset, z_hat, motion, rate_index, gain[0])
        rate_set = self._models[coding.intra].config.rate_set
        packed = rate_adaptive.pack(symbols[0], rate_index[0], rate_set)
        bits = 0.0 if motion is None else self._motion_tables(coding.intra).num_bits(motion[0])
        return Payload(packed, self.write_side(side, self._place), bits)

    def _require_reference(self) -> None:
        if self.feature is None:
            raise InputError(
                "no reference frame",
                found="a P frame, or its picture, before any I frame",
                allowed="an I frame first",
                remedy="Start every GOP with encode(frame, intra=True).",
            )


def clip_picture(frame: Any) -> Any:
    """Values in [0, 1], without a gradient for those that lie outside."""
    return ops.clip(frame, 0.0, 1.0)


class FrameDecoder:
    """A frame from its symbols and side information to its picture, one function per frame kind.

    Parameters
    ----------
    steps : StreamSteps
    compiled : wraps each of the two functions, for instance ``tf.function``
    clip : makes the picture that is shown out of the network's, values in [0, 1]
    """

    def __init__(
        self,
        steps: StreamSteps,
        compiled: Compiler = as_is,
        clip: Callable[[Any], Any] = clip_picture,
    ):
        self._steps, self._clip = steps, clip
        self.intra = compiled(self._intra)
        self.predicted = compiled(self._predicted)

    def _intra(
        self,
        reals: Any,
        rate_index: Any,
        z_hat: Any,
        gain: Any,
        omega_index: Any,
        no_eff: Any = None,
    ) -> tuple[Any, Any, Any]:
        """(picture, F, C_s) of an I frame.

        Input: ``reals`` : [1, Hy, Wy, Kmax], float32, equalised symbols in their units;
        ``no_eff`` : like ``reals``, their noise variances, for models with ``noise_input``;
        ``omega_index`` : [1], int32; all else as in ``SideInfo``.
        """
        steps = self._steps.intra
        frame = steps.decode(gain * reals, rate_index, z_hat, None, omega_index, no_eff=no_eff)
        return (self._clip(frame), *steps.start(frame))

    def _predicted(
        self,
        reals: Any,
        rate_index: Any,
        z_hat: Any,
        gain: Any,
        omega_index: Any,
        motion: Any,
        feature: Any,
        state: Any,
        no_eff: Any = None,
    ) -> tuple[Any, Any, Any]:
        """(picture, F, C_s) of a P frame, from the buffers F and C_s of the frame before."""
        steps = self._steps.predicted
        buffers: Buffers = steps.reference(feature, motion), state
        feature, state = steps.decode(
            gain * reals, rate_index, z_hat, buffers, omega_index, no_eff=no_eff
        )
        return self._clip(steps.show(feature, omega_index)), feature, state


#: What a receiver may report. All but ``ok`` mean: last frame repeated, buffers kept.
STATUSES = ("ok", "side_z_lost", "side_k_lost", "symbols_mismatch", "no_reference")
GREY = 0.5  # shown as long as nothing has been decoded


@dataclass(frozen=True)
class DecodedFrame:
    """One frame as the receiver shows it: [height, width, 3] in [0, 1], and its status.

    It is float32, or the half precision in which the receiver computes.
    """

    frame: np.ndarray
    status: str

    @property
    def frame_uint8(self) -> np.ndarray:
        """The frame in 8 bits, uint8 [height, width, 3]."""
        scaled = np.nan_to_num(self.frame) * self.frame.dtype.type(
            255.0
        )  # as the receiver computes
        return np.rint(scaled.astype(np.float32)).astype(np.uint8)


class Receiver(_StreamEnd):
    """Equalised symbols and side bits in, frames out (section II-B3).

    A frame whose side information is lost is concealed: the last frame is shown again, grey before
    the first frame, and the buffers stay. The paper leaves this open.

    Parameters
    ----------
    intra, model, height, width, omega_index, side_format, refresh_every, steps : as
        ``Transmitter``; the session parameters must be those of the transmitter
    decoder : FrameDecoder of these models, to share compiled functions; None: of ``steps``
    """

    def __init__(self, *models: Any, decoder: FrameDecoder | None = None, **session: Any):
        super().__init__(*models, **session)
        self._decoder = decoder or FrameDecoder(self._steps)
        self._last = np.full((self.height, self.width, 3), GREY, np.float32)

    def decode(
        self,
        symbols_hat: np.ndarray,
        side_bits: Mapping[str, bytes | None],
        *,
        intra: bool,
        no_eff: np.ndarray | None = None,
    ) -> DecodedFrame:
        """Decode one frame from what a link delivers; never raises on what a channel may do.

        Parameters: ``intra`` : as at the transmitter (the GOP structure is known to both).
        Input: ``symbols_hat`` : [num_symbols], complex; ``side_bits`` : b_z and b_k under "z" and
        "k", None or absent where the link lost them; ``no_eff`` : [num_symbols], float, noise
        variances after the equaliser, which only models with ``noise_input`` need.
        Output: DecodedFrame with one of ``STATUSES``. Raises ``InputError`` where such a model is
        given none.
        """
        place = self._next(intra)
        if not intra and self.feature is None:
            return self.conceal("no_reference")
        try:
            side = self.read_side(side_bits, place)
        except SideLostError as error:
            return self.conceal(f"side_{error.part}_lost")
        return self.receive(side, symbols_hat, no_eff)

    def receive(
        self, side: SideInfo, symbols_hat: np.ndarray, no_eff: np.ndarray | None = None
    ) -> DecodedFrame:
        """Decode one frame whose side information has arrived: ``decode`` without reading it."""
        if not side.intra and self.feature is None:
            return self.conceal("no_reference")
        config = self._models[side.intra].config
        rate_set = config.rate_set
        symbols = np.asarray(symbols_hat, np.complex64).ravel()
        expected = rate_adaptive.num_symbols(side.rate_index, rate_set)
        if symbols.size != expected or not np.isfinite(symbols).all():
            return self.conceal("symbols_mismatch")
        reals = rate_adaptive.unpack(symbols, side.rate_index, rate_set)
        known: tuple[Any, ...] = (
            *(ops.convert_to_tensor(reals), ops.convert_to_tensor(side.rate_index, "int32")),
            *(ops.convert_to_tensor(side.z_hat), ops.convert_to_tensor(side.gain)),
            _omega(side.preset),
        )
        if not side.intra:
            known += (_as_vectors(side.motion), self.feature, self.state)
        if config.noise_input:
            if no_eff is None:
                raise missing_noise(config)
            variances = np.ravel(no_eff) * np.complex64(1 + 1j)  # of both reals of a symbol
            padded = rate_adaptive.unpack(variances, side.rate_index, rate_set)
            known += (ops.convert_to_tensor(padded),)
        decode = self._decoder.intra if side.intra else self._decoder.predicted
        frame, self.feature, self.state = decode(*known)
        self._last = ops.convert_to_numpy(frame)[0]
        return DecodedFrame(self._last, "ok")

    def conceal(self, status: str) -> DecodedFrame:
        """The last frame again, with the reason."""
        return DecodedFrame(self._last, status)


def _omega(preset: int) -> Any:
    return ops.full((1,), preset, dtype="int32")


def _as_vectors(motion: np.ndarray | None) -> Any:
    return None if motion is None else ops.convert_to_tensor(motion, "int32")


@contextmanager
def _part(part: str) -> Iterator[None]:
    try:
        yield
    except SideInformationError as error:
        raise SideLostError(part, error) from error


def _present(side_bits: Mapping[str, bytes | None], part: str) -> bytes:
    message = side_bits.get(part)
    if message is None:
        raise SideInformationError("lost")
    return message


def _checked_frame(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """The frame as float32 in [0, 1]; raises ``InputError`` for anything else."""
    pixels = np.asarray(frame)
    allowed = f"uint8, or float in [0, 1] without NaN, of shape {(height, width, 3)}"
    remedy = "Scale to [0, 1], pad to the session's size, and pass one frame at a time."
    if pixels.shape != (height, width, 3):
        raise InputError(
            "frame of a wrong shape", found=pixels.shape, allowed=allowed, remedy=remedy
        )
    if pixels.dtype == np.uint8:
        return pixels.astype(np.float32) / np.float32(255.0)
    if not np.issubdtype(pixels.dtype, np.floating):
        raise InputError(
            "frame of a wrong type", found=pixels.dtype, allowed=allowed, remedy=remedy
        )
    low, high = pixels.min(), pixels.max()
    if not (low >= 0.0 and high <= 1.0):  # False for NaN as well
        raise InputError(
            "frame values out of range",
            found=(float(low), float(high)),
            allowed=allowed,
            remedy=remedy,
        )
    return pixels.astype(np.float32)


def _check_session(
    intra: IntraModel,
    model: StreamModel,
    height: int,
    width: int,
    omega_index: int,
    side_format: str,
) -> None:
    """Raise ``InputError`` for session parameters that the models cannot serve."""
    multiple = max(intra.config.padding_multiple, model.config.padding_multiple)
    num_omega = min(intra.config.num_omega, model.config.num_omega)
    fits = min(height, width) > 0 and height % multiple == 0 and width % multiple == 0
    checks = (
        (fits, ("frame size is not padded", (height, width), f"multiples of {multiple}")),
        (
            0 <= omega_index < num_omega,
            ("quality preset does not exist", omega_index, f"0 to {num_omega - 1}"),
        ),
        (side_format in SIDE_FORMATS, ("unknown side_format", side_format, SIDE_FORMATS)),
    )
    for passed, (what, found, allowed) in checks:
        if not passed:
            raise InputError(what, found=found, allowed=allowed, remedy="Change the session.")
