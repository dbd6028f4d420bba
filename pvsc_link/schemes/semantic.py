"""PVSC and DVST over the link: symbols on the analog channel, side information behind LDPC and QAM.

    encode, once per clip, GOP length and rate:   frames --> Transmitter --> symbols, b_z, b_k
    transmit, per channel point:   b_z, b_k --> CRC, LDPC, QAM --+--> channel --> b_z, b_k --+
                                   symbols ----------------------+--> channel, equaliser ----+
                                                   frames <-- F_rx, E_s, G <-- GopReceiver <-+

The receiver's networks are one TensorFlow graph per frame kind and frame size: equalised symbols
and side information in, pictures and buffers out. The channel is a function of its own
(``link.channel``), so the graph is the same for every channel, equaliser and condition.

A scheme is made and asked for its rates without TensorFlow, which is imported when it encodes.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from pvsc_link.link import Transport, as_adaptation
from pvsc_link.media import pad_to_multiple
from pvsc_link.models import (
    PRESETS,
    SAME,
    SIDE_FORMATS,
    UNTRAINED,
    PvscConfig,
    PvscMcConfig,
    WeightFiles,
    check_preset,
    check_refresh,
    configs_of,
    family_of,
    find_arithmetic,
    find_dvst_weights,
    find_weights,
    identity_of_rates,
    num_quality_presets,
    preset_of,
    run_label,
)
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.base import LinkOptions, Scheme
from pvsc_link.schemes.latency import Clock
from pvsc_link.schemes.sent_store import kept_payloads
from pvsc_link.storage import digest
from pvsc_link.types import ChannelPoint, InputError, Payload, Reception, Video

if TYPE_CHECKING:
    from pvsc_link.link import Adaptation
    from pvsc_link.models import Arithmetic, Receiver, SideInfo
    from pvsc_link.schemes.analog import Outgoing
    from pvsc_link.schemes.semantic_receiver import GopReceiver


@dataclass(frozen=True)
class SentGop:
    """One GOP of a semantic scheme; ``command`` and ``version`` go into the manifest."""

    frames: tuple[Payload, ...]  # an I frame, then P frames
    size: tuple[int, int]  # height and width without padding
    padded: tuple[int, int]  # height and width as coded
    omega_index: int
    session_facts: bytes
    fps: float
    command: str
    version: str

    @property
    def num_symbols(self) -> dict[str, int]:
        """Channel uses of the symbols of P frames ("y") and of I frames ("intra")."""
        intra, *others = (frame.symbols.size for frame in self.frames)
        return {"y": sum(others), "intra": intra}

    def transports(self, transport: Transport) -> list[Outgoing]:
        """What is sent one after another: of the whole GOP, or frame by frame."""
        from pvsc_link.schemes.analog import outgoing_transports

        return outgoing_transports(self.frames, self.omega_index, self.session_facts, transport)


class SemanticScheme(Scheme):
    """PVSC as in the paper (sections II and III): analog symbols with digital side information.

    The side stream of a transport (a GOP, or a frame) and the symbols of its frames follow each
    other without a gap in one fading process (``link.Air``), which is that of a baseline's coded
    bits at the same seed. The receiver knows what it received (``semantic_receiver``). A block of
    the side stream that fails its CRC loses the frames whose bytes it holds, and all frames of its
    transport if it holds a byte of the header; they are concealed (``models.stream.Receiver``).
    Session facts of 16 bytes are known to both ends, unless the link options count them. A frame
    that misses its latency budget is lost. With ``symbol_retransmission: mrc`` the symbols of a
    transport are sent twice and combined.

    Channel uses: ``source`` = ``y`` (symbols of P frames) + ``intra`` (symbols of I frames);
    ``side`` = ``z`` + ``k`` (side information of all frames, with all its coding overhead), and
    of ``z`` the share ``motion`` is that of motion vectors, 0 for models without any;
    ``pilot`` (pilots of the channel, of both).

    Parameters
    ----------
    preset : key of ``models.presets.PRESETS``, a P-frame preset of this scheme's family; its
        weights say how many quality presets there are, and weights of a training run which preset
        it is
    side_format : format of the rate map, one of ``SIDE_FORMATS``
    weights : folder of a training run's weights, or the name of another training of the preset
        in the package (``zoo.packaged_trainings``); None: the preset's own, if it has any
    jit_compile : bool, compile transmitter and receiver with XLA
    receiver_arithmetic : key of ``zoo.ARITHMETICS``; another than ``same`` lets the receiver alone
        compute otherwise (Fig. 1)

    Raises ``InputError`` for an unknown preset, format or arithmetic, for a preset or weights of
    another family (the extension with motion vectors is ``PvscMcScheme``), and for a folder without
    weights.

    Example::

        scheme = SemanticScheme("pvsc_small")
        gops = scheme.encode(video, gop=4, rate=2)                    # video : types.Video
        link = LinkOptions("zf", csi_aware=False, decoder="layered", num_iter=20)
        received = scheme.transmit(gops, ChannelPoint("awgn", 6.0), link, mcs=5, seeds=range(9))
    """

    name = "pvsc"
    #: Family of its P-frame models.
    family = PvscConfig.family
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
    ):
        self._files = self._find(preset, weights)
        preset = preset_of(preset, next(iter(self._files.values())))
        self._arithmetic = find_arithmetic(receiver_arithmetic)
        if side_format not in SIDE_FORMATS:
            remedy = "png is the paper's."
            raise InputError("side_format", found=side_format, allowed=SIDE_FORMATS, remedy=remedy)
        self.preset, self.side_format = preset, side_format
        self.refresh_every = 0
        self.variant = preset if side_format == "png" else f"{preset}-{side_format}"
        self.variant += run_label(weights)
        if receiver_arithmetic != SAME:
            self.variant += f", receiver {receiver_arithmetic}"
        self.allowed_rates = self.default_rates = tuple(self._files)
        #: ``untrained``, or the digest of the weights: part of a point's identity.
        self.weights_id = self._identity()
        self.status = UNTRAINED if self.weights_id == UNTRAINED else "ok"
        self._jit_compile = jit_compile
        self._lock = threading.Lock()
        self._engines: dict[WeightFiles, _Engine] = {}
        self._warm: set[tuple[WeightFiles, tuple[int, int]]] = set()
        self._sides: dict[tuple, SideInfo] = {}

    def _find(self, preset: str, weights: str | None) -> dict[int, WeightFiles]:
        """Weight files by rate; PVSC has one pair of models for all."""
        files = find_weights(preset, weights)
        found = family_of(preset, files)
        if found != self.family:
            raise InputError(
                f"preset of scheme {self.name}",
                found=f"{preset}, a model of family {found}",
                allowed=f"a preset and weights of family {self.family}",
                remedy="pvsc is the paper's system; pvsc-mc is its extension with motion vectors.",
            )
        return dict.fromkeys(range(num_quality_presets(preset, files)), files)

    def _identity(self) -> str:
        return self._files[0].identity

    def _load(self, files: WeightFiles) -> tuple[Any, Any]:
        """The I-frame and the P-frame model."""
        from pvsc_link.models import load_models

        return load_models(self.preset, files)

    def engine(self, rate: int) -> _Engine:
        """Models and graphs of a rate, made when first asked for."""
        files = self._files[rate]
        if files not in self._engines:
            require_tensorflow()
            self._engines[files] = _Engine(self._load(files), self._arithmetic, self._jit_compile)
        return self._engines[files]

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> SentGop:
        """The GOP that begins at frame ``first`` of ``video``, at quality preset ``rate``.

        With trained weights it is coded once on a machine (``sent_store``).
        """
        frames = pad_to_multiple(video.frames[first : first + gop], self._multiple(rate))
        make = partial(self._payloads, frames, rate)
        size = video.frames.shape[1:3]
        return SentGop(
            make() if self.status == UNTRAINED else kept_payloads(self._stated(frames, rate), make),
            size,
            frames.shape[1:3],
            rate,
            side_stream.session_facts(size, video.fps, self.weights_id),
            float(video.fps),
            *self._provenance(rate),
        )

    def _multiple(self, rate: int) -> int:
        """What height and width of coded frames are multiples of."""
        configs = configs_of(self.preset, self._files[rate])
        return max(config.padding_multiple for config in configs)

    def _payloads(self, frames: np.ndarray, rate: int) -> tuple[Payload, ...]:
        """An I frame, then P frames: uint8 [num_frames, height, width, 3], padded."""
        from pvsc_link.models import Transmitter

        with self._lock:  # models and traces are shared by all rates
            steps = self.engine(rate).steps
            session = {"height": frames.shape[1], "width": frames.shape[2], **self._session(rate)}
            transmitter = Transmitter(*steps.models.values(), steps=steps, **session)
            return tuple(transmitter.encode(frame, intra=t == 0) for t, frame in enumerate(frames))

    def _stated(self, frames: np.ndarray, rate: int) -> dict[str, Any]:
        """What the payloads of a GOP depend on, but for code and machine."""
        return {
            "scheme": self.name,
            "preset": self.preset,
            "weights": self.weights_id,
            "jit_compile": self._jit_compile,
            "shape": frames.shape,
            "frames": digest(frames),
            **self._session(rate),
        }

    def _session(self, rate: int) -> dict[str, Any]:
        return {
            "omega_index": rate,
            "side_format": self.side_format,
            "refresh_every": self.refresh_every,
        }

    def _provenance(self, rate: int) -> tuple[str, str]:
        """Command and version of a GOP, for the manifest."""
        import keras
        import tensorflow as tf

        files = self._files[rate]
        command = (
            f"{self.preset}, quality preset {rate}, b_k as {self.side_format}, weights {files}"
        )
        versions = f"tensorflow {tf.__version__}, keras {keras.__version__}"
        return command, f"weights {files.identity}; {versions}"

    def stream(
        self,
        gops: Iterable[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int | Adaptation,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """Symbols as ``link`` says, side information at ``mcs``; all GOPs have one rate."""
        from pvsc_link.schemes.analog import send_gop

        rest = iter(gops)
        for first in rest:
            receiver, clock = self._receiver(first), Clock(link.transport, first.fps)
            adaptation = as_adaptation(mcs)
            for gop, seed in zip(itertools.chain([first], rest), seeds, strict=True):
                yield send_gop(
                    gop.transports(link.transport),
                    point,
                    link,
                    adaptation,
                    seed,
                    receiver,
                    clock,
                    num_symbols=gop.num_symbols,
                    status=self.status,
                )

    def warm_up(self, gop: SentGop) -> None:
        """Load the weights and trace the receiver's graphs by decoding an I frame and a P frame."""
        key = self._files[gop.omega_index], gop.padded
        if key in self._warm:
            return
        receiver = self._networks(gop)
        for t, frame in enumerate(gop.frames[:2]):
            known = np.ones(frame.symbols.size, np.float32)  # a variance, where the model asks
            receiver.decode(frame.symbols, frame.side_bits, intra=t == 0, no_eff=known)
        self._warm.add(key)

    def _networks(self, gop: SentGop) -> Receiver:
        """The networks of a receiver, with buffers of their own."""
        from pvsc_link.models import Receiver

        engine, (height, width) = self.engine(gop.omega_index), gop.padded
        return Receiver(
            *engine.received.models.values(),
            height=height,
            width=width,
            steps=engine.received,
            decoder=engine.decoder,
            **self._session(gop.omega_index),
        )

    def _receiver(self, gop: SentGop) -> GopReceiver:
        """The receiver of a session: of the GOP it takes weights and frame size."""
        from pvsc_link.schemes.semantic_receiver import GopReceiver

        receiver, files = self._networks(gop), self._files[gop.omega_index]

        def read_side(z: bytes, k: bytes, place: int, preset: int) -> SideInfo:
            # Equal bytes mean equal content: it is read once for all channel points.
            key = files, gop.padded, z, k, place, preset
            if key not in self._sides:
                if len(self._sides) >= _MAX_SIDES:
                    self._sides.clear()
                self._sides[key] = receiver.read_side({"z": z, "k": k}, place, preset)
            return self._sides[key]

        presets = [rate for rate, of_rate in self._files.items() if of_rate == files]
        return GopReceiver(receiver, read_side, presets, gop.size)


class PvscMcScheme(SemanticScheme):
    """PVSC extended by motion vectors (``models.pvsc_mc``), which the paper does without.

    P frames are predicted from the picture before, moved by vectors that travel with b_z, and may
    be blended with it. All else, parameters included, is as in ``SemanticScheme``.

    Parameters
    ----------
    refresh_every : every n-th P frame of a GOP is sent finer (``pvsc_mc.config.preset_at``);
        0: none

    Raises ``InputError`` in addition for a negative ``refresh_every``.
    """

    name = "pvsc-mc"
    family = PvscMcConfig.family

    def __init__(
        self,
        preset: str = "pvsc_mc_small",
        side_format: str = "png",
        weights: str | None = None,
        jit_compile: bool = False,
        receiver_arithmetic: str = SAME,
        refresh_every: int = 0,
    ):
        check_refresh(refresh_every)
        super().__init__(preset, side_format, weights, jit_compile, receiver_arithmetic)
        self.refresh_every = refresh_every
        if refresh_every:
            self.variant += f", refresh {refresh_every}"


class PvscIntraScheme(SemanticScheme):
    """The I-frame model alone: still images, or clips in GOPs of one frame.

    Parameters as in ``SemanticScheme``; of the preset, one of PVSC or of its extension with motion
    vectors, only the I-frame model is used.
    """

    name = "pvsc-intra"

    def __init__(
        self,
        preset: str = "pvsc_mc_small",
        side_format: str = "png",
        weights: str | None = None,
        jit_compile: bool = False,
        receiver_arithmetic: str = SAME,
    ):
        super().__init__(preset, side_format, weights, jit_compile, receiver_arithmetic)

    def _find(self, preset: str, weights: str | None) -> dict[int, WeightFiles]:
        files = find_weights(preset, weights)
        return dict.fromkeys(range(num_quality_presets(preset, files)), files)

    def encode_gop(self, video: Video, first: int, gop: int, rate: int) -> SentGop:
        """One frame at quality preset ``rate``; raises ``InputError`` for a longer GOP."""
        if gop != 1:
            raise InputError(
                "gop of scheme pvsc-intra",
                found=gop,
                allowed=1,
                remedy="It sends I frames alone: write gop: 1, or media.images.",
            )
        return super().encode_gop(video, first, gop, rate)


#: Side information that is kept by its bytes, in frames.
_MAX_SIDES = 4096


class DvstScheme(SemanticScheme):
    """DVST: motion and context of every P frame as analog symbols, digital side information.

    A rate is a model of its own; I frames are sent by PVSC's intra model at the quality preset of
    the same number. Everything else, channel uses and their parts included, is as in
    ``SemanticScheme``: ``y`` are the symbols of both streams of P frames.

    Parameters
    ----------
    preset : key of ``models.presets.DVST_PRESETS``
    weights : folder with weights of one or more rates; None: those of the package, if it has them
    side_format, jit_compile, receiver_arithmetic : as ``SemanticScheme``; there is no
        ``refresh_every``, since a model is of one rate

    Raises ``InputError`` for an unknown preset, and for a folder without weights.
    """

    name = "dvst"

    def __init__(
        self,
        preset: str = "dvst_tiny",
        weights: str | None = None,
        side_format: str = "png",
        jit_compile: bool = False,
        receiver_arithmetic: str = SAME,
    ):
        super().__init__(preset, side_format, weights, jit_compile, receiver_arithmetic)

    def _find(self, preset: str, weights: str | None) -> dict[int, WeightFiles]:
        return find_dvst_weights(preset, weights)

    def _identity(self) -> str:
        return identity_of_rates(self._files)

    def _load(self, files: WeightFiles) -> tuple[Any, Any]:
        from pvsc_link.models import load_dvst_models

        return load_dvst_models(self.preset, files)


def scheme_of_preset(preset: str) -> type[SemanticScheme]:
    """The scheme that sends a P-frame preset of PVSC, or of its extension with motion vectors.

    Raises ``InputError`` for an unknown preset.
    """
    check_preset(preset)
    return PvscMcScheme if PRESETS[preset].family == PvscMcScheme.family else SemanticScheme


class _Engine:
    """Models of one set of weights, the traced steps of transmitters and the receiver's graph."""

    def __init__(self, models: tuple[Any, Any], arithmetic: Arithmetic, jit_compile: bool):
        import tensorflow as tf

        from pvsc_link.models import FrameDecoder, StreamSteps, receiving

        # Keras turns a graph into Python control flow itself: autograph has nothing to do.
        traced = partial(tf.function, autograph=False)
        self.steps = StreamSteps(*models, compiled=partial(traced, jit_compile=jit_compile))
        self.received = StreamSteps(*receiving(models, arithmetic))
        whole = partial(traced, jit_compile=jit_compile or arithmetic.xla)
        self.decoder = FrameDecoder(self.received, whole)

    @property
    def trace_count(self) -> dict[str, int]:
        """How often the receiver's graph was traced, by frame kind."""
        graphs: dict[str, Any] = {"intra": self.decoder.intra, "predicted": self.decoder.predicted}
        return {kind: graph.experimental_get_tracing_count() for kind, graph in graphs.items()}


def require_tensorflow() -> None:
    """Raises ``RuntimeError`` under another Keras backend: the link is made of TensorFlow."""
    import keras

    if keras.backend.backend() != "tensorflow":
        raise RuntimeError("The link runs under TensorFlow: set KERAS_BACKEND=tensorflow.")
