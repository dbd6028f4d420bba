"""Flat channels: fading, channel estimation error, noise and equaliser (eq. 1 to 4).

    y = h x + sqrt(N0) n          eq. 1, N0 = 10^(-snr_db / 10)      eq. 2
    h_hat = h + sqrt(nmse) e      eq. 3
    x_hat = h_hat* y / |h_hat|^2  eq. 4, for zero forcing

This is the only place that computes them. All draws are functions of the seed and the place of a
symbol in its stream (``counter_random``).
"""

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import tensorflow as tf
from sionna.phy import Block
from sionna.phy.channel import ApplyFlatFadingChannel

from pvsc_link.link.channel import ChannelOutput, as_snr_db
from pvsc_link.link.counter_random import complex_normal, seed_tensor
from pvsc_link.link.equalizers import Equalizer, as_complex, receiver_knowledge
from pvsc_link.link.registry import find, find_equalizer
from pvsc_link.types import InputError, db_to_linear, noise_variance

#: Makes the fading h, E|h|^2 = 1, from one CN(0, 1) sample per coherence block. A law whose mean
#: is not 0 has the attributes ``mean`` (real) and ``variance``, which an aware receiver knows.
Law = Callable[[tf.Tensor], tf.Tensor]


def rayleigh(g: tf.Tensor) -> tf.Tensor:
    """Rayleigh fading: h ~ CN(0, 1)."""
    return g


class Rician:
    """Rician fading: ``h = sqrt(K / (K + 1)) + sqrt(1 / (K + 1)) g``, g ~ CN(0, 1).

    The line of sight has phase 0, constant over the whole stream: the receiver is synchronised to
    it, so the mean of h is real and known. K to infinity is AWGN, K = 0 is Rayleigh fading.

    Parameters: ``k_factor_db`` : K, power of the line of sight over that of the scattered paths, in
    dB, float or [], ``tf.float32``; -inf (K = 0) and inf are allowed.
    Raises ``InputError`` for None and for what is no number (tensors are not looked into).
    """

    def __init__(self, k_factor_db: Any):
        if not tf.is_tensor(k_factor_db):
            if not isinstance(k_factor_db, Real) or math.isnan(k_factor_db):
                raise InputError(
                    "k_factor_db",
                    found=k_factor_db,
                    allowed="numbers (dB)",
                    remedy="Give the K factor of Rician fading; 10 is a strong line of sight.",
                )
            k_factor_db = tf.constant(k_factor_db, tf.float32)
        log_k = k_factor_db * (math.log(10.0) / 10.0)
        # K / (K + 1) and 1 / (K + 1), which stay finite for every K.
        self.mean, self.variance = tf.sqrt(tf.sigmoid(log_k)), tf.sigmoid(-log_k)

    def __call__(self, g: tf.Tensor) -> tf.Tensor:
        return tf.cast(self.mean, g.dtype) + as_complex(tf.sqrt(self.variance)) * g


#: Fading laws of ``BlockFading`` by name. What an aware receiver knows (``receiver_knowledge`` in
#: ``equalizers``) is exact for all of them. For a callable of one's own it is the best linear
#: estimate, which is exact if h is complex Gaussian.
LAWS: dict[str, Law | type[Rician]] = {"rayleigh": rayleigh, "rician": Rician}

# Streams of the random generator. Row b of a batch uses the numbers 4 b to 4 b + 3.
_FADING, _CSI_ERROR, _NOISE, _STREAMS_PER_ROW = 0, 1, 2, 4

_APPLY = ApplyFlatFadingChannel(precision="single")


class _FlatChannel(Block):
    """What the flat channels share: noise, equaliser and the contract of ``channel.Channel``."""

    def __init__(self, equalizer: str | Equalizer, csi_aware: bool):
        super().__init__(precision="single")
        self._equalizer, self._csi_aware = find_equalizer(equalizer), csi_aware
        self._csi_nmse: Any = tf.constant(0.0)  # linear
        self._law: Law = rayleigh

    def draw(
        self, seed: Any, places: tf.Tensor, row: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Fading, its estimate and unit noise of the symbols at ``places`` of a stream.

        Input: ``seed`` : int, or [2], ``tf.uint32``; ``places`` : [...], ``tf.int32``, from 0;
        ``row`` : int or ``tf.int32`` that broadcasts with ``places``; rows are independent.
        Output: ``h``, ``h_hat``, ``noise`` : [...], ``tf.complex64``, E|h|^2 = E|noise|^2 = 1.
        """
        raise NotImplementedError

    def call(self, x: tf.Tensor, *, snr_db: Any, seed: Any, first_symbol: Any = 0) -> ChannelOutput:
        no = noise_variance(as_snr_db(snr_db))
        if no.shape.rank:
            no = no[:, None]
        batch, num_symbols = tf.unstack(tf.shape(x))
        places = tf.tile((first_symbol + tf.range(num_symbols))[None], [batch, 1])
        h, h_hat, noise = self.draw(seed, places, tf.range(batch)[:, None])
        faded = _APPLY(tf.reshape(x, [-1, 1]), tf.reshape(h, [-1, 1, 1]))
        y = tf.reshape(faded, tf.shape(x)) + as_complex(tf.sqrt(no)) * noise
        known, err_var = receiver_knowledge(
            h_hat,
            self._csi_nmse,
            csi_aware=self._csi_aware,
            mean=getattr(self._law, "mean", 0.0),
            variance=getattr(self._law, "variance", 1.0),
        )
        x_hat, no_eff = self._equalizer(y, known, no, err_var)
        stats = {
            "csi_nmse": _power(h_hat - h) / _power(h),
            "snr": _power(x) / tf.maximum(_power(x_hat - x), 1e-12),
        }
        return ChannelOutput(x_hat, no_eff, 0, stats)


class Awgn(_FlatChannel):
    """Additive white Gaussian noise: ``y = x + sqrt(N0) n``, h = 1 and known (eq. 1 and 2).

    Parameters
    ----------
    equalizer : key of ``registry.SYMBOL_EQUALIZERS`` or a callable like ``equalizers.zf``
    csi_aware : without effect, since there is no channel estimation error

    Input and output: as ``channel.Channel``. Raises ``InputError`` for an unknown equaliser.
    """

    def __init__(self, *, equalizer: str | Equalizer = "zf", csi_aware: bool = False):
        super().__init__(equalizer, csi_aware)

    def draw(
        self, seed: Any, places: tf.Tensor, row: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        stream = tf.convert_to_tensor(row, tf.int32) * _STREAMS_PER_ROW + _NOISE
        noise = complex_normal(seed_tensor(seed), stream + tf.zeros_like(places), places)
        return tf.ones_like(noise), tf.ones_like(noise), noise


class BlockFading(_FlatChannel):
    """Block fading: h is constant over ``coherence_length`` channel uses, then a new one is drawn.

    The receiver estimates once per coherence block, ``h_hat = h + sqrt(nmse) e`` (eq. 3), so the
    error is constant inside a block and independent between blocks, as the fading is.

    Parameters
    ----------
    law : key of ``LAWS``, or a callable g -> h with E|h|^2 = 1 for g ~ CN(0, 1)
    k_factor_db : of ``rician`` alone, which needs it (``Rician``); float or [], tf.float32, dB
    csi_nmse_db : None (perfect channel knowledge), float or [], tf.float32, dB; -inf: perfect
    coherence_length : int or [], tf.int32, channel uses
    equalizer : key of ``registry.SYMBOL_EQUALIZERS`` or a callable like ``equalizers.zf``
    csi_aware : whether the equaliser knows the variance of the channel estimation error

    Input and output: as ``channel.Channel``. Differentiable with respect to ``x``. Raises
    ``InputError`` for an unknown name and for a bad number (tensors are not looked into).

    Example
    -------
    >>> import tensorflow as tf
    >>> from pvsc_link.link.flat_fading import BlockFading
    >>> channel = BlockFading("rayleigh", csi_nmse_db=-20.0, coherence_length=16)
    >>> x = tf.ones([2, 64], tf.complex64)
    >>> out = channel(x, snr_db=10.0, seed=1)
    >>> out.x_hat.shape, out.no_eff.dtype, out.overhead
    (TensorShape([2, 64]), tf.float32, 0)
    """

    def __init__(
        self,
        law: str | Law = "rayleigh",
        *,
        k_factor_db: Any = None,
        csi_nmse_db: Any = None,
        coherence_length: Any = 1,
        equalizer: str | Equalizer = "zf",
        csi_aware: bool = False,
    ):
        super().__init__(equalizer, csi_aware)
        self._law = _find_law(law, k_factor_db)
        self._csi_nmse = db_to_linear(_as_csi_nmse_db(csi_nmse_db))
        self._coherence_length = _as_coherence_length(coherence_length)

    def draw(
        self, seed: Any, places: tf.Tensor, row: tf.Tensor | int = 0
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        block = tf.math.floordiv(places, self._coherence_length)
        first = tf.convert_to_tensor(row, tf.int32) * _STREAMS_PER_ROW + tf.zeros_like(places)
        # One call for all three: XLA then compiles the generator once instead of three times.
        streams = tf.stack([first + offset for offset in (_FADING, _CSI_ERROR, _NOISE)])
        samples = complex_normal(seed_tensor(seed), streams, tf.stack([block, block, places]))
        g, e, noise = tf.unstack(samples)
        h = self._law(g)
        return h, h + as_complex(tf.sqrt(self._csi_nmse)) * e, noise


def _find_law(law: str | Law, k_factor_db: Any) -> Law:
    found = law if callable(law) else find("fading law", law, LAWS)
    if found is Rician:
        return Rician(k_factor_db)
    if k_factor_db is not None:
        raise InputError(
            "k_factor_db of another law than rician",
            found=k_factor_db,
            allowed="None",
            remedy='Leave it out, or take the law "rician".',
        )
    return found


def _power(values: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(tf.math.real(values)) + tf.square(tf.math.imag(values)))


def _as_csi_nmse_db(csi_nmse_db: Any) -> tf.Tensor:
    if tf.is_tensor(csi_nmse_db):
        return csi_nmse_db
    value = -math.inf if csi_nmse_db is None else csi_nmse_db
    if not isinstance(value, Real) or not value < math.inf:
        raise InputError(
            "csi_nmse_db",
            found=value,
            allowed="numbers (dB), or None",
            remedy="None stands for perfect channel knowledge.",
        )
    return tf.constant(value, tf.float32)


def _as_coherence_length(value: Any) -> tf.Tensor:
    if tf.is_tensor(value):
        return value
    if isinstance(value, bool) or not isinstance(value, Integral) or not 1 <= int(value) < 2**31:
        raise InputError(
            "coherence_length",
            found=value,
            allowed="integers from 1 (channel uses)",
            remedy="1 means an independent fade for every symbol.",
        )
    return tf.constant(int(value), tf.int32)
