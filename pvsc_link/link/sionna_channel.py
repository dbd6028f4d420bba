"""A block of Sionna, or a callable of one's own, as a channel object.

The wrapped thing has the form of Sionna's channel blocks: ``(x, no) -> y``, or, where the receiver
knows h, ``(x, no) -> (y, h)``. Random numbers that it draws from ``sionna.phy.config.tf_rng``, as
Sionna's blocks do, follow from the seed and ``first_symbol`` of a call (``sionna_random``). They
belong to the call as a whole: a call with another batch or another number of symbols may draw
otherwise, so two schemes do not meet the same fading and noise symbol by symbol.
"""

import functools
import json
from collections.abc import Callable
from numbers import Real
from typing import Any

import numpy as np
import tensorflow as tf
from sionna.phy import Block
from sionna.phy.channel import FlatFadingChannel

from pvsc_link.link.channel import ChannelOutput, as_snr_db
from pvsc_link.link.equalizers import Equalizer
from pvsc_link.link.registry import find_equalizer
from pvsc_link.link.sionna_random import sionna_draws
from pvsc_link.options import load_implementation
from pvsc_link.types import InputError, db_to_linear, linear_to_db, noise_variance

#: How far the measured gain of a block may be from the stated one, in dB.
GAIN_TOLERANCE_DB = 1.5
#: Most power of what h does not explain, over that of y, without noise.
_UNEXPLAINED = 0.1

#: Size of a call of the check, [batch, num_symbols], and its fewest and most calls. The gain of a
#: channel that fades as a whole is known after many calls only.
_CHECK_SHAPE, _FEWEST_CALLS, _MOST_CALLS = (8, 64), 8, 128
#: Noise variance of the check where it must not count; blocks may divide by it.
_NO_NOISE = 1e-9


class SionnaChannel(Block):
    """A user's block as a channel.

    On first use, the block is called on a few known symbols and traced for any number of them.
    Refused are a block that raises, a wrong shape, an output that is not complex or not finite,
    draws that do not follow from the seed, an output that ``no`` does not change, noise that is
    the same for every seed, a mean gain that is more than ``GAIN_TOLERANCE_DB`` from the stated
    one, and an h that without noise leaves more than a tenth of the power of y unexplained.

    Parameters
    ----------
    block : called as ``block(x, no)`` with ``x`` : [batch, num_symbols], ``tf.complex64``, and
        ``no`` : [] or [batch, 1], ``tf.float32``, the noise variance. It returns ``y``, like ``x``,
        or ``(y, h)`` with one value of h per symbol or per row. Without h, y is taken as received;
        with h, the receiver takes it for the true channel and equalises: ``no_eff`` does not count
        what may be wrong with h. ``stats["snr"]``, which is measured, does.
    gain_db : mean power of the channel, E|h|^2, in dB. The SNR is that of the received symbols: a
        block of gain G is given ``no`` = G 10^(-snr_db / 10), and G is taken out of the result.
    per_symbol : whether the block sees every symbol as an example of its own: x : [examples, 1];
        None: it does if it is Sionna's ``FlatFadingChannel``
    equalizer : key of ``registry.SYMBOL_EQUALIZERS`` or a callable like ``equalizers.zf``
    csi_aware : without effect, since h is taken for the truth or not known at all

    Input and output: as ``channel.Channel``. Raises ``InputError`` for an unknown equaliser, a gain
    that is no number, and, on first use, what the check refuses.

    Example
    -------
    >>> import tensorflow as tf
    >>> from sionna.phy.channel import AWGN, FlatFadingChannel
    >>> from pvsc_link.link.sionna_channel import SionnaChannel
    >>> x = tf.ones([2, 100], tf.complex64)
    >>> SionnaChannel(AWGN())(x, snr_db=10.0, seed=1).x_hat.shape
    TensorShape([2, 100])
    >>> channel = SionnaChannel(FlatFadingChannel(1, 1, return_channel=True), equalizer="lmmse")
    >>> channel(x, snr_db=10.0, seed=1).no_eff.shape
    TensorShape([2, 100])
    """

    #: A block of somebody else may do what XLA cannot compile.
    jit_compile = False

    def __init__(
        self,
        block: Callable[..., Any],
        *,
        gain_db: float = 0.0,
        per_symbol: bool | None = None,
        equalizer: str | Equalizer = "zf",
        csi_aware: bool = False,
    ):
        super().__init__(precision="single")
        if isinstance(gain_db, bool) or not isinstance(gain_db, Real) or not np.isfinite(gain_db):
            raise InputError(
                "gain_db", found=gain_db, allowed="finite numbers (dB)", remedy="0 is E|h|^2 = 1."
            )
        self._block: Callable[..., Any] = block
        self._gain_db: float = float(gain_db)
        is_flat = isinstance(block, FlatFadingChannel)
        self._per_symbol: bool = is_flat if per_symbol is None else per_symbol
        self._equalizer: Equalizer = find_equalizer(equalizer)
        self._is_checked: bool = False

    def call(self, x: tf.Tensor, *, snr_db: Any, seed: Any, first_symbol: Any = 0) -> ChannelOutput:
        if not self._is_checked:
            with tf.init_scope():  # while a graph is traced too
                self.check()
        gain = db_to_linear(self._gain_db)
        no = gain * noise_variance(as_snr_db(snr_db))
        if no.shape.rank:
            no = no[:, None]
        y, h = self._received(x, no, seed, first_symbol)
        if h is None:
            x_hat = y / tf.cast(gain**0.5, y.dtype)
            no_eff = no / gain + tf.zeros_like(tf.math.real(y))
        else:
            x_hat, no_eff = self._equalizer(y, h, no, tf.zeros([]))
        error, power = (tf.reduce_sum(tf.square(tf.abs(v))) for v in (x_hat - x, x))
        stats = {"snr": power / tf.maximum(error, 1e-12)}
        return ChannelOutput(x_hat, no_eff, 0, stats)

    def check(self) -> None:
        """Call the block on known symbols; raises ``InputError`` for what the class says."""
        turns = np.random.default_rng(0).integers(0, 4, _CHECK_SHAPE)
        x = tf.constant(np.exp(1j * np.pi * (turns / 2 + 0.25)), tf.complex64)
        try:
            first, _ = self._received(x, tf.constant(1.0), 0, 0)
            again, _ = self._received(x, tf.constant(1.0), 0, 0)
            of_another_seed, _ = self._received(x, tf.constant(1.0), 1, 0)
            without_noise, _ = self._received(x, tf.constant(_NO_NOISE), 0, 0)
            spec = tf.TensorSpec([1, None], tf.complex64)
            graph = tf.function(
                lambda x: self._received(x, tf.constant(1.0), 0, 0), autograph=False
            )
            graph.get_concrete_function(spec)
        except InputError:
            raise
        except (Exception, SystemExit) as error:
            raise self._refused(
                f"{type(error).__name__}: {error}"[:300],
                f"a call of the form block(x, no) -> y or (y, h), with x : {list(x.shape)} and, in "
                "a graph, [1, None], complex64",
                "Take shapes from tf.shape(x); for an x of [examples, 1] give per_symbol=True.",
            ) from error
        if not np.array_equal(first, again):
            raise self._refused(
                "two calls with the same seed that differ",
                "random numbers from sionna.phy.config.tf_rng",
                "Replace tf.random and numpy.random by config.tf_rng, as Sionna's blocks do.",
            )
        if np.array_equal(first, without_noise):
            raise self._refused(
                "an output that is the same for every noise variance",
                "noise of the variance no, which sets the SNR",
                "Add the noise, such as sionna.phy.channel.AWGN()(y, no).",
            )
        if np.array_equal(first, of_another_seed):
            raise self._refused(
                "an output that is the same for every seed",
                "random numbers from sionna.phy.config.tf_rng",
                "Draw noise and fading from config.tf_rng, without a seed of your own.",
            )
        powers: list[float] = []
        errors: list[float] = []
        while len(powers) < _MOST_CALLS:
            y, h = self._received(x, tf.constant(_NO_NOISE), len(powers), 0)
            powers.append(float(np.mean(np.abs(y.numpy()) ** 2)))
            errors.append(0.0 if h is None else float(np.mean(np.abs(y - h * x) ** 2)))
            difference_db = linear_to_db(max(float(np.mean(powers)), 1e-12)) - self._gain_db
            if len(powers) >= _FEWEST_CALLS and abs(difference_db) <= GAIN_TOLERANCE_DB:
                unexplained = float(np.sum(errors) / np.sum(powers))
                if unexplained > _UNEXPLAINED:
                    raise self._refused(
                        f"an h of which y - h x has {unexplained:.2g} times the power of y without "
                        "noise",
                        f"at most {_UNEXPLAINED:g} times",
                        "Return the h that multiplied x, in the order of x.",
                    )
                self._is_checked = True
                return
        raise self._refused(
            f"a mean gain of {difference_db + self._gain_db:.2f} dB without noise",
            f"{self._gain_db:g} dB within {GAIN_TOLERANCE_DB:g} dB",
            "Normalise the channel to E|h|^2 = 1, or state its gain (gain_db, in a scenario "
            "block_gain_db).",
        )

    def _received(
        self, x: tf.Tensor, no: tf.Tensor, seed: Any, first_symbol: Any
    ) -> tuple[tf.Tensor, tf.Tensor | None]:
        """Output of the block and, if it has one, its h, both like ``x``."""
        given, of_given = x, no
        if self._per_symbol:
            given = tf.reshape(x, [-1, 1])
            if no.shape.rank:
                of_given = tf.reshape(no + tf.zeros_like(tf.math.real(x)), [-1, 1])
        with sionna_draws(seed, first_symbol):
            result = self._block(given, of_given)
        y, h = result if isinstance(result, tuple | list) else (result, None)
        y = self._complex(tf.convert_to_tensor(y), "y")
        if not y.shape.is_compatible_with(given.shape):
            raise self._refused(
                f"y : {y.shape}", f"{given.shape}, as x has", "Return one y per symbol of x."
            )
        y = tf.reshape(y, tf.shape(x))
        if h is None:
            return self._finite(y, "y"), None
        h = self._complex(tf.convert_to_tensor(h), "h")
        rows = x.shape[0]
        if h.shape.num_elements() is not None and rows is not None:
            allowed = {rows, x.shape.num_elements()}
            if h.shape.num_elements() not in allowed:
                raise self._refused(
                    f"h : {h.shape}", "one value per symbol or per row", "One antenna each."
                )
        h = tf.reshape(h, [tf.shape(x)[0], -1]) + tf.zeros_like(y)
        return self._finite(y, "y"), self._finite(h, "h")

    def _complex(self, value: tf.Tensor, name: str) -> tf.Tensor:
        if not value.dtype.is_complex:
            raise self._refused(
                f"{name} of {value.dtype.name}", "complex numbers", "Return tf.complex64."
            )
        return tf.cast(value, tf.complex64)

    def _finite(self, value: tf.Tensor, name: str) -> tf.Tensor:
        """``value``; outside graphs it is looked at."""
        if tf.executing_eagerly() and not np.isfinite(value.numpy()).all():
            raise self._refused(
                f"{name} with values that are not finite", "finite numbers", "Correct the block."
            )
        return value

    def _refused(self, found: str, allowed: str, remedy: str) -> InputError:
        block = getattr(self._block, "__name__", type(self._block).__name__)
        return InputError(f"channel block {block}", found=found, allowed=allowed, remedy=remedy)


@functools.lru_cache(maxsize=64)
def named_channel(
    *,
    block: str,
    block_options: str = "{}",
    block_gain_db: float = 0.0,
    block_digest: str | None = None,
    equalizer: str | Equalizer = "zf",
    csi_aware: bool = False,
) -> SionnaChannel:
    """The channel of a scenario that names its block.

    Parameters: ``block`` : dotted path ``package.module:make`` of a class or function that makes
    the block; ``block_options`` : JSON of its keyword arguments; ``block_digest`` : of the file
    (``registry.SionnaCondition``), without effect here; others as ``SionnaChannel``.
    Raises ``InputError`` for a path that leads nowhere, options that are not taken, and a module or
    function that raises.
    """
    try:
        make = load_implementation(block)
        with tf.init_scope():  # variables of the block belong to no graph
            made = make(**json.loads(block_options))
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever the user's code raises
        raise InputError(
            f"block {block}",
            found=f"options {block_options}: {type(error).__name__}: {error}"[:300],
            allowed="a class or function that makes the block from block_options",
            remedy="Correct block or block_options.",
        ) from error
    if not callable(made):
        raise InputError(
            f"block {block}",
            found=f"something that makes a {type(made).__name__}",
            allowed="a class or function that makes a callable (x, no) -> y or (y, h)",
            remedy="Return the block from the function that block names.",
        )
    return SionnaChannel(made, gain_db=block_gain_db, equalizer=equalizer, csi_aware=csi_aware)


def check_named(**condition: Any) -> None:
    """Make the block of a scenario and check it (``ChannelType.check``)."""
    named_channel(**condition).check()
