"""F_tx and F_rx that start as the best linear code, so that pictures arrive before the first step.

For each rate k, the k strongest principal components of a unit's features are sent with the powers
that minimise the mean square error behind additive noise (Lee and Petersen, 1976), and decoded by
the linear estimator that belongs to them. The ViT blocks start as the identity. Training then adds
what a linear code of single units cannot do.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.train.family import motion_vectors
from pvsc_link.train.starts.intra import quiet_residuals

#: Weight, in samples, of the statistics of all rates in those of one rate; rare rates have few.
_PRIOR_SAMPLES = 200.0
_BATCH = 16
_LEAST_SIZE = 0.05  # of a channel, whose scale would be large without this bound
_POWER_PER_REAL = 0.5  # a complex symbol has unit mean power


def start_linear_coding(
    model: Any,
    y_bar: np.ndarray,
    rate_index: np.ndarray,
    omega_index: np.ndarray,
    noise_power: float,
) -> None:
    """Overwrite F_tx and F_rx of an I or P model, or of one stream of DVST.

    Parameters: ``noise_power`` : noise variance per complex symbol that the code is made for.
    Input: ``model`` and ``y_bar`` : [units, C_y]; ``rate_index``, ``omega_index`` : [units], all
    from ``family.coded_streams``.
    """
    if model.config.coding_vectors:
        scale = _preset_scales(y_bar, omega_index, model.config.num_omega)
        model.vector_tx.rows.assign(scale)
        model.vector_rx.rows.assign(1.0 / scale)
        y_bar = y_bar * scale[omega_index]
    basis = _basis(y_bar, model.config.embed_dim)
    rates = model.config.rate_set
    encoder, decoder = model.feature_encoder, model.feature_decoder
    for layer in (encoder, decoder):
        quiet_residuals(layer)
        for dense, matrix in ((layer.embedding.projection, basis), (layer.to_features, basis.T)):
            dense.kernel.assign(matrix)
            dense.bias.assign(np.zeros(dense.bias.shape, np.float32))
        for name in ("position", "rate_embedding"):
            variable = getattr(layer.embedding, name)
            variable.assign(np.zeros(variable.shape, np.float32))
    sent, offsets, read, means = [], [], [], []
    for index, rate in enumerate(rates):
        mean, covariance = _moments(y_bar, y_bar[rate_index == index])
        forward, backward = linear_code(covariance, rate, 0.5 * noise_power)
        sent.append(forward)
        offsets.append(-forward @ mean)
        read.append(backward.T)
        means.append(mean)
    encoder.to_reals.kernel.assign(np.concatenate(sent).astype(np.float32))
    encoder.to_reals.bias.assign(np.concatenate(offsets).astype(np.float32))
    decoder.from_reals.kernel.assign(np.concatenate(read).astype(np.float32))
    decoder.from_reals.bias.assign(np.array(means, np.float32))


def sent_frames(
    intra: Any, inter: Any, pairs: np.ndarray, preset: int | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features and rates of the frames that a model sends.

    Parameters: ``inter`` : P model, which codes the second frames; None: I frames are the first;
    ``preset`` : quality preset of all frames; None: every one in turn.
    Input: ``pairs`` : [count, 2, height, width, 3], float32.
    Output: ``y_bar`` : [count, Hy, Wy, C_y]; ``rate_index`` : [count, Hy, Wy]; ``omega_index`` :
    [count].
    """
    batches = np.array_split(pairs, max(1, len(pairs) // _BATCH))
    outputs = []
    for number, batch in enumerate(batches):
        every = np.arange(len(batch)) + number * _BATCH
        presets = every % intra.config.num_omega if preset is None else np.full_like(every, preset)
        omega_index = ops.convert_to_tensor(presets, "int32")
        output = intra.forward(batch[:, 0], omega_index)
        if inter is not None:
            buffers = inter.start_buffers(ops.clip(output["frame_ideal"], 0.0, 1.0))
            motion = motion_vectors(inter.config, buffers["feature_tx"], batch[:, 1], presets)
            vectors = {} if motion is None else {"motion": motion}
            output = inter.forward(batch[:, 1], buffers, omega_index, **vectors)
        y_bar, rate_index = (ops.convert_to_numpy(output[k]) for k in ("y_bar", "rate_index"))
        outputs.append((y_bar, rate_index, presets))
    y_bar, rate_index, presets = (np.concatenate(arrays) for arrays in zip(*outputs, strict=True))
    return y_bar, rate_index, presets


def linear_code(
    covariance: np.ndarray, num_reals: int, noise_variance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Matrices of least mean square error for ``num_reals`` noisy reals of mean power 1/2.

    Input: ``covariance`` : [C, C]; ``noise_variance`` : per real.
    Output: ``forward`` : [num_reals, C]; ``backward`` : [C, num_reals]. Reals beyond C send
    nothing: their power goes to the others, which at equal noise is as good as a second real.
    """
    values, vectors = np.linalg.eigh(covariance)
    strongest = np.argsort(values)[::-1][:num_reals]
    variances, basis = np.maximum(values[strongest], 1e-9), vectors[:, strongest]
    power = _allocated(variances, noise_variance, _POWER_PER_REAL * num_reals)
    gain = np.sqrt(power / variances)
    estimate = gain * variances / (power + noise_variance)
    unused = ((0, num_reals - len(strongest)), (0, 0))
    return np.pad(gain[:, None] * basis.T, unused), np.pad(basis * estimate, unused[::-1])


def _basis(units: np.ndarray, width: int) -> np.ndarray:
    """The strongest principal directions of the units: [C_y, width]; the identity if all fit."""
    channels = units.shape[1]
    if width >= channels:
        return np.eye(channels, width, dtype=np.float32)
    _, vectors = np.linalg.eigh(units.T @ units)
    return vectors[:, ::-1][:, :width].astype(np.float32)


def _preset_scales(y_bar: np.ndarray, omega_index: np.ndarray, num_omega: int) -> np.ndarray:
    """Factors that give every preset's channels their average size: [num_omega, C_y]."""
    size = np.stack(
        [np.sqrt(np.mean(np.square(y_bar[omega_index == i]), axis=0)) for i in range(num_omega)]
    )
    size = np.maximum(size, _LEAST_SIZE)
    return (np.exp(np.log(size).mean(axis=0)) / size).astype(np.float32)


def _allocated(variances: np.ndarray, noise: float, total: float) -> np.ndarray:
    """Powers p of sum ``total`` that minimise the sum of variances / (1 + p / noise)."""
    roots = np.sqrt(variances * noise)
    for active in range(len(variances), 0, -1):  # variances fall; the weakest get no power
        level = (total + active * noise) / roots[:active].sum()
        power = level * roots[:active] - noise
        if power[-1] >= 0:
            return np.concatenate([power, np.zeros(len(variances) - active)])
    return np.zeros(len(variances))


def _moments(every: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of one rate's units, mixed with those of all units if it has few."""
    share = len(own) / (len(own) + _PRIOR_SAMPLES)
    mean, covariance = every.mean(axis=0), np.cov(every.T)
    if len(own) > 1:
        mean = share * own.mean(axis=0) + (1 - share) * mean
        covariance = share * np.cov(own.T) + (1 - share) * covariance
    return mean, covariance
