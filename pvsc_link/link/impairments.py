"""Impairments around any channel: clipping, carrier offset, phase noise and burst erasures.

    x --> clip --> rotate --> channel, equaliser --> undo the gain of clipping --> erase --> x_hat

Each stage is off unless its value is given. All draws are functions of the seed and the place of a
symbol in its stream (``counter_random``), under keys of their own: a stage that is switched on
moves no draw of the channel, and any piece of a stream meets what the whole stream meets. The
processes with memory, phase noise and erasures, are drawn along a binary tree over the places 0 to
2^31, from the ends of an interval to its middle, so that the state at one place takes 31 draws.
"""

import math
from typing import Any

import tensorflow as tf
from sionna.phy import Block

from pvsc_link.link.channel import Channel, ChannelOutput, require_channel
from pvsc_link.link.counter_random import complex_normal, seed_tensor, threefry
from pvsc_link.link.equalizers import as_complex
from pvsc_link.link.registry import active_impairments
from pvsc_link.types import db_to_linear

#: Noise variance that is stated of an erased symbol (60 dB): its LLRs vanish.
ERASED_NO_EFF = 1e6

#: Levels of the tree, one per bit of a place.
_LEVELS = 31
#: Numbers of the stages; their generators have keys of their own.
_PHASE_NOISE, _ERASURES = 0, 1
#: First word of the counters that make these keys. No symbol of a stream has this place.
_OF_KEYS = 2**32 - 1
_NEWTON_STEPS = 32


def _key(seed: Any, stage: int) -> tf.Tensor:
    words = tf.constant(_OF_KEYS, tf.uint32), tf.constant(stage, tf.uint32)
    return tf.stack(threefry(seed_tensor(seed), *words))


def _nodes(places: tf.Tensor, row: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Stream and index of the node of every level, from 1 at the leaves, that holds a place.

    Input: ``places`` : [num_symbols], ``row`` : [batch], both ``tf.int32``.
    Output: two tensors [_LEVELS, batch, num_symbols], ``tf.int32``.
    """
    level = tf.range(1, _LEVELS + 1)[:, None, None]
    index = tf.bitwise.right_shift(places[None, None], level)
    stream = row[None, :, None] * (_LEVELS + 1) + level
    return stream + tf.zeros_like(index), index + tf.zeros_like(stream)


def clip(x: tf.Tensor, papr_db: Any) -> tuple[tf.Tensor, tf.Tensor]:
    """Clip the symbols of every row at a peak-to-average power ratio; the mean power stays.

    Amplitudes above A become A, phases stay, and the row is scaled by g to the mean power that it
    had. A solves A^2 / E[min(|x|^2, A^2)] = limit, so the ratio of what is sent does not exceed the
    limit; a row that keeps it stays as it is. Means are over the symbols of the row that are not
    exactly 0, so that places after the end of a stream do not count.

    Input: ``x`` : [batch, num_symbols], ``tf.complex64``; ``papr_db`` : float or [], dB, from 0.
    Output: what is sent, like ``x``; ``g`` : [batch, 1], ``tf.float32``. Differentiable.
    """
    limit = tf.cast(db_to_linear(papr_db), tf.float32)
    power = tf.square(tf.math.real(x)) + tf.square(tf.math.imag(x))
    count = tf.reduce_sum(tf.cast(power > 0.0, tf.float32), axis=-1, keepdims=True)
    mean = tf.math.divide_no_nan(tf.reduce_sum(power, axis=-1, keepdims=True), count)

    def step(peak: tf.Tensor) -> tf.Tensor:
        """Newton's step; with the right symbols above the peak it solves the equation exactly."""
        above = tf.cast(power > peak, tf.float32)
        below = tf.reduce_sum(power * (1.0 - above), axis=-1, keepdims=True)
        rest = count - limit * tf.reduce_sum(above, axis=-1, keepdims=True)
        return tf.where(rest > 0.0, tf.math.divide_no_nan(limit * below, rest), peak)

    # The function is convex and piecewise linear: from above, Newton's steps never pass the root.
    peak = tf.stop_gradient(limit * mean)
    fixed = tf.stop_gradient(power)
    for _ in range(_NEWTON_STEPS):
        peak = tf.stop_gradient(tf.minimum(step(peak), peak))
    clipped = fixed > peak * (1.0 + 1e-6)
    exact = tf.where(tf.reduce_any(clipped, axis=-1, keepdims=True), step(peak), peak)
    scale = tf.where(clipped, tf.sqrt(exact / tf.where(clipped, power, 1.0)), 1.0)
    left = tf.math.divide_no_nan(
        tf.reduce_sum(power * tf.square(scale), axis=-1, keepdims=True), count
    )
    gain = tf.sqrt(tf.where(left > 0.0, mean / tf.where(left > 0.0, left, 1.0), 1.0))
    return x * as_complex(gain * scale), gain


def wiener(seed: Any, places: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
    """A Wiener process that starts at 0 and gains variance 1 per place (Levy's construction).

    Input: ``seed`` : int, or [2], ``tf.uint32``; ``places`` : [num_symbols], ``tf.int32``;
    ``row`` : [batch], ``tf.int32``. Output: [batch, num_symbols], ``tf.float32``.
    """
    key = _key(seed, _PHASE_NOISE)
    stream, index = _nodes(places, row)
    normal = math.sqrt(2.0) * tf.math.real(complex_normal(key, stream, index))
    level = tf.range(1, _LEVELS + 1)[:, None, None]
    length = tf.pow(2.0, tf.cast(level, tf.float32))
    rest = tf.cast(places[None, None] - tf.bitwise.left_shift(index, level), tf.float32)
    middles = normal * tf.minimum(rest, length - rest) / tf.sqrt(length)
    first = row[:, None] * (_LEVELS + 1)
    end = math.sqrt(2.0) * tf.math.real(complex_normal(key, first, tf.zeros_like(first)))
    line = end * tf.cast(places, tf.float32)[None] * 2.0 ** (-_LEVELS / 2)
    return tf.reduce_sum(middles, axis=0) + line


def phase_error(
    seed: Any,
    places: tf.Tensor,
    row: tf.Tensor,
    *,
    carrier_offset: Any = None,
    phase_noise: Any = None,
    phase_interval: Any = None,
) -> tf.Tensor:
    """Phase by which the symbols at ``places`` are rotated: offset and Wiener phase noise.

        phase(p) = 2 pi carrier_offset (p - p0) + sqrt(phase_noise) (W(p) - W(p0))

    W is ``wiener`` and p0 the last multiple of ``phase_interval``, 0 without one.

    Input: places as in ``wiener``; parameters as in ``Impaired``.
    Output: [batch, num_symbols], ``tf.float32``, rad.
    """
    start = tf.zeros_like(places)
    if phase_interval is not None:
        start = places - tf.math.floormod(places, tf.cast(phase_interval, tf.int32))
    phase = tf.zeros([tf.shape(row)[0], tf.shape(places)[0]])
    if carrier_offset is not None:
        turns = tf.cast(carrier_offset, tf.float64) * tf.cast(places - start, tf.float64)
        phase += tf.cast(2.0 * math.pi * tf.math.floormod(turns, 1.0), tf.float32)[None]
    if phase_noise is not None:
        walk = wiener(seed, places, row)
        if phase_interval is not None:
            walk -= wiener(seed, start, row)
        phase += tf.sqrt(tf.cast(phase_noise, tf.float32)) * walk
    return phase


def erasures(
    seed: Any, places: tf.Tensor, row: tf.Tensor, *, rate: Any, burst: Any = None
) -> tf.Tensor:
    """Which symbols a Gilbert-Elliott channel erases.

    A Markov chain of two states over channel uses: the fraction ``rate`` is erased, in bursts of
    geometric length with the mean ``burst``; without it, symbols are erased independently.

    Input: places as in ``wiener``; parameters as in ``Impaired``.
    Output: [batch, num_symbols], bool.
    """
    thresholds, ends = _thresholds(rate, burst)
    stream, index = _nodes(places, row)
    key = _key(seed, _ERASURES)
    words, _ = threefry(key, tf.cast(index, tf.uint32), tf.cast(stream, tf.uint32))
    first = tf.cast(row[:, None] * (_LEVELS + 1), tf.uint32)
    at_start, _ = threefry(key, tf.zeros_like(first), first)
    at_end, _ = threefry(key, tf.ones_like(first), first)
    none = tf.zeros(tf.shape(words)[1:], tf.bool)
    left = tf.logical_or(none, at_start < ends[0])
    right = tf.logical_or(none, at_end < tf.where(left, ends[2], ends[1]))
    for level in range(_LEVELS, 0, -1):
        at = thresholds[level - 1]
        of_ends = tf.where(left, tf.where(right, at[3], at[2]), tf.where(right, at[1], at[0]))
        middle = words[level - 1] < of_ends
        later = tf.bitwise.bitwise_and(tf.bitwise.right_shift(places, level - 1), 1)[None] == 1
        left, right = tf.where(later, middle, left), tf.where(later, right, middle)
    return left


def _thresholds(rate: Any, burst: Any) -> tuple[list[tf.Tensor], tf.Tensor]:
    """Probabilities of the erased state as 32-bit words.

    Output: per level, from 1, [4]: in the middle of an interval by its left and right end (00, 01,
    10, 11); and [3]: at place 0, and at place 2^31 after a 0 and after a 1 at place 0.
    """
    bad = tf.cast(rate, tf.float64)
    good = 1.0 - bad
    # The transition matrix over n uses is that of n = 1 with d_n = 1 - lambda^n in place of d_1.
    d = tf.ones([], tf.float64)
    if burst is not None:
        d = 1.0 / (tf.cast(burst, tf.float64) * good)
    thresholds = []
    for _ in range(_LEVELS):
        twice = d * (2.0 - d)
        up, stay = bad * d, 1.0 - good * d  # to the erased state, from 0 and from 1
        middle = tf.stack(
            [
                tf.math.divide_no_nan(up * good * d, 1.0 - bad * twice),
                tf.math.divide_no_nan(up * stay, bad * twice),
                tf.math.divide_no_nan(stay * good * d, good * twice),
                tf.math.divide_no_nan(stay * stay, 1.0 - good * twice),
            ]
        )
        thresholds.append(_as_words(middle))
        d = twice
    return thresholds, _as_words(tf.stack([bad, bad * d, 1.0 - good * d]))


def _as_words(probability: tf.Tensor) -> tf.Tensor:
    scaled = tf.round(tf.clip_by_value(probability * 2.0**32, 0.0, 2.0**32 - 1.0))
    return tf.cast(tf.cast(scaled, tf.int64), tf.uint32)


def _largest_papr(x: tf.Tensor) -> tf.Tensor:
    """Peak over mean power of the rows, the largest; symbols of exactly 0 do not count."""
    power = tf.square(tf.math.real(x)) + tf.square(tf.math.imag(x))
    count = tf.reduce_sum(tf.cast(power > 0.0, tf.float32), axis=-1)
    mean = tf.math.divide_no_nan(tf.reduce_sum(power, axis=-1), count)
    return tf.reduce_max(tf.math.divide_no_nan(tf.reduce_max(power, axis=-1), mean))


class Impaired(Block):
    """A channel with impairments around it; itself a channel object (``channel.Channel``).

    - Clipping, in the transmitter (``clip``). The limit holds for the symbols of a row that are
      sent in one call, which is a GOP of analog symbols or a batch of coded blocks. SNR counts the
      power after clipping. The receiver knows the gain g, as it would from pilots that are scaled
      alike, and divides by it; it is not told of the distortion.
    - Carrier offset and phase noise rotate the symbols before the channel (``phase_error``). In a
      flat channel that is the same as a rotation at the receiver. The receiver is not told of it,
      but it may have a perfect phase reference every ``phase_interval`` channel uses.
    - Erased symbols (``erasures``) arrive as ``x_hat`` = 0 with ``no_eff`` = ``ERASED_NO_EFF``,
      from which a demapper makes LLRs near 0. So the receiver knows what was erased.

    Each number may be a scalar tensor; None: the stage is off.

    Parameters
    ----------
    channel : the channel object
    clip_papr_db : highest peak-to-average power ratio of what is sent, dB, from 0
    carrier_offset : residual offset of the carrier, cycles per channel use
    phase_noise : variance that the phase gains per channel use, rad^2; an oscillator of linewidth
        B (Hz, 3 dB, two-sided) at a symbol rate R has 2 pi B / R
    phase_interval : channel uses between two phase references; None: there is one, at place 0
    erasure_rate : fraction of erased channel uses, below 1
    erasure_burst : mean length of a burst of erasures, channel uses, from 1; None: independent

    Input and output: as ``channel.Channel``; in ``stats`` ``snr`` is measured after all stages,
    and ``papr`` is that of the clipped symbols where they are clipped.
    Differentiable with respect to ``x`` wherever the channel is. Raises ``InputError`` for a bad
    number (tensors are not looked into).

    Example
    -------
    >>> import tensorflow as tf
    >>> from pvsc_link.link.flat_fading import Awgn
    >>> from pvsc_link.link.impairments import Impaired
    >>> channel = Impaired(Awgn(), erasure_rate=0.1, erasure_burst=5)
    >>> out = channel(tf.ones([1, 10_000], tf.complex64), snr_db=30.0, seed=1)
    >>> erased = tf.reduce_mean(tf.cast(out.x_hat == 0, tf.float32))
    >>> bool(abs(erased - 0.1) < 0.03)
    True
    """

    def __init__(
        self,
        channel: Channel,
        *,
        clip_papr_db: Any = None,
        carrier_offset: Any = None,
        phase_noise: Any = None,
        phase_interval: Any = None,
        erasure_rate: Any = None,
        erasure_burst: Any = None,
    ):
        super().__init__(precision="single")
        given = {
            "clip_papr_db": clip_papr_db,
            "carrier_offset": carrier_offset,
            "phase_noise": phase_noise,
            "phase_interval": phase_interval,
            "erasure_rate": erasure_rate,
            "erasure_burst": erasure_burst,
        }
        active_impairments(
            {name: value for name, value in given.items() if not tf.is_tensor(value)}
        )
        require_channel(channel)
        self._channel = channel
        self._clip, self._rate, self._burst = clip_papr_db, erasure_rate, erasure_burst
        self._rotation = {
            "carrier_offset": carrier_offset,
            "phase_noise": phase_noise,
            "phase_interval": phase_interval,
        }

    @property
    def jit_compile(self) -> bool:
        """Whether XLA can compile it: as the channel inside."""
        return bool(getattr(self._channel, "jit_compile", True))

    def call(self, x: tf.Tensor, *, snr_db: Any, seed: Any, first_symbol: Any = 0) -> ChannelOutput:
        batch, num_symbols = tf.unstack(tf.shape(x))
        places, row = first_symbol + tf.range(num_symbols), tf.range(batch)
        sent, gain = x, tf.ones([])
        if self._clip is not None:
            sent, gain = clip(x, self._clip)
        if (
            self._rotation["carrier_offset"] is not None
            or self._rotation["phase_noise"] is not None
        ):
            phase = phase_error(seed, places, row, **self._rotation)
            sent *= tf.complex(tf.cos(phase), tf.sin(phase))
        out = self._channel(sent, snr_db=snr_db, seed=seed, first_symbol=first_symbol)
        x_hat, no_eff = out.x_hat, out.no_eff
        if self._clip is not None:
            x_hat, no_eff = x_hat / as_complex(gain), no_eff / tf.square(gain)
        if self._rate is not None:
            erased = erasures(seed, places, row, rate=self._rate, burst=self._burst)
            x_hat = tf.where(erased, tf.zeros_like(x_hat), x_hat)
            no_eff = tf.where(erased, ERASED_NO_EFF, no_eff)
        error, power = tf.abs(x_hat - x), tf.abs(x)
        snr = tf.reduce_sum(tf.square(power)) / tf.maximum(tf.reduce_sum(tf.square(error)), 1e-12)
        stats = {**out.stats, "snr": snr}
        if self._clip is not None:
            stats["papr"] = _largest_papr(sent)
        return ChannelOutput(x_hat, no_eff, out.overhead, stats)
