"""A batch of whole GOPs as tensors: all symbols of a GOP, and all frames out of them.

    frames --> GopCoder.transmit --> [SentFrame, ...] --> pack_gop --> a stream of symbols per clip
    symbols_hat --> unpack_gop --> GopCoder.receive --> frames_hat

Frame by frame it is what ``stream.Transmitter`` and ``stream.Receiver`` do, by the same
``FrameEncoder`` and ``FrameDecoder``, for many clips at once, inside a graph, and with gradients.
The first frame of a GOP is its I frame. The transmitter does not know the channel, so it codes the
whole GOP first. What lies between, channel and equaliser, is the caller's.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from pvsc_link.models.layers.base import Compiler, as_is
from pvsc_link.models.layers.rate_adaptive import pack_pairs, sent_mask, unpack_symbols
from pvsc_link.models.pvsc.steps import CodedFrame, with_gradient_of
from pvsc_link.models.stream import (
    GREY,
    FrameDecoder,
    FrameEncoder,
    StreamSteps,
    clip_picture,
)

#: (F of the transmitter, frames [batch, height, width, 3], quality presets [batch]) to vectors,
#: int32 [batch, Hy, Wy, 2], and their bits, float32 [batch]; None where a model sends no vectors.
MotionSearch = Callable[[Any, Any, Any], tuple[Any, Any]]


#: (step, carry, xs) to (last carry, ys): ``step`` is called with the carry and with each entry of
#: all xs along axis 0, and gives the next carry and what is stacked to ys. All are tuples.
Loop = Callable[[Callable[[Any, Any], Any], Any, Any], tuple[Any, Any]]


def unrolled(step: Any, carry: Any, xs: Any) -> tuple[Any, Any]:
    """The ``Loop`` of Python: a graph then holds every frame."""
    ys = []
    for t in range(xs[0].shape[0]):
        carry, made = step(carry, tuple(x[t] for x in xs))
        ys.append(made)
    return carry, tuple(ops.stack(column) for column in zip(*ys, strict=True))


class SentFrame(NamedTuple):
    """One frame of every clip, out of the transmitter."""

    symbols: Any  # [batch, Hy, Wy, Kmax], float32, unit mean power per complex symbol
    rate_index: Any  # [batch, Hy, Wy], int32
    z_hat: Any  # [batch, Hz, Wz, C_z], float32, whole numbers
    gain: Any  # [batch], float32, undoes the power normalisation
    num_symbols: Any  # [batch], int32, complex symbols that are sent
    num_reals: Any  # [batch], float32, sum of k; its gradient is that of eta times the entropy
    num_bits_z: Any  # [batch], float32, entropy of z_hat, with its gradient
    num_bits_map: Any  # [batch], float32, rate map, gain and vectors; without gradient
    motion: Any = None  # [batch, Hy, Wy, 2], int32; None for a frame without vectors


class GopCoder:
    """Transmitter and receiver of a batch of GOPs.

    Parameters
    ----------
    steps : StreamSteps; its quantiser decides whether gradients reach the transmitter's transforms
    search : MotionSearch; None for models that send no vectors
    compiled : wraps the four functions of a frame (I and P, transmitter and receiver)
    loop : runs over the P frames
    """

    def __init__(
        self,
        steps: StreamSteps,
        search: MotionSearch | None = None,
        compiled: Compiler = as_is,
        loop: Loop = unrolled,
    ):
        self.models = steps.models
        self._search, self._loop = search, loop
        self._encoder = FrameEncoder(steps, compiled)
        self._decoder = FrameDecoder(steps, compiled, _clip_in_value)

    def transmit(self, frames: Any, omega_index: Any) -> list[SentFrame]:
        """Code every frame against what the transmitter itself decodes.

        Input: ``frames`` : [batch, T, height, width, 3], float32 in [0, 1], sizes padded;
        ``omega_index`` : [batch], int32, quality presets.
        """
        coded, _, *buffers = self._encoder.intra(frames[:, 0], omega_index)
        first = self._sent(coded, omega_index, True)
        if frames.shape[1] == 1:
            return [first]

        def step(carry: Any, xs: Any) -> Any:
            feature, state = _pair(carry)
            motion, motion_bits = None, None
            if self._search is not None:
                motion, motion_bits = self._search(feature, xs[0], omega_index)
            coded, *following = self._encoder.predicted(xs[0], omega_index, motion, feature, state)
            sent = self._sent(coded, omega_index, False)
            if motion is not None:
                total = sent.num_bits_map + motion_bits
                sent = sent._replace(motion=motion, num_bits_map=total)
            return _present(following), _present(sent)

        others = ops.moveaxis(frames[:, 1:], 1, 0)
        _, ys = self._loop(step, _present(buffers), (others,))
        return [first, *(SentFrame(*(y[t] for y in ys)) for t in range(frames.shape[1] - 1))]

    def _sent(self, coded: CodedFrame, omega_index: Any, intra: bool) -> SentFrame:
        model = self.models[intra]
        rate_set = model.config.rate_set
        num_bits_map = _map_bits(coded.rate_index, len(rate_set)) + 8.0 * model.sends_gain
        k = ops.take(ops.convert_to_tensor(rate_set, "float32"), coded.rate_index, axis=0)
        count = ops.sum(sent_mask(coded.rate_index, rate_set), axis=(1, 2, 3))
        return SentFrame(
            symbols=coded.symbols,
            rate_index=coded.rate_index,
            z_hat=coded.z_hat,
            gain=coded.gain,
            num_symbols=ops.cast(count, "int32"),
            num_reals=ops.sum(with_gradient_of(k, coded.wanted), axis=(1, 2)),
            num_bits_z=model.num_bits_z(coded.z_hat, omega_index),
            num_bits_map=num_bits_map,
        )

    def receive(
        self,
        reals: Sequence[Any],
        sent: Sequence[SentFrame],
        omega_index: Any,
        side_ok: Any = None,
        no_eff: Sequence[Any] | None = None,
    ) -> Any:
        """Pictures as the receiver shows them: [batch, T, height, width, 3], float32 in [0, 1].

        A frame whose side information is lost shows the frame before again, grey at the start, and
        the buffers stay. P frames of a clip without its I frame are lost as well.

        Input: ``reals`` : of ``unpack_gop``; ``sent`` : the side information is read from it;
        ``side_ok`` : [batch, T], bool; None: all arrived; ``no_eff`` : noise variances like
        ``reals``, for models with ``noise_input``.
        """
        noise = [None] * len(sent) if no_eff is None else no_eff
        every = zip(sent, reals, noise, strict=True)
        known = [_known(frame, units, variances) for frame, units, variances in every]
        picture, *buffers = self._decoder.intra(*known[0][:4], omega_index, noise[0])
        if side_ok is not None:
            picture = _where(side_ok[:, 0], picture, ops.full_like(picture, GREY))
        if len(sent) == 1:
            return picture[:, None]
        xs = tuple(ops.stack(column) for column in zip(*known[1:], strict=True))
        if side_ok is not None:
            arrived = ops.logical_and(side_ok[:, :1], side_ok[:, 1:])
            xs = (*xs, ops.moveaxis(arrived, 1, 0))

        def step(carry: Any, xs: Any) -> Any:
            more = iter(xs[4:])
            motion = None if self._search is None else next(more)
            variances = None if no_eff is None else next(more)
            frame, *following = self._decoder.predicted(
                *xs[:4], omega_index, motion, *_pair(carry[1:]), variances
            )
            after = (frame, *_present(following))
            if side_ok is not None:
                pairs = zip(after, carry, strict=True)
                after = tuple(_where(xs[-1], new, old) for new, old in pairs)
            return after, after[:1]

        _, (others,) = self._loop(step, (picture, *_present(buffers)), xs)
        return ops.concatenate([picture[:, None], ops.moveaxis(others, 0, 1)], axis=1)


def pack_gop(sent: Sequence[SentFrame], rate_sets: Sequence[tuple[int, ...]]) -> tuple[Any, Any]:
    """The symbols of the frames of each clip, one after the other without a gap.

    Parameters: ``rate_sets`` : of every frame.
    Output: as ``pack_pairs``; max_symbols = units of all frames times ceil(largest Kmax / 2).
    """
    common = _common(rate_sets)
    width = max(common)
    units = []
    for frame in sent:
        _, rows, columns, num_reals = ops.shape(frame.symbols)
        flat = ops.reshape(frame.symbols, (-1, rows * columns, num_reals))
        units.append(ops.pad(flat, [(0, 0), (0, 0), (0, width - num_reals)]))
    return pack_pairs(ops.concatenate(units, axis=1), _indices(sent, rate_sets), common)


def unpack_gop(
    symbols_hat: Any, sent: Sequence[SentFrame], rate_sets: Sequence[tuple[int, ...]]
) -> list[Any]:
    """Equalised symbols back in the units of every frame: [batch, Hy, Wy, Kmax], float32, each.

    Input: ``symbols_hat`` : [batch, num_symbols], complex64, at least as long as the longest clip.
    """
    units = unpack_symbols(symbols_hat, _indices(sent, rate_sets), _common(rate_sets))
    reals, first = [], 0
    for frame in sent:
        _, rows, columns, num_reals = ops.shape(frame.symbols)
        part = units[:, first : first + rows * columns, :num_reals]
        reals.append(ops.reshape(part, (-1, rows, columns, num_reals)))
        first += rows * columns
    return reals


def _common(rate_sets: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    """A rate set that holds all others: I and P frames may have sets of their own."""
    return tuple(sorted(set().union(*rate_sets)))


def _indices(sent: Sequence[SentFrame], rate_sets: Sequence[tuple[int, ...]]) -> Any:
    """Rate indices of all units of a clip into the common set: [batch, units], int32."""
    common = _common(rate_sets)
    parts = []
    for frame, rate_set in zip(sent, rate_sets, strict=True):
        places = ops.convert_to_tensor([common.index(k) for k in rate_set], "int32")
        _, rows, columns = ops.shape(frame.rate_index)
        index = ops.take(places, frame.rate_index, axis=0)
        parts.append(ops.reshape(index, (-1, rows * columns)))
    return ops.concatenate(parts, axis=1)


def _map_bits(rate_index: Any, num_rates: int) -> Any:
    """Units times the entropy of the rates that a frame's map shows: [batch], float32."""
    _, rows, columns = ops.shape(rate_index)
    flat = ops.reshape(rate_index, (-1, rows * columns))
    seen = ops.cast(flat[..., None] == ops.arange(num_rates, dtype="int32"), "float32")
    count = ops.sum(seen, axis=1)
    total = ops.sum(count, axis=1, keepdims=True)
    return ops.sum(count * (ops.log2(total) - ops.log2(ops.maximum(count, 1.0))), axis=1)


def _clip_in_value(frame: Any) -> Any:
    """Values in [0, 1] with the gradient of the identity."""
    return with_gradient_of(clip_picture(frame), frame)


def _where(arrived: Any, new: Any, old: Any) -> Any:
    """``new`` for the clips that arrived, else ``old``."""
    return ops.where(ops.reshape(arrived, (-1, *(1,) * (len(new.shape) - 1))), new, old)


def _known(frame: SentFrame, reals: Any, no_eff: Any) -> tuple[Any, ...]:
    """What a receiver has of a frame, in the order of ``FrameDecoder``; vectors and noise last."""
    gain = frame.gain[:, None, None, None]
    return _present((reals, frame.rate_index, frame.z_hat, gain, frame.motion, no_eff))


def _present(values: Sequence[Any]) -> tuple[Any, ...]:
    """The tensors among the values: a loop carries no None."""
    return tuple(value for value in values if value is not None)


def _pair(carry: Sequence[Any]) -> tuple[Any, Any]:
    """(F, C_s) of what ``_present`` left; a model without temporal coding has no C_s."""
    return (carry[0], carry[1]) if len(carry) == 2 else (carry[0], None)
