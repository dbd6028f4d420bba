"""A GOP out of the semantic transmitter: all that the channel cannot change, made once.

Semantic receiver in one TensorFlow graph per frame kind and frame size: equalised symbols in,
pictures out. The channel is a function of its own (``link.channel``), so the graph of the receiver
is the same for every channel, equaliser and condition.

    equalised symbols --> F_rx --> E_s --> G --> picture
    z, rate map, buffers --^--------^------^ +--> buffers

PVSC on the link: symbols over ``link.channel``, hyper-latents and rate maps over ``CodedLink``.

encode, once per clip, GOP length and quality preset:   frames --> symbols, b_z, b_k
transmit, per channel point:   symbols --> channel, equaliser --> F_rx, G --> frames
                               b_z, b_k --> CRC, LDPC, QAM, channel --> arrived or not

DVST on the link: PVSC's transmission with other models of P frames, one for every rate.
"""

import hashlib
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pvsc_link.link.channel import get_channel_function
from pvsc_link.link.coded_link import BitReception, get_coded_link
from pvsc_link.media.pixels import pad_to_multiple
from pvsc_link.models.arithmetic import SAME, find_arithmetic, receiving
from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.dvst.zoo import find_dvst_weights, load_dvst_models
from pvsc_link.models.entropy.side_information import SIDE_FORMATS
from pvsc_link.models.layers import rate_adaptive as symbol_mapping
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.pvsc.steps import Buffers, IntraSteps
from pvsc_link.models.stream import Transmitter, check_refresh
from pvsc_link.models.zoo import (
    UNTRAINED,
    WeightFiles,
    find_weights,
    load_models,
    num_quality_presets,
    run_label,
)
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.base import CODED_CSI_AWARE, CODED_EQUALIZER, LinkOptions, Scheme
from pvsc_link.types import ChannelPoint, InputError, Payload, Reception, Video


@dataclass(frozen=True)
class SentFrame:
    """One frame on the air, and what its side information tells a receiver that gets it."""

    intra: bool
    payload: Payload
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
        sent = []
        for position, payload in enumerate(payloads):
            side = {part: next(read) for part in side_stream.PARTS}
            sent.append(self._sent_frame(payload, side, position))
        omega_index = self._transmitter.omega_index
        return SentGop(tuple(sent), messages, stream, self._size, omega_index, command, version)

    def _sent_frame(self, payload: Payload, side: dict[str, bytes], position: int) -> SentFrame:
        end, intra = self._transmitter, position == 0
        coding = end.coding(position)
        z, motion = end.hyper_latent(side["z"], coding)
        rate_index = end.rate_map(side["k"], z, coding)
        gain = np.asarray(end.gain(side["k"], intra=intra))
        floats = z.astype(np.float32)
        return SentFrame(
            intra,
            payload,
            rate_index[None],
            floats[None],
            gain,
            None if motion is None else motion[None],
            coding.preset,
        )


#: Level of the frame shown as long as nothing has been decoded.
GREY = 128


class ReceiverGraph:
    """Both frame kinds of a pair of models, traced once per frame size and used by every session.

    Parameters
    ----------
    intra, model : the I-frame and P-frame models
    jit_compile : bool, compile with XLA

    ``trace_count`` : how often each kind was traced.
    """

    def __init__(
        self, intra: IntraModel, model: PvscModel | DvstModel, *, jit_compile: bool = False
    ):
        self._rate_sets = {True: intra.config.rate_set, False: model.config.rate_set}
        self._intra_steps, self._steps = IntraSteps(intra, model), model.steps()
        self.trace_count = {"intra": 0, "predicted": 0}
        # Keras turns a graph into Python control flow itself: nothing is left for autograph.
        options = {"autograph": False, "jit_compile": jit_compile}
        self.intra: Callable[..., tuple] = tf.function(self._decode_intra, **options)
        self.predicted: Callable[..., tuple] = tf.function(self._decode_predicted, **options)

    def reals(self, frame: SentFrame, symbols_hat: np.ndarray) -> np.ndarray:
        """Equalised symbols of a frame in their units: float32 [1, Hy, Wy, Kmax]."""
        rate_set = self._rate_sets[frame.intra]
        return symbol_mapping.unpack(symbols_hat, frame.rate_index, rate_set)

    def _decode_intra(
        self,
        reals: tf.Tensor,
        rate_index: tf.Tensor,
        z: tf.Tensor,
        gain: tf.Tensor,
        omega: tf.Tensor,
    ) -> tuple:
        """(picture, F, C_s) of an I frame.

        Input: ``reals`` : [1, Hy, Wy, Kmax], float32, equalised symbols in their units;
        ``omega`` : [1], int32; all else as in ``SentFrame``.
        """
        self.trace_count["intra"] += 1
        frame = self._intra_steps.decode(gain * reals, rate_index, z, None, omega)
        return (_eight_bits(frame), *self._intra_steps.start(frame))

    def _decode_predicted(
        self,
        reals: tf.Tensor,
        rate_index: tf.Tensor,
        z: tf.Tensor,
        gain: tf.Tensor,
        omega: tf.Tensor,
        motion: Any,
        feature: tf.Tensor,
        state: Any,
    ) -> tuple:
        """(picture, F, C_s) of a P frame, out of the buffers of the frame before."""
        self.trace_count["predicted"] += 1
        feature = self._steps.reference(feature, motion)
        feature, state = self._steps.decode(gain * reals, rate_index, z, (feature, state), omega)
        return _eight_bits(self._steps.show(feature, omega)), feature, state


class ReceiverSession:
    """One receiver watching one stream: its buffers, and the frame it shows.

    A frame whose side information is lost is concealed as by ``semantic.streaming.Receiver``:
    the last frame is shown again, mid-grey before the first, and the buffers stay.
    """

    def __init__(self, graph: ReceiverGraph, size: tuple[int, int]):
        self._graph, self._size = graph, size
        self._shown = np.full((*size, 3), GREY, np.uint8)
        self._buffers: Buffers | None = None

    def decode(
        self, frame: SentFrame, omega: tf.Tensor, symbols_hat: np.ndarray, *, side_ok: bool
    ) -> tuple[np.ndarray, bool]:
        """The frame as shown, uint8 [height, width, 3], and whether it stands in for a lost one.

        Input: ``symbols_hat`` : [num_symbols], complex64, equalised symbols of this frame.
        """
        if not side_ok or (self._buffers is None and not frame.intra):
            return self._shown, True
        reals = self._graph.reals(frame, symbols_hat)
        sent = (reals, frame.rate_index, frame.z, frame.gain, omega)
        if frame.intra:
            picture, *buffers = self._graph.intra(*sent)
        else:
            assert self._buffers is not None
            picture, *buffers = self._graph.predicted(*sent, frame.motion, *self._buffers)
        self._buffers = (buffers[0], buffers[1])
        height, width = self._size
        self._shown = picture.numpy()[:height, :width]
        return self._shown, False


class SharedTraces:
    """A compiler for the steps of many transmitters of one pair of models: each traced once.

    Equal steps of equal models do the same, whichever session's object they hang on.
    """

    def __init__(self, *, jit_compile: bool = False):
        self._options = {"autograph": False, "jit_compile": jit_compile}
        self._traced: dict[str, Callable[..., Any]] = {}

    def __call__(self, step: Callable[..., Any]) -> Callable[..., Any]:
        name = step.__qualname__
        if name not in self._traced:
            self._traced[name] = tf.function(step, **self._options)
        return self._traced[name]


def _eight_bits(frame: tf.Tensor) -> tf.Tensor:
    """[1, height, width, 3], float -> [height, width, 3], uint8."""
    return tf.cast(tf.round(255.0 * tf.clip_by_value(frame[0], 0.0, 1.0)), tf.uint8)


def require_tensorflow() -> None:
    """Raises ``RuntimeError`` under another Keras backend: the link is made of TensorFlow."""
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError("The link runs under TensorFlow: set KERAS_BACKEND=tensorflow.")


class SemanticScheme(Scheme):
    """PVSC (sections II and III): analog symbols with digital side information.

    The symbols of a GOP follow each other without a gap and meet the realisation that a
    baseline's coded bits meet at the same seed, from its start. The side stream takes other
    channel uses, so it meets a realisation of its own. A block of it that fails its CRC loses the
    frames whose bytes it holds; they are concealed (``ReceiverSession``).

    Channel uses: ``source`` = ``y`` (symbols of P frames) + ``intra`` (symbols of I frames);
    ``side`` = ``z`` + ``k`` (side information of all frames, with all its coding overhead).

    Parameters
    ----------
    preset : key of ``semantic.presets.PRESETS``, a P-frame preset; its weights say how many quality
        presets there are
    side_format : format of the rate map, one of ``SIDE_FORMATS``
    weights : folder of a training run's weights, or the name of another training of the preset
        in the package (``pretrained.packaged_trainings``); None: the preset's own, if it has any
    refresh_every : every n-th P frame of a GOP is sent finer (``semantic.refresh``); 0: none, as in
        the paper
    jit_compile : bool, compile transmitter and receiver with XLA
    receiver_arithmetic : key of ``semantic.arithmetic.ARITHMETICS``; another than ``same`` lets
        the receiver alone compute otherwise (Fig. 1)

    Raises ``InputError`` for an unknown preset, format or arithmetic, and for a folder without
    weights.
    """

    name = "pvsc"
    digital = False
    default_equalizer = "zf"
    default_csi_aware = False

    def __init__(
        self,
        preset: str = "pvsc_small",
        side_format: str = "png",
        weights: str | None = None,
        jit_compile: bool = False,
        receiver_arithmetic: str = SAME,
        refresh_every: int = 0,
    ):
        self._files = self._find(preset, weights)
        self._arithmetic = find_arithmetic(receiver_arithmetic)
        if side_format not in SIDE_FORMATS:
            remedy = "png is the paper's."
            raise InputError("side_format", found=side_format, allowed=SIDE_FORMATS, remedy=remedy)
        check_refresh(refresh_every)
        self.preset, self.side_format = preset, side_format
        self.refresh_every = refresh_every
        self.variant = preset if side_format == "png" else f"{preset}-{side_format}"
        self.variant += run_label(weights)
        if refresh_every:
            self.variant += f", refresh {refresh_every}"
        if receiver_arithmetic != SAME:
            self.variant += f", receiver {receiver_arithmetic}"
        self.allowed_rates = self.default_rates = self._rates()
        #: ``untrained``, or the digest of the weights: part of a point's identity.
        self.weights_id = self._files.identity
        self.status = UNTRAINED if self.weights_id == UNTRAINED else "ok"
        self._jit_compile = jit_compile
        self._lock = threading.Lock()
        self._ready = False

    @property
    def trace_count(self) -> dict[str, int]:
        """How often the receiver's graph was traced, by frame kind."""
        self._prepare()
        return dict(self._graph.trace_count)

    def encode(self, video: Video, gop: int, rate: int) -> list[SentGop]:
        """One closed GOP per ``gop`` frames of the clip, at quality preset ``rate``."""
        with self._lock:  # models and traces are shared by all rates
            self._prepare()
            multiple = max(model.config.padding_multiple for model in self._models)
            frames = pad_to_multiple(video.frames, multiple)
            encoder = self._encoder(frames.shape[1:3], video.frames.shape[1:3], rate)
            command, version = self._provenance(rate)
            return [
                encoder.encode(frames[first : first + gop], command, version)
                for first in range(0, len(frames), gop)
            ]

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> SentGop:
        """The GOP that begins at frame ``first`` of ``video``."""
        alone = replace(video, frames=video.frames[first : first + gop])
        return self.encode(alone, gop, rate)[0]

    def stream(
        self,
        gops: Iterable[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """Symbols as ``link`` says, side information at ``mcs``; see ``Scheme.stream``."""
        self._prepare()
        session: ReceiverSession | None = None
        for gop, seed in zip(gops, seeds, strict=True):
            session = session or ReceiverSession(self._graph, gop.size)
            yield self._transmit_gop(gop, point, link, mcs, seed, session)

    def _transmit_gop(
        self,
        gop: SentGop,
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seed: int,
        session: ReceiverSession,
    ) -> Reception:
        side_link = get_coded_link(mcs, point.channel, **asdict(side_link_options(link)))
        side = side_link.send(gop.side_bits, point, side_seed(seed))
        side_ok = frames_with_side(gop, side)
        channel = get_channel_function(point.channel, link.equalizer, link.csi_aware)
        stream = np.concatenate([frame.payload.symbols for frame in gop.frames])
        symbols_hat, source_uses = channel(stream, point, seed)
        shown, concealed = zip(*_decoded(gop, side_ok, symbols_hat, session), strict=True)
        parts = gop.num_symbols
        if pilots := source_uses - sum(parts.values()):
            parts["pilots"] = pilots
        return Reception(
            frames_hat=np.stack(shown),
            num_channel_uses={"source": source_uses, "side": side.num_channel_uses},
            frames_lost=sum(concealed),
            num_blocks=len(side.block_ok),
            num_block_errors=int(np.sum(~side.block_ok)),
            status=self.status,
            finer_channel_uses=parts | side_stream.shares(gop.messages, side.num_channel_uses),
            details={"side_lost": int(np.sum(~side_ok))},
        )

    def _find(self, preset: str, weights: str | None) -> WeightFiles:
        return find_weights(preset, weights)

    def _rates(self) -> tuple[int, ...]:
        return tuple(range(num_quality_presets(self.preset, self._files)))

    def _load(self) -> tuple[Any, Any]:
        return load_models(self.preset, self._files)

    def _prepare(self) -> None:
        if self._ready:
            return
        require_tensorflow()
        self._models = self._load()
        received = receiving(self._models, self._arithmetic)
        xla = self._jit_compile or self._arithmetic.xla
        self._graph = ReceiverGraph(*received, jit_compile=xla)
        self._traces = SharedTraces(jit_compile=self._jit_compile)
        self._ready = True

    def _encoder(self, padded: tuple[int, int], size: tuple[int, int], rate: int) -> GopEncoder:
        transmitter = Transmitter(
            *self._models,
            height=padded[0],
            width=padded[1],
            omega_index=rate,
            side_format=self.side_format,
            refresh_every=self.refresh_every,
            compiled=self._traces,
        )
        return GopEncoder(*self._models, transmitter, size)

    def _provenance(self, rate: int) -> tuple[str, str]:
        files = self._files
        where = f"{files.intra} and {files.inter}" if files.intra else "from a fixed random start"
        command = (
            f"{self.preset}, quality preset {rate}, b_k as {self.side_format}, weights {where}"
        )
        versions = f"tensorflow {tf.__version__}, keras {keras.__version__}"
        return command, f"weights {self.weights_id}; {versions}"


def side_link_options(link: LinkOptions) -> LinkOptions:
    """The bit link of the side information: equaliser and LLRs as the baselines have them.

    "The same configuration as the corresponding baseline": only the symbols' own receiver is
    the semantic scheme's choice.
    """
    return LinkOptions(CODED_EQUALIZER, CODED_CSI_AWARE, link.decoder, link.num_iter)


def side_seed(seed: int) -> int:
    """Seed of the side stream's realisation, derived from that of its GOP."""
    digest = hashlib.sha256(f"side {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def frames_with_side(gop: SentGop, side: BitReception) -> np.ndarray:
    """Which frames' b_z and b_k both arrived: bool [num_frames]."""
    lost = side_stream.messages_lost(gop.messages, side.block_ok, side.block_num_bits)
    return ~np.any(lost.reshape(-1, len(side_stream.PARTS)), axis=1)


def _decoded(
    gop: SentGop, side_ok: np.ndarray, symbols_hat: np.ndarray, session: ReceiverSession
) -> Iterator[tuple[np.ndarray, bool]]:
    ends = np.cumsum([frame.payload.symbols.size for frame in gop.frames])
    received = np.split(symbols_hat, ends[:-1])
    for frame, symbols, ok in zip(gop.frames, received, side_ok, strict=True):
        omega = tf.constant([frame.preset], tf.int32)
        yield session.decode(frame, omega, symbols, side_ok=bool(ok))


class _OneModel(SemanticScheme):
    """The transmission with the models of one rate, or of all rates that have no weights."""

    def __init__(self, preset: str, files: WeightFiles, rates: tuple[int, ...], **options: Any):
        self._given, self._of_model = files, rates
        super().__init__(preset, **options)

    def _find(self, preset: str, weights: str | None) -> WeightFiles:
        return self._given

    def _rates(self) -> tuple[int, ...]:
        return self._of_model

    def _load(self) -> tuple[Any, Any]:
        return load_dvst_models(self.preset, self._files)


class DvstScheme(Scheme):
    """DVST: motion and context of every P frame as analog symbols, digital side information.

    A rate is a model of its own; I frames are sent by PVSC's intra model at the quality preset of
    the same number. Everything else, channel uses and their parts included, is as in
    ``SemanticScheme``: ``y`` are the symbols of both streams of P frames.

    Parameters
    ----------
    preset : key of ``semantic.dvst.presets.DVST_PRESETS``
    weights : folder with weights of one or more rates; None: those of the package, if it has them
    side_format, jit_compile, receiver_arithmetic : as ``SemanticScheme``; there is no
        ``refresh_every``, since a model is of one rate

    Raises ``InputError`` for an unknown preset, and for a folder without weights.
    """

    name = "dvst"
    digital = False
    default_equalizer = SemanticScheme.default_equalizer
    default_csi_aware = SemanticScheme.default_csi_aware

    def __init__(
        self,
        preset: str = "dvst_tiny",
        weights: str | None = None,
        side_format: str = "png",
        jit_compile: bool = False,
        receiver_arithmetic: str = SAME,
    ):
        options: dict[str, Any] = {"side_format": side_format, "jit_compile": jit_compile}
        options["receiver_arithmetic"] = receiver_arithmetic
        files = find_dvst_weights(preset, weights)
        self._schemes: dict[int, _OneModel] = {}
        for of_model in dict.fromkeys(files.values()):
            rates = tuple(rate for rate in files if files[rate] == of_model)
            scheme = _OneModel(preset, of_model, rates, **options)
            self._schemes |= dict.fromkeys(rates, scheme)
        self.preset, self.variant = preset, scheme.variant + run_label(weights)
        self.allowed_rates = self.default_rates = tuple(files)
        #: ``untrained``, or a digest of all weights: part of a point's identity.
        self.weights_id = _identity(files)
        self.status = UNTRAINED if self.weights_id == UNTRAINED else "ok"

    def encode(self, video: Video, gop: int, rate: int) -> list[SentGop]:
        """One closed GOP per ``gop`` frames of the clip, by the model of ``rate``."""
        return self._schemes[rate].encode(video, gop, rate)

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> SentGop:
        """The GOP that begins at frame ``first`` of ``video``."""
        return self._schemes[rate].encode_gop(video, first, gop, rate)

    def stream(
        self,
        gops: Iterable[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """As in ``Scheme.stream``; all GOPs have one rate."""
        rest = iter(gops)
        for first in rest:  # the first alone: the others go with it
            scheme = self._schemes[first.omega_index]
            yield from scheme.stream(itertools.chain([first], rest), point, link, mcs, seeds)


def _identity(files: dict[int, WeightFiles]) -> str:
    identities = [f"{rate}:{of_rate.identity}" for rate, of_rate in files.items()]
    if all(of_rate.identity == UNTRAINED for of_rate in files.values()):
        return UNTRAINED
    return hashlib.sha256(" ".join(identities).encode()).hexdigest()[:12]
