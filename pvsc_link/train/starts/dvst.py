"""Informed start of DVST: both streams are linear transform codecs before the first step.

Randomly initialised, neither stream learns to send anything of use in short runs: quantisation
noise in a latent that carries nothing makes pictures worse, the decoder learns to ignore the
latent, and the encoder gets no gradient. Here the context stream starts as a block transform of
what the prediction lacks: principal components of 2x2 cells, level by level down to 1/16. The
motion stream starts as the mean flow of blocks of 8x8 pixels, so that the first step shows the
motion estimator what a better flow is worth.
"""

from typing import Any

import numpy as np

from pvsc_link.models import MIN_SIGMA
from pvsc_link.train.starts.informed import (
    NARROW_PRIOR,
    QUIET_HYPER_LATENT,
    principal_components,
    quantisation_steps,
    space_to_depth,
    zero_branches,
)

#: Quantisation step of the mean flow of 8x8 pixels, and the flow that is expected, both in pixels.
_FLOW_STEP, _FLOW_SPREAD = 0.25, 0.5
#: Factor of the usual size of latents that carry nothing yet.
_QUIET = 0.02
#: A resampling block adds its input once more (``ResidualDown``), as its branches are zero.
_SHORTCUT = 0.5
#: Standard deviation, in quantisation steps, of latents that carry nothing yet.
_SILENT_SPREAD = 0.05


def start_dvst(model: Any, pairs: np.ndarray, omega: float) -> None:
    """Overwrite the transforms and entropy models of both streams, as this module describes.

    The motion estimator, the features of the reference, F_tx and F_rx keep their random weights.

    Parameters: ``model`` : DvstModel; ``omega`` : weight of its rate.
    Input: ``pairs`` : [n, 2, height, width, 3], successive frames, float32 in [0, 1], sizes
    divisible by 16.
    """
    config, step = model.config, float(quantisation_steps([omega])[0])
    for part in (model.context_encoder, model.context_decoder, model.motion_encoder):
        zero_branches(part)
    zero_branches(model.motion_decoder)
    difference = pairs[:, 1] - pairs[:, 0]
    widths = (*config.channels_context, config.context.channels_y)
    transforms, latents = _cell_transforms(difference, widths)
    encoder, decoder = model.context_encoder, model.context_decoder
    _set_first(encoder.entry, np.concatenate([np.eye(3), -np.eye(3)]))  # frame minus prediction
    _set_analysis(encoder, transforms, 1.0 / step)
    _set_synthesis(decoder.ups, transforms, step)
    _set_up(decoder.up, transforms[0])
    _set_first(decoder.stack.blocks[0].adaptor, np.eye(3))
    _set_first(decoder.exit, np.eye(3))
    _set_stream(model.context_stream, latents.std(axis=(0, 1, 2)) / step)

    flow, flow_step = _mean_flow_transforms(config.motion.channels_y), 8.0 * _FLOW_STEP
    _set_analysis(model.motion_encoder, flow, 1.0 / flow_step)
    _set_synthesis(model.motion_decoder.ups, flow, flow_step)
    _set_up(model.motion_decoder.exit, flow[0])
    _set_stream(model.motion_stream, np.full(flow[-1].shape[-1], _FLOW_SPREAD / _FLOW_STEP))
    for scale in model.z_prior.scales:
        scale.assign(np.full(scale.shape, NARROW_PRIOR, np.float32))


def change_rate(model: Any, omega: float, other_omega: float) -> None:
    """Take the quantisation steps of another rate: the latent of the context is scaled.

    Steps are proportional to omega ** -0.5, as in ``start_dvst``. Context transforms, mean and
    standard deviation of H_dec, and the ends of F_tx and F_rx are scaled with the latent, so that
    pictures stay as they are but for its rounding. What H_enc makes of the latent changes a little.

    Parameters: ``model`` : DvstModel with the weights of a rate of ``other_omega``; ``omega`` : of
    the rate that it becomes.
    """
    ratio = float(quantisation_steps([other_omega])[0] / quantisation_steps([omega])[0])
    stream, channels = model.context_stream, model.config.context.channels_y
    _scale(model.context_encoder.exit.kernel, ratio)
    _scale(model.context_encoder.exit.bias, ratio)
    _scale(model.context_decoder.ups[0].up.spread.kernel, 1.0 / ratio)
    _scale(stream.feature_encoder.embedding.projection.kernel, 1.0 / ratio)
    _scale(stream.feature_decoder.to_features.kernel, ratio)
    _scale(stream.feature_decoder.to_features.bias, ratio)
    heads = stream.hyper_decoder.heads
    kernel, bias = np.array(heads.kernel), np.array(heads.bias)
    mean, deviation = slice(channels, 2 * channels), slice(2 * channels, None)
    kernel[..., mean] *= ratio
    bias[mean] *= ratio
    before = np.logaddexp(0.0, bias[deviation])
    sigma = np.maximum(ratio * (before + MIN_SIGMA) - MIN_SIGMA, _SILENT_SPREAD)
    # The derivative of softplus is 1 - exp(-softplus): deviations about the bias keep their share.
    kernel[..., deviation] *= ratio * np.expm1(-before) / np.expm1(-sigma)
    bias[deviation] = _before_softplus(sigma)
    heads.kernel.assign(kernel)
    heads.bias.assign(bias)


def _scale(variable: Any, factor: float) -> None:
    variable.assign(factor * np.array(variable))


def _before_softplus(values: np.ndarray) -> np.ndarray:
    """The argument of softplus that gives ``values``."""
    return values + np.log(-np.expm1(-values))


def _cell_transforms(images: np.ndarray, widths: tuple[int, ...]) -> tuple[list, np.ndarray]:
    """Principal components of 2x2 cells, level by level, and the latents that they give.

    Input: ``images`` : [n, height, width, c].
    Output: for every level [2, 2, c_in, c_out], orthonormal columns, at most ``widths`` of them;
    [n, height / 16, width / 16, c_out].
    """
    transforms = []
    for width in widths:
        cells = space_to_depth(images, 2)
        basis = principal_components(cells, min(width, cells.shape[-1]))
        transforms.append(basis.reshape(2, 2, images.shape[-1], -1))
        images = cells @ basis
    return transforms, images


def _mean_flow_transforms(num_latents: int) -> list[np.ndarray]:
    """Means of 2x2 cells down to 1/8, then those and the differences: as ``_cell_transforms``.

    A mean is scaled to an orthonormal column: at 1/8 a channel is eight times the mean flow.
    """
    mean = np.broadcast_to(0.5 * np.eye(2, dtype=np.float32), (2, 2, 2, 2))
    signs = 0.5 * np.array([[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]])
    last = np.einsum("kp,cd->pckd", signs, np.eye(2)).reshape(2, 2, 2, 8).astype(np.float32)
    return [mean, mean, mean, last[..., :num_latents]]


def _set_analysis(encoder: Any, transforms: list[np.ndarray], gain: float) -> None:
    for down, cells in zip(encoder.downs, transforms[:-1], strict=True):
        _set_down(down.down, _SHORTCUT * cells)
    encoder.exit.kernel.assign(_QUIET * np.array(encoder.exit.kernel))
    _set_down(encoder.exit, gain * transforms[-1])


def _set_synthesis(ups: Any, transforms: list[np.ndarray], gain: float) -> None:
    """The inverse, from 1/16 to 1/2; the step from there to full size is another layer's."""
    for level, (up, cells) in enumerate(zip(ups, reversed(transforms[1:]), strict=True)):
        _set_up(up.up, _SHORTCUT * (1.0 if level else gain) * cells)


def _set_down(layer: Any, cells: np.ndarray) -> None:
    """First outputs of a convolution of stride 2: a transform of cells of its first inputs.

    The other outputs keep their random weights, from which training can make more of them.
    """
    inputs, outputs = cells.shape[2:]
    kernel = np.array(layer.kernel)
    kernel[..., :outputs] = 0.0
    kernel[:2, :2, :inputs, :outputs] = cells
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros(layer.bias.shape, np.float32))


def _set_up(layer: Any, cells: np.ndarray) -> None:
    """First outputs of a ``SubPixelUp``: the inverse of ``_set_down``, of its first inputs."""
    inputs, outputs = cells.shape[3], cells.shape[2]
    spread, channels = layer.spread, layer.channels
    kernel = np.array(spread.kernel)
    middle = kernel.shape[0] // 2
    kernel = kernel.reshape(*kernel.shape[:3], 4, channels)
    kernel[..., :outputs] = 0.0
    columns = np.moveaxis(cells.reshape(4, outputs, inputs), -1, 0)
    kernel[middle, middle, :inputs, :, :outputs] = columns
    spread.kernel.assign(kernel.reshape(spread.kernel.shape))
    spread.bias.assign(np.zeros(spread.bias.shape, np.float32))


def _set_first(layer: Any, matrix: np.ndarray) -> None:
    """First outputs of a convolution: ``matrix`` [in, out] of its first inputs, at its middle."""
    inputs, outputs = matrix.shape
    kernel = np.array(layer.kernel)
    middle = kernel.shape[0] // 2
    kernel[..., :outputs] = 0.0
    kernel[middle, middle, :inputs, :outputs] = matrix
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros(layer.bias.shape, np.float32))


def _set_stream(stream: Any, spread: np.ndarray) -> None:
    """H_dec gives step 1, mean 0 and the standard deviations ``spread``; z starts near zero."""
    channels = stream.config.channels_y
    sigma = np.full(channels, _SILENT_SPREAD, np.float32)
    sigma[: len(spread)] = np.maximum(spread - MIN_SIGMA, _SILENT_SPREAD)
    heads = stream.hyper_decoder.heads
    heads.kernel.assign(np.zeros(heads.kernel.shape, np.float32))
    heads.bias.assign(
        np.concatenate([np.zeros(2 * channels), _before_softplus(sigma)]).astype(np.float32)
    )
    down = stream.hyper_encoder.down_64.down
    down.kernel.assign(QUIET_HYPER_LATENT * np.array(down.kernel))
