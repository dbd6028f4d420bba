"""The channel contract: symbols in, equalised symbols and their noise variances out (eq. 1 to 4).

Analog symbols, coded bits and training all send through objects of this one form. A channel object
is light: it is made from numbers outside a graph, or from scalar tensors inside a traced function.
In the second way a new SNR, channel estimation error or coherence length never retraces anything
(``ChannelFunction`` does so).
"""

import functools
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from pydantic import BaseModel

from pvsc_link.link.counter_random import seed_tensor
from pvsc_link.link.registry import (
    SYMBOL_EQUALIZERS,
    ChannelType,
    Impairments,
    active_impairments,
    find,
    find_channel,
)
from pvsc_link.types import ChannelPoint, InputError, LinkStats


class ChannelOutput(NamedTuple):
    """What the receiver has after the equaliser.

    ``x_hat`` : [batch, num_symbols], ``tf.complex64``, equalised symbols
    ``no_eff`` : [batch, num_symbols], ``tf.float32``, noise variance after equalisation
    ``overhead`` : channel uses beyond ``num_symbols``, such as pilots, per row of the batch
    ``stats`` : scalars, ``tf.float32``, linear: ``csi_nmse``, the error of the channel estimate as
    measured, and ``snr``, signal power over squared error after the equaliser; ``papr``, largest
    over mean power of what is sent, of a channel that changes the symbols before
    """

    x_hat: tf.Tensor
    no_eff: tf.Tensor
    overhead: Any
    stats: Mapping[str, tf.Tensor]


class Channel(Protocol):
    """Any callable of this form, such as ``flat_fading.Awgn`` and ``flat_fading.BlockFading``.

    A realisation depends on the seed and on the place of a symbol in its stream, and on nothing
    else: two schemes with the same seed meet the same channel, whatever else they do differently.
    A channel object that XLA cannot compile has the attribute ``jit_compile = False``.

    Input
    -----
    x : [batch, num_symbols], tf.complex64, unit mean power; rows meet independent realisations
    snr_db : float, or [] or [batch], tf.float32, Es/N0 in dB per complex symbol (eq. 2)
    seed : int from 0 to 2**64 - 1, or [2], tf.uint32
    first_symbol : int or [], tf.int32, place of ``x[:, 0]`` in its stream

    Output
    ------
    ChannelOutput
    """

    def __call__(
        self, x: tf.Tensor, *, snr_db: Any, seed: Any, first_symbol: Any = 0
    ) -> ChannelOutput: ...


def as_snr_db(snr_db: Any) -> tf.Tensor:
    """Es/N0 in dB as a ``tf.float32`` tensor; tensors and arrays keep their shape.

    Raises ``InputError`` for a number that is not finite, and for what is no number.
    """
    if tf.is_tensor(snr_db):
        return snr_db
    try:
        is_finite = bool(np.all(np.isfinite(np.asarray(snr_db, float))))
    except (TypeError, ValueError):  # "6 dB", a mapping
        is_finite = False
    if not is_finite:
        raise InputError(
            "snr_db",
            found=snr_db,
            allowed="finite numbers (dB)",
            remedy="Give Es/N0 per complex symbol in dB.",
        )
    return tf.convert_to_tensor(snr_db, tf.float32)


def as_tensors(condition: BaseModel, static: Collection[str] = ()) -> dict[str, Any]:
    """The values of a condition as keyword arguments of its channel.

    Numbers become scalar tensors, ``tf.int32`` or ``tf.float32``, so that no value of them retraces
    a graph; None becomes -inf (dB: nothing at all). Anything else stays as it is, and so do the
    fields that ``static`` names.
    """

    def tensor(name: str, value: Any) -> Any:
        if name in static:
            return value
        value = -math.inf if value is None else value
        if isinstance(value, bool) or not isinstance(value, Real):
            return value
        return tf.constant(value, tf.int32 if isinstance(value, int) else tf.float32)

    return {name: tensor(name, value) for name, value in condition.model_dump().items()}


def condition_tensors(point: ChannelPoint) -> dict[str, Any]:
    """``as_tensors`` of the condition of a point and of the impairments that are on.

    Raises ``InputError`` for an unknown channel or a bad value.
    """
    kind = find_channel(point.channel)
    condition = kind.condition_of(point)
    own = as_tensors(condition, kind.static_of(condition))
    return own | impairment_tensors(point.condition)


def impairment_tensors(values: Mapping[str, Any]) -> dict[str, Any]:
    """``as_tensors`` of the impairments among these values that are on."""
    on = active_impairments(values)
    tensors = as_tensors(Impairments(**on))
    return {name: tensors[name] for name in on}


def make_channel(point: ChannelPoint, *, equalizer: Any, csi_aware: bool) -> Channel:
    """The channel object of a point; only the SNR is left to be given when it is called.

    Raises ``InputError`` for an unknown channel or equaliser, or a bad value.
    """
    kind = find_channel(point.channel)
    return kind.make(equalizer=equalizer, csi_aware=csi_aware, **condition_tensors(point))


class Traced:
    """A function of tensors and a channel's condition as graphs with an input signature.

    There is one graph per value of what is no tensor in the condition (``ChannelType.static``),
    and per set of impairments that are on.

    Parameters
    ----------
    function : called with the tensors and the condition
    signature : of the tensors
    jit_compile : whether XLA compiles it
    """

    def __init__(
        self, function: Callable[..., Any], signature: Sequence[tf.TensorSpec], jit_compile: bool
    ):
        self._function, self._signature, self._jit_compile = function, signature, jit_compile
        self._graphs: dict[tuple, Callable[..., Any]] = {}

    def __call__(self, *tensors: Any, condition: Mapping[str, Any]) -> Any:
        numbers = {name: value for name, value in condition.items() if tf.is_tensor(value)}
        fixed = {name: value for name, value in condition.items() if name not in numbers}
        key = (*((name, repr(value)) for name, value in fixed.items()), *numbers)
        if key not in self._graphs:
            specs = {name: tf.TensorSpec.from_tensor(value) for name, value in numbers.items()}
            self._graphs[key] = tf.function(
                lambda *inputs: self._function(*inputs[:-1], fixed | inputs[-1]),
                jit_compile=self._jit_compile,
                # There is no Python control flow to convert: it is traced twice as fast.
                autograph=False,
                input_signature=[*self._signature, specs],
            )
        return self._graphs[key](*tensors, numbers)


def checked_output(output: Any, x: tf.Tensor) -> ChannelOutput:
    """What a channel returned for ``x``, if it has the form of ``ChannelOutput``.

    A negative noise variance becomes NaN, which whoever looks at values refuses. Raises
    ``InputError`` that says what came back otherwise.
    """

    def description(value: Any) -> str:
        return f"{value.dtype.name} {value.shape}" if tf.is_tensor(value) else f"{type(value)}"

    found = type(output).__name__
    if isinstance(output, tuple) and len(output) == len(ChannelOutput._fields):
        parts = zip(ChannelOutput._fields, output, (tf.complex64, tf.float32), strict=False)
        bad = [
            (name, value)
            for name, value, dtype in parts
            if not tf.is_tensor(value)
            or value.dtype != dtype
            or not value.shape.is_compatible_with(x.shape)
        ]
        if not bad:
            for value in output[:2]:  # where sizes are open in the graph
                tf.debugging.assert_equal(tf.shape(value), tf.shape(x), "channel: another shape")
            no_eff = tf.where(output[1] >= 0.0, output[1], math.nan)
            return ChannelOutput(*output)._replace(no_eff=no_eff)
        found = ", ".join(f"{name} {description(value)}" for name, value in bad)
    raise InputError(
        "what the channel returned",
        found=found,
        allowed=f"ChannelOutput: x_hat complex64 {x.shape}, no_eff float32 {x.shape}, ...",
        remedy="pvsc_link.link.Channel describes the form.",
    )


def link_stats(x: tf.Tensor, output: ChannelOutput, num_sent: tf.Tensor) -> tf.Tensor:
    """What was measured over the first ``num_sent`` symbols of a stream.

    Input: ``x`` : [1, num_symbols], what went into the channel; ``num_sent`` : [], tf.int32.
    Output: [3], tf.float32, the fields of ``LinkStats`` after the first. ``csi_nmse`` is as the
    channel states it for all of ``x``, NaN if it does not; ``papr`` is that of ``x``, or as a
    channel that changes the symbols before it sends them states it.
    """
    sent = tf.cast(tf.range(tf.shape(x)[1]) < num_sent, tf.float32)
    powers, errors = (
        sent * (tf.square(tf.math.real(v)) + tf.square(tf.math.imag(v)))
        for v in (x, output.x_hat - x)
    )
    power, error = tf.reduce_sum(powers), tf.reduce_sum(errors)
    csi_nmse = tf.cast(output.stats.get("csi_nmse", math.nan), tf.float32)
    peak = tf.reduce_max(powers) * tf.reduce_sum(sent) / power
    papr = output.stats.get("papr", peak)
    return tf.stack([csi_nmse, power / tf.maximum(error, 1e-12 * power), papr])


def checked_overhead(overhead: Any) -> int:
    """The channel uses beyond the symbols; ``InputError`` for fewer than none."""
    if int(overhead) < 0:
        raise InputError(
            "overhead of the channel",
            found=int(overhead),
            allowed="0 or a positive number of channel uses",
            remedy="Return the channel uses beyond num_symbols, such as pilots, of a row.",
        )
    return int(overhead)


def require_channel(channel: Any) -> None:
    """Raise ``InputError`` for a channel object that cannot be called."""
    if not callable(channel):
        raise InputError(
            "channel object",
            found=channel,
            allowed="a callable as pvsc_link.link.Channel describes it",
            remedy="pvsc_link.channels has some, such as Awgn().",
        )


class SymbolReception(NamedTuple):
    """A stream of analog symbols behind the equaliser, and the channel uses that it took."""

    symbols_hat: np.ndarray  # complex64 [num_symbols]
    no_eff: np.ndarray  # float32 [num_symbols], noise variance after equalisation
    num_channel_uses: int  # with pilots; over a packet network bytes
    stats: LinkStats

    @property
    def arrived(self) -> np.ndarray | None:
        """Which symbols arrived, bool [num_symbols]; None: they were not sent in packets."""
        return None


class ChannelFunction:
    """A kind of channel as one traced function, for streams of analog symbols.

    Neither the length of a stream nor a number of a point retraces it.

    Parameters
    ----------
    kind : ChannelType
    equalizer : key of ``registry.SYMBOL_EQUALIZERS``, or a callable like ``equalizers.zf``
    csi_aware : whether the equaliser knows the variance of the channel estimation error
    """

    def __init__(self, kind: ChannelType, equalizer: Any, csi_aware: bool):
        self._make: Callable[..., Channel] = functools.partial(
            kind.make, equalizer=equalizer, csi_aware=csi_aware
        )
        self.trace_count = 0
        one, scalar = tf.TensorSpec([1, None], tf.complex64), tf.TensorSpec([], tf.int32)
        numbers = tf.TensorSpec([], tf.float32), tf.TensorSpec([2], tf.uint32), scalar
        self._traced = Traced(self._run, [one, *numbers], jit_compile=False)
        places = tf.TensorSpec([None], tf.int32), scalar
        self._scattered = Traced(self._run_scattered, [one, *numbers, *places], jit_compile=False)

    def __call__(
        self,
        symbols: np.ndarray,
        point: ChannelPoint,
        seed: int,
        first_symbol: int = 0,
        places: np.ndarray | None = None,
    ) -> SymbolReception:
        """One stream of symbols through the channel.

        Input: ``symbols`` : [num_symbols], complex64, unit mean power; ``point`` : of this kind of
        channel; ``first_symbol`` : channel use of the first symbol in the process of ``seed``;
        ``places`` : [num_symbols], integers from 0, channel use of each symbol after
        ``first_symbol`` where they do not follow each other. Pilots are then those of the symbols'
        share of all channel uses from the first to the last.
        Raises ``InputError`` for a bad point, seed or places, and for a channel that returns values
        that are not finite, a negative noise variance or a negative overhead.
        """
        x, num = tf.constant(symbols[None], tf.complex64), len(symbols)
        condition, snr_db = condition_tensors(point), as_snr_db(point.snr_db)
        if places is None or not num:
            numbers = snr_db, seed_tensor(seed), tf.constant(first_symbol)
            outputs, span = self._traced(x, *numbers, condition=condition), num
        else:
            first, span = _extent(places, num)
            numbers = snr_db, seed_tensor(seed), tf.constant(first_symbol + first)
            at = tf.constant(places - first, tf.int32), tf.constant(span)
            outputs = self._scattered(x, *numbers, *at, condition=condition)
        x_hat, no_eff, overhead, stats = outputs
        uses = num + -(-checked_overhead(overhead) * num // max(span, 1))
        for name, values in (("x_hat", x_hat), ("no_eff", no_eff)):
            bad = int(np.sum(~np.isfinite(values.numpy())))
            if bad:
                raise InputError(
                    f"{name} of the channel {point.channel}",
                    found=f"{bad} of {num} NaN, infinite or, of no_eff, negative",
                    allowed="finite values, of no_eff from 0",
                    remedy="Correct the channel, or what its equaliser divides by.",
                )
        measured = LinkStats(num, *stats.numpy().tolist())
        return SymbolReception(x_hat.numpy()[0], no_eff.numpy()[0], uses, measured)

    def _run(self, x, snr_db, seed, first_symbol, condition):
        self.trace_count += 1
        channel = self._make(**condition)
        output = checked_output(channel(x, snr_db=snr_db, seed=seed, first_symbol=first_symbol), x)
        stats = link_stats(x, output, tf.shape(x)[1])
        return output.x_hat, output.no_eff, tf.cast(output.overhead, tf.int32), stats

    def _run_scattered(self, x, snr_db, seed, first_symbol, places, span, condition):
        """``_run`` of symbols at ``places`` of a stream of ``span``; nothing is sent elsewhere."""
        self.trace_count += 1
        whole = tf.scatter_nd(places[:, None], x[0], [span])[None]
        channel = self._make(**condition)
        numbers = {"snr_db": snr_db, "seed": seed, "first_symbol": first_symbol}
        output = checked_output(channel(whole, **numbers), whole)
        x_hat, no_eff = (tf.gather(part, places, axis=1) for part in output[:2])
        overhead = tf.cast(output.overhead, tf.int32)
        gathered = ChannelOutput(x_hat, no_eff, overhead, output.stats)
        return x_hat, no_eff, overhead, link_stats(x, gathered, tf.shape(x)[1])


def _extent(places: np.ndarray, num_symbols: int) -> tuple[int, int]:
    """The first of the places, and the channel uses from there to the last.

    Raises ``InputError`` unless there are as many distinct places from 0 as symbols.
    """
    places = np.asarray(places)
    whole = places.dtype.kind in "iu" and places.shape == (num_symbols,)
    if not whole or places.min() < 0 or len(np.unique(places)) < num_symbols:
        raise InputError(
            "places",
            found=f"{places.dtype.name} {list(places.shape)}",
            allowed=f"{num_symbols} distinct integers from 0",
            remedy="Give one channel use per symbol.",
        )
    return int(places.min()), int(places.max() - places.min()) + 1


@functools.lru_cache(maxsize=64)
def channel_function(kind: ChannelType, equalizer: Any, csi_aware: bool) -> ChannelFunction:
    """The ``ChannelFunction`` of these parameters, traced once per process."""
    return ChannelFunction(kind, equalizer, csi_aware)


def get_channel_function(channel: str, equalizer: str, csi_aware: bool) -> ChannelFunction:
    """The ``ChannelFunction`` of these parameters, traced once per process.

    Raises ``InputError`` for an unknown channel or equaliser.
    """
    find("equalizer", equalizer, SYMBOL_EQUALIZERS)
    return channel_function(find_channel(channel), equalizer, csi_aware)
