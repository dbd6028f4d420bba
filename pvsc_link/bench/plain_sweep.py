"""The plain loop that a sweep is measured against: every step again at every point.

Encode the clip, send the packed symbols, decode frame by frame, measure: with the same rooms and
the same numbers as a sweep, but nothing shared between points except models and LDPC codes.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tensorflow as tf

from pvsc_link.link.bit_link import get_bit_link
from pvsc_link.link.symbol_link import SymbolLink
from pvsc_link.media.padding import crop, pad_to_multiple
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.scenario.grid import Point
from pvsc_link.schemes import side_stream
from pvsc_link.schemes.semantic import side_link_options, side_seed
from pvsc_link.semantic.inference import Compiler
from pvsc_link.semantic.pretrained import find_weights, load_models
from pvsc_link.semantic.streaming import Receiver, Transmitter
from pvsc_link.sweep.builder import link_options
from pvsc_link.sweep.rows import link_seeds
from pvsc_link.types import Payload, Video

Row = dict[str, float]


class PlainLoop:
    """Rows of points, one after the other.

    Parameters: ``compiled`` : wraps the steps of both ends.
    """

    def __init__(self, preset: str, video: Video, metrics: Sequence[str], compiled: Compiler):
        self._models = load_models(preset, find_weights(preset))
        self._video, self._metrics, self._compiled = video, metrics, compiled
        multiple = max(model.config.padding_multiple for model in self._models)
        self._padded = pad_to_multiple(video.frames, multiple)

    def row(self, point: Point) -> Row:
        """Quality, channel uses and losses of one point at a given MCS."""
        transmitter = self._end(Transmitter, point)
        gops = [
            [
                transmitter.encode(frame, intra=t == 0)
                for t, frame in enumerate(self._padded[first:end])
            ]
            for first, end in self._gops(point)
        ]
        receiver, shown, uses, lost = self._end(Receiver, point), [], 0, 0
        for gop, seed in zip(gops, link_seeds(point, len(gops)), strict=True):
            side_ok, side_uses = self._side(gop, point, seed)
            uses += side_uses + sum(payload.symbols.size for payload in gop)
            for t, (payload, received) in enumerate(zip(gop, _air(gop, point, seed), strict=True)):
                bits = payload.side_bits if side_ok[t] else {}
                decoded = receiver.decode(received, bits, intra=t == 0)
                lost += decoded.status != "ok"
                shown.append(decoded.frame_uint8)
        return self._measured(np.stack(shown)) | {"uses": uses, "frames_lost": lost}

    def _gops(self, point: Point) -> Iterator[tuple[int, int]]:
        for first in range(0, len(self._padded), point.gop):
            yield first, first + point.gop

    def _end(self, kind: Callable, point: Point):
        height, width = self._padded.shape[1:3]
        return kind(
            *self._models,
            height=height,
            width=width,
            omega_index=point.rate,
            compiled=self._compiled,
        )

    def _side(self, gop: Sequence[Payload], point: Point, seed: int) -> tuple[np.ndarray, int]:
        options = asdict(side_link_options(link_options(point)))
        messages = [payload.side_bits[part] for payload in gop for part in side_stream.PARTS]
        bits = np.unpackbits(np.frombuffer(side_stream.write(messages), np.uint8))
        link = get_bit_link(int(point.mcs), point.channel, **options)
        sent = link.send(bits, point.channel_point, side_seed(seed))
        lost = side_stream.messages_lost(messages, sent.block_ok, sent.block_num_bits)
        side_ok = np.logical_not(np.any(lost.reshape(len(gop), -1), axis=1))
        return side_ok, sent.num_channel_uses

    def _measured(self, shown: np.ndarray) -> Row:
        frames = self._video.frames
        with tempfile.TemporaryDirectory() as folder:
            metrics = FrameMetrics(Path(folder) / "metrics.sqlite")
            values = metrics.evaluate(self._metrics, frames, crop(shown, *frames.shape[1:3]))
        return {column: float(np.mean(of_frames)) for column, of_frames in values.items()}


def _air(gop: Sequence[Payload], point: Point, seed: int) -> list[np.ndarray]:
    """Equalised symbols of each frame of a GOP."""
    stream = np.concatenate([payload.symbols for payload in gop])
    link = SymbolLink(point.channel, point.equalizer, point.csi_aware)
    symbols_hat, _ = link(
        tf.constant(stream[None]),
        snr_db=point.snr_db,
        csi_nmse_db=point.csi_nmse_db,
        coherence_length=point.coherence_length,
        seed=seed,
    )
    ends = np.cumsum([payload.symbols.size for payload in gop])
    return np.split(symbols_hat.numpy()[0], ends[:-1])
