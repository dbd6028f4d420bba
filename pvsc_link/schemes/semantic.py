"""PVSC on the link: symbols over ``symbol_link``, hyper-latents and rate maps over ``bit_link``.

encode, once per clip, GOP length and quality preset:   frames --> symbols, b_z, b_k
transmit, per channel point:   symbols --> channel, equaliser --> F_rx, G --> frames
                               b_z, b_k --> CRC, LDPC, QAM, channel --> arrived or not
"""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from pvsc_link.link.bit_link import BitReception, get_bit_link
from pvsc_link.link.placed_symbols import LinkTensors, link_tensors
from pvsc_link.media.padding import pad_to_multiple
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.scheme import LinkOptions
from pvsc_link.schemes.semantic_gop import GopEncoder, SentGop
from pvsc_link.schemes.semantic_receiver import (
    ReceiverGraph,
    ReceiverSession,
    SharedTraces,
    require_tensorflow,
)
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.semantic.arithmetic import SAME, find_arithmetic, receiving
from pvsc_link.semantic.pretrained import (
    UNTRAINED,
    WeightFiles,
    find_weights,
    load_models,
    num_quality_presets,
    run_label,
)
from pvsc_link.semantic.refresh import check_refresh
from pvsc_link.semantic.side_information import SIDE_FORMATS
from pvsc_link.semantic.streaming import Transmitter
from pvsc_link.types import ChannelPoint, InputError, Reception, Video


class SemanticScheme:
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
        self._jit_compile = jit_compile
        self._lock = threading.Lock()
        self._ready = False

    @property
    def status(self) -> str:
        """What stands in every row."""
        return UNTRAINED if self.weights_id == UNTRAINED else "ok"

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

    def transmit(
        self,
        gops: Sequence[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Sequence[int],
    ) -> list[Reception]:
        """Send every GOP: symbols as ``link`` says, side information at ``mcs``."""
        return list(self.stream(gops, point, link, mcs, seeds))

    def stream(
        self,
        gops: Iterable[SentGop],
        point: ChannelPoint,
        link: LinkOptions,
        mcs: int,
        seeds: Iterable[int],
    ) -> Iterator[Reception]:
        """As :meth:`transmit`, one GOP at a time; see ``Scheme.stream``."""
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
        side_link = get_bit_link(mcs, point.channel, **asdict(side_link_options(link)))
        side = side_link.send(gop.side_bits, point, side_seed(seed))
        side_ok = frames_with_side(gop, side)
        tensors = link_tensors(point, link.equalizer, link.csi_aware, seed)
        shown, concealed = zip(*_decoded(gop, side_ok, tensors, session), strict=True)
        parts = gop.num_symbols
        return Reception(
            frames_hat=np.stack(shown),
            num_channel_uses={"source": sum(parts.values()), "side": side.num_channel_uses},
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
    return LinkOptions(
        SeparatedScheme.default_equalizer,
        SeparatedScheme.default_csi_aware,
        link.decoder,
        link.num_iter,
    )


def side_seed(seed: int) -> int:
    """Seed of the side stream's realisation, derived from that of its GOP."""
    digest = hashlib.sha256(f"side {seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def frames_with_side(gop: SentGop, side: BitReception) -> np.ndarray:
    """Which frames' b_z and b_k both arrived: bool [num_frames]."""
    lost = side_stream.messages_lost(gop.messages, side.block_ok, side.block_num_bits)
    return ~np.any(lost.reshape(-1, len(side_stream.PARTS)), axis=1)


def _decoded(
    gop: SentGop, side_ok: np.ndarray, link: LinkTensors, session: ReceiverSession
) -> Iterator[tuple[np.ndarray, bool]]:
    for frame, ok in zip(gop.frames, side_ok, strict=True):
        omega = tf.constant([frame.preset], tf.int32)
        yield session.decode(frame, omega, link, side_ok=bool(ok))
