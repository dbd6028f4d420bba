"""The channel inside a training step: the channel objects of ``link``, and what JAX takes instead.

A step sends what the link sends: the symbols of a frame, packed as on the air, one stream per clip.
Under TensorFlow the channel object itself lies in the graph, so any channel of the registry trains,
and gradients pass through its equaliser. A realisation follows from (seed of the run, step, frame)
and from the row of the batch.

JAX cannot call these objects inside a step. AWGN and block fading are affine in each symbol,
x_hat = gain x + offset; there ``draw`` asks the object for both numbers, symbol by symbol, and the
step computes the line above. Equal seeds then mean equal channels under both backends.
"""

import functools
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from pvsc_link.link import Awgn, BlockFading, condition_tensors, find_channel
from pvsc_link.models import pack_symbols, unpack_symbols
from pvsc_link.options import load_implementation
from pvsc_link.train.config import ChannelConfig
from pvsc_link.types import InputError


def frame_seeds(seed: int, salt: int, step: int, num_frames: int) -> np.ndarray:
    """Seed of the channel for every frame of a step: [num_frames, 2], uint32."""
    sequences = [np.random.SeedSequence([seed, salt, step, t]) for t in range(num_frames)]
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
        self._affine = keras.backend.backend() != "tensorflow"
        if self._affine:
            _check_affine(config, load_implementation(self.kind.implementation))
        every = self._tensors({name: values[0] for name, values in config.condition.items()})
        #: What is no number, or shapes the graph; a training file has one value of each.
        self._fixed = {name: v for name, v in every.items() if not _is_number(v)}

    def draw(
        self, rng: np.random.Generator, seeds: np.ndarray, batch: int, max_symbols: int
    ) -> dict[str, Any]:
        """What a step gives to its graph: every clip draws an SNR, the step draws a condition.

        Parameters: ``max_symbols`` : most symbols of a frame, which JAX needs.
        Input: ``seeds`` : [num_frames, 2], uint32, ``frame_seeds``.
        Output: ``snr_db`` : [batch], float32; ``seed`` : [num_frames, 2], uint32; ``condition`` :
        scalars by name. Under JAX instead ``gain``, ``offset`` : [num_frames, batch, max_symbols],
        complex64, and ``no_eff`` : same shape, float32.
        """
        snr_db = rng.choice(np.array(self.config.snr_db, np.float32), batch)
        drawn = {name: v[int(rng.integers(len(v)))] for name, v in self.config.condition.items()}
        every = self._tensors(drawn)
        numbers = {name: v.numpy() for name, v in every.items() if name not in self._fixed}
        given = {"snr_db": snr_db, "seed": seeds, "condition": numbers}
        if not self._affine:
            return given
        frames = [self._realisation(of_frame(given, t), max_symbols) for t in range(len(seeds))]
        arrays = (np.stack(arrays) for arrays in zip(*frames, strict=True))
        return dict(zip(("gain", "offset", "no_eff"), arrays, strict=True))

    def through(self, given: Mapping[str, Any], rate_set: tuple[int, ...]) -> Any:
        """The channel of one frame, as ``forward`` of a model takes it.

        Parameters: ``given`` : ``of_frame`` of what was drawn; ``rate_set`` : of the model.
        Output: ``(symbols_padded, rate_index) -> (symbols_padded_hat, no_eff)``, all but the rate
        map [batch, Hy, Wy, Kmax], float32.
        """

        def transmit(symbols_padded: Any, rate_index: Any) -> tuple[Any, Any]:
            symbols, count = pack_symbols(symbols_padded, rate_index, rate_set)
            send = self._multiply if self._affine else self._send
            x_hat, no_eff = send(symbols, ops.max(count), given)
            both = ops.cast(ops.stack([no_eff, no_eff], axis=-1), "float32")
            parts = (x_hat, ops.view_as_complex(both))
            received, noise = (unpack_symbols(part, rate_index, rate_set) for part in parts)
            return received, noise

        return transmit

    def _send(self, symbols: Any, longest: Any, given: Mapping[str, Any]) -> tuple[Any, Any]:
        """The sent symbols through the channel object; what lies behind the longest stream is not
        computed."""
        sent = symbols[:, : ops.maximum(longest, 1)]
        output = self._object(given["condition"])(sent, snr_db=given["snr_db"], seed=given["seed"])
        return output.x_hat, output.no_eff

    def _tensors(self, condition: Mapping[str, Any]) -> dict[str, Any]:
        return condition_tensors(self.kind.point(self.config.snr_db[0], condition))

    def _object(self, condition: Mapping[str, Any]) -> Any:
        config = self.config
        return self.kind.make(
            equalizer=config.equalizer, csi_aware=config.csi_aware, **self._fixed, **condition
        )

    @staticmethod
    def _multiply(symbols: Any, longest: Any, given: Mapping[str, Any]) -> tuple[Any, Any]:
        """The pure function that stands for an affine channel under JAX."""
        gain, offset, no_eff = (
            given[k][:, : symbols.shape[1]] for k in ("gain", "offset", "no_eff")
        )
        return gain * symbols + offset, no_eff

    def _realisation(self, given: Mapping[str, Any], num_symbols: int) -> tuple[Any, ...]:
        """(gain, offset, no_eff) of one frame, [batch, num_symbols] each."""
        shape = (len(given["snr_db"]), num_symbols)
        return tuple(part.numpy() for part in self._probe(shape)(given))

    @functools.cache  # noqa: B019, one object per phase
    def _probe(self, shape: tuple[int, int]) -> Any:
        import tensorflow as tf

        def probe(given: Mapping[str, Any]) -> tuple[Any, ...]:
            channel = self._object(given["condition"])
            inputs = (make(shape, tf.complex64) for make in (tf.zeros, tf.ones))
            silent, one = (channel(x, snr_db=given["snr_db"], seed=given["seed"]) for x in inputs)
            return one.x_hat - silent.x_hat, silent.x_hat, silent.no_eff

        return tf.function(probe, autograph=False, jit_compile=True)


def of_frame(drawn: Mapping[str, Any], t: int) -> dict[str, Any]:
    """The entries of ``StepChannel.draw`` for frame ``t``."""
    shared = ("snr_db", "condition")
    return {name: value if name in shared else value[t] for name, value in drawn.items()}


def _is_number(value: Any) -> bool:
    return hasattr(value, "numpy")


def _check_affine(config: ChannelConfig, implementation: Any) -> None:
    """Raises ``InputError`` for a channel that is not affine in every symbol."""
    affine = isinstance(implementation, type) and issubclass(implementation, (Awgn, BlockFading))
    if not affine or config.impairments:
        raise InputError(
            f"channel in training under {keras.backend.backend()}",
            found=[config.channel, *config.impairments],
            allowed="AWGN and block fading without impairments",
            remedy="Train with KERAS_BACKEND=tensorflow.",
        )
