"""z_hat and y_bar of one frame to a bitstream and back: the ideal branch, really coded (eq. 8-13).

    message = range coder( z_hat under the factorised prior, or given its neighbours,
                           vectors of motion, where the model has them,
                           y_bar of block 0 under sigma_0,
                           y_bar of block 1 under sigma_1 = E_s(..., y_bar_0 + mu_0), ... )

Both ends walk the blocks with the same functions on the same shapes, so on one machine they hold
equal numbers and pick equal tables. A decoder that computes otherwise picks another table sooner
or later and reads nonsense from there on: that is the floating-point mismatch of Fig. 1.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from keras import ops

from pvsc_link.semantic import rate_control
from pvsc_link.semantic.inference import Compiler, as_is
from pvsc_link.semantic.latent_tables import latent_parts, read_latent
from pvsc_link.semantic.range_coding import MessageReader, encode, information
from pvsc_link.semantic.side_information import hyper_parts

#: (w, mu_0, sigma_0), each [1, Hy, Wy, channels_y], as the networks give them.
Parameters: TypeAlias = tuple[Any, Any, Any]
#: y_bar of a block from (mu, sigma) of it, each [n, channels_y], and where it lies in the frame.
_BlockCoder: TypeAlias = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CodedLatent:
    """One frame out of the range coder.

    ``y_tilde`` : [1, Hy, Wy, channels_y], float32, what the decoder will hold;
    ``estimated_bits`` : what training counts, eq. 8 and 13.
    """

    message: bytes
    y_tilde: np.ndarray
    estimated_bits: float


class LatentCoder:
    """Codes the latents of one kind of frame.

    Parameters: ``model`` : IntraModel or PvscModel; ``compiled`` : wraps each step once, e.g.
    ``tf.function``.
    """

    def __init__(self, model: Any, compiled: Compiler = as_is):
        self._model, self._prior = model, model.spatial_prior
        self._refine = [
            compiled(functools.partial(self._prior, block=block))
            for block in range(len(self._prior.masks(2, 2)))
        ]
        self._hyper_tables = functools.cache(model.hyper_tables)

    def encode(
        self,
        y: Any,
        z: np.ndarray,
        parameters: Parameters,
        omega_index: int,
        motion: np.ndarray | None = None,
    ) -> CodedLatent:
        """Range-code one frame at one quality preset.

        Input: ``y`` : [1, Hy, Wy, channels_y]; ``z`` : z_hat, [Hz, Wz, channels_z], int;
        ``parameters`` : of that z_hat; ``motion`` : [Hy, Wy, 2], int, or None. Raises
        ``InputError`` for latents that have run away.
        """
        parts = hyper_parts(z, self._hyper_tables(omega_index))
        moved = [] if motion is None else self._model.motion_prior.parts(motion)
        parts += moved
        normalised = _plain(y) / _plain(parameters[0])
        sent, spread = [], []

        def code(mu: np.ndarray, sigma: np.ndarray, here: np.ndarray) -> np.ndarray:
            y_bar = np.rint(normalised[here] - mu)
            parts.extend(latent_parts(y_bar.astype(np.int64).ravel(), sigma.ravel()))
            sent.append(y_bar)
            spread.append(sigma)
            return y_bar

        y_tilde = self._walk(parameters, code)
        estimate = self._estimate(z, np.concatenate(sent), np.concatenate(spread), omega_index)
        estimate += information(moved)
        return CodedLatent(encode(parts), y_tilde, estimate)

    def read_z(self, reader: MessageReader, shape: tuple[int, int], omega_index: int) -> np.ndarray:
        """z_hat : [Hz, Wz, channels_z], int32, the first part of a message."""
        tables = self._hyper_tables(omega_index)
        return tables.read(reader, shape)  # type: ignore[no-any-return]

    def read_y(self, reader: MessageReader, parameters: Parameters) -> np.ndarray:
        """y_tilde : [1, Hy, Wy, channels_y], float32, the rest of a message.

        Raises ``SideInformationError`` for a message that no encoder with these parameters makes:
        it was damaged, or this decoder is out of step.
        """

        def code(mu: np.ndarray, sigma: np.ndarray, here: np.ndarray) -> np.ndarray:
            values = read_latent(reader, sigma.ravel())
            return values.reshape(sigma.shape).astype(np.float32)

        y_tilde = self._walk(parameters, code)
        reader.finish()
        return y_tilde

    def _walk(self, parameters: Parameters, code: _BlockCoder) -> np.ndarray:
        """y_tilde of eq. 26, block by block: the one loop of both ends."""
        w, mu, sigma = map(_plain, parameters)
        known = np.zeros_like(w)
        for block, mask in enumerate(self._prior.masks(*w.shape[1:3])):
            if block:
                refined = self._refine[block](*parameters, ops.convert_to_tensor(known))
                mu, sigma = map(_plain, refined)
            here = mask[..., 0] > 0
            known[here] = code(mu[here], sigma[here], here) + mu[here]
        return w * known

    def _estimate(
        self, z: np.ndarray, y_bar: np.ndarray, sigma: np.ndarray, omega_index: int
    ) -> float:
        omega = ops.full((1,), omega_index, dtype="int32")
        bits_z = self._model.z_prior(z[None].astype(np.float32), omega)
        bits_y = rate_control.symbol_bits(y_bar, sigma)
        return float(ops.sum(bits_z)) + float(np.sum(ops.convert_to_numpy(bits_y), dtype=float))


def _plain(values: Any) -> np.ndarray:
    """What a network gave, in float32: its own arithmetic may be another."""
    return ops.convert_to_numpy(ops.cast(values, "float32"))
