"""The channel inside a training step: the channel objects of ``link``, and what JAX takes instead.

A step sends what the link sends: the symbols of a frame, packed as on the air, one stream per clip.
Under TensorFlow the channel object itself lies in the graph, so any channel of the registry trains,
and gradients pass through its equaliser. A realisation follows from the numbers of ``frame_seeds``
and from the row of the batch.

JAX cannot call these objects. For AWGN and block fading ``flat_channel`` is the same function of
the same seeds in ``jax.numpy``, so that JAX trains without TensorFlow. Equal seeds then mean equal
channels under both backends.
"""

import math
from collections.abc import Mapping
from numbers import Real
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.link import (
    CHANNEL_POWER_FLOOR,
    NOISE_FLOOR,
    ChannelType,
    active_impairments,
    find_channel,
)
from pvsc_link.models import pack_symbols, unpack_symbols
from pvsc_link.train.config import ChannelConfig
from pvsc_link.types import InputError, noise_variance

#: Channels that ``flat_channel`` computes, as the registry names their classes.
_FLAT = ("pvsc_link.link.flat_fading:Awgn", "pvsc_link.link.flat_fading:BlockFading")
_FLAT_EQUALIZERS = ("zf", "lmmse", "biased_lmmse")


def frame_seeds(place: tuple[int, ...], num_frames: int) -> np.ndarray:
    """Seed of the channel for every frame of a step: [num_frames, 2], uint32.

    Parameters: ``place`` : (seed of the run, salt, step), and the part of a batch behind the first.
    """
    sequences = [
        np.random.SeedSequence([*place[:3], t], spawn_key=place[3:]) for t in range(num_frames)
    ]
    return np.stack([sequence.generate_state(2, np.uint32) for sequence in sequences])


class StepChannel:
    """The channel of a phase, drawn outside the graph and called inside it.

    Parameters
    ----------
    config : ChannelConfig

    Raises ``InputError`` under JAX for a channel other than AWGN and block fading.
    """

    def __init__(self, config: ChannelConfig):
        self.config, self.kind = config, find_channel(config.channel)
        self._flat = keras.backend.backend() != "tensorflow"
        if self._flat:
            _check_flat(config, self.kind)
        values = {name: values[0] for name, values in config.condition.items()}
        #: What is no number, or shapes the graph; a training file has one value of each.
        self._fixed = {n: v for n, v in self._condition(values).items() if not _is_number(v)}

    def draw(self, rng: np.random.Generator, seeds: np.ndarray, batch: int) -> dict[str, Any]:
        """What a step gives to its graph: every clip draws an SNR, the step draws a condition.

        Input: ``seeds`` : [num_frames, 2], uint32, ``frame_seeds``.
        Output: ``snr_db`` : [batch], float32; ``seed`` : [num_frames, 2], uint32; ``condition`` :
        scalars by name.
        """
        snr_db = rng.choice(np.array(self.config.snr_db, np.float32), batch)
        drawn = {name: v[int(rng.integers(len(v)))] for name, v in self.config.condition.items()}
        numbers = {n: v for n, v in self._condition(drawn).items() if n not in self._fixed}
        return {"snr_db": snr_db, "seed": seeds, "condition": numbers}

    def through(self, given: Mapping[str, Any], rate_set: tuple[int, ...]) -> Any:
        """The channel of one frame, as ``forward`` of a model takes it.

        Parameters: ``given`` : ``of_frame`` of what was drawn; ``rate_set`` : of the model.
        Output: ``(symbols_padded, rate_index) -> (symbols_padded_hat, no_eff)``, all but the rate
        map [batch, Hy, Wy, Kmax], float32.
        """

        def transmit(symbols_padded: Any, rate_index: Any) -> tuple[Any, Any]:
            symbols, count = pack_symbols(symbols_padded, rate_index, rate_set)
            x_hat, no_eff = self._send(symbols, ops.max(count), given)
            both = ops.cast(ops.stack([no_eff, no_eff], axis=-1), "float32")
            parts = (x_hat, ops.view_as_complex(both))
            received, noise = (unpack_symbols(part, rate_index, rate_set) for part in parts)
            return received, noise

        return transmit

    def _send(self, symbols: Any, longest: Any, given: Mapping[str, Any]) -> tuple[Any, Any]:
        """(x_hat, no_eff) of the packed symbols."""
        config = self.config
        if self._flat:
            return flat_channel(
                symbols,
                given,
                law=self.kind.options.get("law"),
                equalizer=config.equalizer,
                csi_aware=config.csi_aware,
            )
        # What lies behind the longest stream is not computed.
        sent = symbols[:, : ops.maximum(longest, 1)]
        channel = self.kind.make(
            equalizer=config.equalizer,
            csi_aware=config.csi_aware,
            **self._fixed,
            **given["condition"],
        )
        output = channel(sent, snr_db=given["snr_db"], seed=given["seed"])
        return output.x_hat, output.no_eff

    def _condition(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """The condition and the impairments that are on: numbers as numpy scalars, None as -inf."""
        condition = self.kind.condition(
            {n: v for n, v in values.items() if n in self.kind.Condition.model_fields}
        )
        static = self.kind.static_of(condition)
        every = condition.model_dump() | active_impairments(values)
        return {n: v if n in static else _as_scalar(v) for n, v in every.items()}


def of_frame(drawn: Mapping[str, Any], t: int) -> dict[str, Any]:
    """The entries of ``StepChannel.draw`` for frame ``t``."""
    shared = ("snr_db", "condition")
    return {name: value if name in shared else value[t] for name, value in drawn.items()}


def flat_channel(
    symbols: Any,
    given: Mapping[str, Any],
    *,
    law: str | None,
    equalizer: str,
    csi_aware: bool,
) -> tuple[Any, Any]:
    """``link.Awgn`` and ``link.BlockFading`` in ``jax.numpy``, with equal draws (eq. 1 to 4).

    Parameters: ``law`` : ``rayleigh``, ``rician``, or None for AWGN; ``equalizer`` : ``zf``,
    ``lmmse`` or ``biased_lmmse``.
    Input: ``symbols`` : [batch, num_symbols], complex64; ``given`` : ``of_frame`` of
    ``StepChannel.draw``. Output: ``x_hat`` : like ``symbols``; ``no_eff`` : same shape, float32.
    """
    from jax import nn
    from jax import numpy as jnp

    condition = given["condition"]
    no = noise_variance(given["snr_db"])[:, None]
    place = jnp.broadcast_to(jnp.arange(symbols.shape[1], dtype="uint32"), symbols.shape)
    stream = 4 * jnp.arange(symbols.shape[0], dtype="uint32")[:, None]  # four streams per clip
    nmse, mean, variance = jnp.float32(0.0), jnp.float32(0.0), jnp.float32(1.0)
    h = h_hat = jnp.ones_like(symbols)
    if law is not None:
        block = place // condition["coherence_length"].astype("uint32")
        nmse = 10.0 ** (jnp.float32(condition["csi_nmse_db"]) / 10.0)
        if law == "rician":
            log_k = condition["k_factor_db"] * (math.log(10.0) / 10.0)
            mean, variance = jnp.sqrt(nn.sigmoid(log_k)), nn.sigmoid(-log_k)
        h = mean + jnp.sqrt(variance) * _complex_normal(given["seed"], stream, block)
        h_hat = h + jnp.sqrt(nmse) * _complex_normal(given["seed"], stream + 1, block)
    y = h * symbols + jnp.sqrt(no) * _complex_normal(given["seed"], stream + 2, place)
    err_var = jnp.float32(0.0)
    if csi_aware:
        total = variance + nmse
        shrink = jnp.where(total > 0, variance / jnp.where(total > 0, total, 1.0), 0.0)
        h_hat, err_var = mean + shrink * (h_hat - mean), shrink * nmse
    s = jnp.maximum(no + err_var, NOISE_FLOOR)
    power = jnp.square(h_hat.real) + jnp.square(h_hat.imag)
    power = power + s if equalizer == "biased_lmmse" else jnp.maximum(power, CHANNEL_POWER_FLOOR)
    return jnp.conj(h_hat) * y / power, s / power


def _complex_normal(seed: Any, stream: Any, index: Any) -> Any:
    """``link.counter_random.complex_normal``: CN(0, 1) samples from Threefry-2x32 counters."""
    from jax import numpy as jnp
    from jax.extend.random import threefry_2x32

    stream = jnp.broadcast_to(stream, index.shape)
    words = threefry_2x32((seed[0], seed[1]), jnp.concatenate([index.ravel(), stream.ravel()]))
    high, low = (word.reshape(index.shape) for word in jnp.split(words, 2))
    uniform = ((high >> 9).astype("float32") + 0.5) * 2.0**-23
    angle = (low >> 8).astype("float32") * (2.0 * math.pi * 2.0**-24)
    radius = jnp.sqrt(-jnp.log(uniform))
    return radius * jnp.cos(angle) + 1j * (radius * jnp.sin(angle))


def _as_scalar(value: Any) -> Any:
    value = -math.inf if value is None else value
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return np.int32(value) if isinstance(value, int) else np.float32(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, np.generic)


def _check_flat(config: ChannelConfig, kind: ChannelType) -> None:
    """Raises ``InputError`` for what ``flat_channel`` cannot compute."""
    named = kind.implementation in _FLAT and kind.options.get("law") in (None, "rayleigh", "rician")
    if not named or config.impairments or config.equalizer not in _FLAT_EQUALIZERS:
        raise InputError(
            f"channel in training under {keras.backend.backend()}",
            found=[config.channel, config.equalizer, *config.impairments],
            allowed="AWGN and block fading without impairments, with the equaliser "
            + " or ".join(_FLAT_EQUALIZERS),
            remedy="Train with KERAS_BACKEND=tensorflow.",
        )
