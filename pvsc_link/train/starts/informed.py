"""Informed start: a network that is a linear transform codec before its first step.

The first and last layers are a principal component analysis (PCA) of the data: 8x8 RGB patches to
the features at 1/8, then 2x2 features to the latent at 1/16. Residual branches are zero, and the
deblocking layers are the identity. The learnable vectors hold the quantisation step of each
quality preset. In a P model the context is the features of the previous frame and predicts the
mean of the latent. y_bar is then the difference to the previous frame, as in closed-loop DPCM of
the coefficients of a block transform.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from pvsc_link.models import MIN_SIGMA, PATCH_CHANNELS, DepthConvBlock

#: Quantisation step of orthonormal coefficients of pixels in [0, 1] at omega = 1, found by trial.
#: Other steps are proportional to omega ** -0.5, which balances squared error and rate.
STEP_AT_UNIT_OMEGA = 0.15
LARGEST_STEP = 1.5
QUIET_HYPER_LATENT = 0.05  # factor of the usual size of z
NARROW_PRIOR = 1.47  # softplus(1.47) ** 4 = 8: slope of the prior's logit, P(z = 0) = 0.96


@dataclass(frozen=True)
class TransformStatistics:
    """Principal components of pictures, and the standard deviation of their coefficients."""

    mean: np.ndarray  # [192], of 8x8 RGB patches
    patches: np.ndarray  # [192, c8], orthonormal columns
    blocks: np.ndarray  # [2, 2, c8, c16], orthonormal columns
    spread: np.ndarray  # [c16], of the coefficients of a frame
    spread_difference: np.ndarray  # [c16], of the difference of two successive frames


def measure_statistics(pairs: np.ndarray, num_features: int, num_latents: int) -> Any:
    """``TransformStatistics`` of successive frames.

    Input: ``pairs`` : [n, 2, height, width, 3], float32 in [0, 1], sizes divisible by 16.
    """
    patches = space_to_depth(pairs, 8)
    mean = patches.reshape(-1, PATCH_CHANNELS).mean(axis=0)
    first = principal_components(patches - mean, min(num_features, PATCH_CHANNELS))
    features = (patches - mean) @ first
    cells = space_to_depth(features, 2)
    second = principal_components(cells, num_latents)
    latents = cells @ second
    spread = latents.std(axis=(0, 1, 2, 3))
    difference = (latents[:, 1] - latents[:, 0]).std(axis=(0, 1, 2))
    blocks = second.reshape(2, 2, first.shape[1], num_latents)
    return TransformStatistics(mean, first, blocks, spread, difference)


def space_to_depth(images: np.ndarray, factor: int) -> np.ndarray:
    """As ``pixel_unshuffle``, in numpy and with any number of leading axes."""
    *lead, height, width, channels = images.shape
    rows, columns = height // factor, width // factor
    split = images.reshape(*lead, rows, factor, columns, factor, channels)
    moved = np.moveaxis(split, -4, -3)  # rows, columns, row in patch, column in patch, channel
    return moved.reshape(*lead, rows, columns, factor * factor * channels)


def principal_components(data: np.ndarray, count: int) -> np.ndarray:
    """The ``count`` directions of most energy in ``data`` [..., c]: [c, count], orthonormal."""
    flat = data.reshape(-1, data.shape[-1]).astype(np.float64)
    _, vectors = np.linalg.eigh(flat.T @ flat)
    return vectors[:, ::-1][:, :count].astype(np.float32)


def start_informed(model: Any, statistics: TransformStatistics, omega: list[float]) -> None:
    """Overwrite the weights of the ideal branch of an I or P model, as this module describes.

    Parameters: ``omega`` : weights of the quality presets, which give their quantisation steps.
    """
    scale = 1.0 / quantisation_steps(omega)
    _zero_residuals(model)
    _set_extractor(model, statistics, scale)
    _set_generator(model, statistics, scale)
    spread = statistics.spread if model.intra else statistics.spread_difference
    _set_spread(model, spread * np.exp(np.mean(np.log(scale))))
    _quieten_hyper_latent(model)
    if not model.intra:
        _set_prediction(model, statistics, scale)


def quantisation_steps(omega: list[float]) -> np.ndarray:
    """Quantisation step of each quality preset: [len(omega)], float32."""
    weights = np.maximum(np.asarray(omega, np.float64), 1e-6)
    return np.minimum(STEP_AT_UNIT_OMEGA / np.sqrt(weights), LARGEST_STEP).astype(np.float32)


def _zero_residuals(model: Any) -> None:
    coding = (model.feature_encoder, model.feature_decoder)
    for layer in model.layers:
        if layer in coding:
            continue
        for part in zero_branches(layer):
            if part.adaptor is not None:
                embed_matrix(part.adaptor, np.eye(min(part.adaptor.kernel.shape[2:])))


def zero_branches(layer: Any) -> list[DepthConvBlock]:
    """The DC blocks inside a layer, whose residual branches become zero."""
    blocks = [part for part in layer._flatten_layers() if isinstance(part, DepthConvBlock)]
    for block in blocks:
        for last in (block.mix_out, block.gate_out):
            last.kernel.assign(np.zeros(last.kernel.shape, np.float32))
    return blocks


def embed_matrix(layer: Any, matrix: np.ndarray, bias: np.ndarray | None = None) -> None:
    """Set the middle tap of a convolution to ``matrix`` [in, out] and all other taps to zero."""
    kernel = np.zeros(layer.kernel.shape, np.float32)
    middle = kernel.shape[0] // 2
    kernel[middle, middle, : matrix.shape[0], : matrix.shape[1]] = matrix
    layer.kernel.assign(kernel)
    full = np.zeros(layer.bias.shape, np.float32)
    if bias is not None:
        full[: len(bias)] = bias
    layer.bias.assign(full)


def _set_rows(vector: Any, values: np.ndarray) -> None:
    vector.rows.assign(np.repeat(values[:, None], vector.rows.shape[1], axis=1))


def _set_extractor(model: Any, statistics: TransformStatistics, scale: np.ndarray) -> None:
    extractor = model.feature_extractor
    centre = -statistics.mean @ statistics.patches
    embed_matrix(extractor.entry, statistics.patches, centre)
    _set_rows(extractor.vector_f, scale)
    _embed_cells(extractor.down, statistics.blocks)


def _embed_cells(layer: Any, blocks: np.ndarray) -> None:
    """A convolution of stride 2 whose first 2x2 taps are the block transform."""
    kernel = np.zeros(layer.kernel.shape, np.float32)
    kernel[:2, :2, : blocks.shape[2], : blocks.shape[3]] = blocks
    layer.kernel.assign(kernel)
    layer.bias.assign(np.zeros(layer.bias.shape, np.float32))


def _set_generator(model: Any, statistics: TransformStatistics, scale: np.ndarray) -> None:
    generator, width = model.feature_generator, statistics.patches.shape[1]
    spread = generator.up.spread
    columns = np.zeros((statistics.blocks.shape[3], 4, generator.up.channels), np.float32)
    columns[:, :, :width] = np.moveaxis(statistics.blocks.reshape(4, width, -1), -1, 0)
    embed_matrix(spread, columns.reshape(columns.shape[0], -1))
    embed_matrix(generator.exit, np.eye(width))
    _set_rows(generator.vector_0, 1.0 / scale)
    painter = model.frame_generator
    order = np.arange(PATCH_CHANNELS)
    if painter.deblock is not None:
        order = order.reshape(2, 4, 2, 4, 3).transpose(0, 2, 1, 3, 4).ravel()
        embed_matrix(painter.paint, np.eye(painter.paint.kernel.shape[-1]))
    embed_matrix(painter.exit, statistics.patches.T[:, order], statistics.mean[order])


def _set_spread(model: Any, spread: np.ndarray) -> None:
    """H_dec gives step 1, mean 0 and the measured standard deviation; E_s changes nothing."""
    sigma = np.maximum(spread - MIN_SIGMA, 1e-2)
    raw = (sigma + np.log(-np.expm1(-sigma))).astype(np.float32)  # softplus(raw) = sigma
    zeros = np.zeros_like(raw)
    for heads, bias in (
        (model.hyper_decoder.heads, (zeros, zeros, raw)),
        (model.spatial_prior.heads, (zeros, zeros)),
    ):
        heads.kernel.assign(np.zeros(heads.kernel.shape, np.float32))
        heads.bias.assign(np.concatenate(bias))


def _quieten_hyper_latent(model: Any) -> None:
    """z starts near zero with a narrow prior, so that it costs few bits until it is of use."""
    down = model.hyper_encoder.down_64.down
    down.kernel.assign(QUIET_HYPER_LATENT * np.array(down.kernel))
    for scale in model.z_prior.scales:
        scale.assign(np.full(scale.shape, NARROW_PRIOR, np.float32))


def _set_prediction(model: Any, statistics: TransformStatistics, scale: np.ndarray) -> None:
    """The previous frame's latent as the mean, through C_ext and H_dec; E_s changes nothing."""
    latents = statistics.blocks.shape[3]
    width = model.config.channels_prior
    kept = np.eye(latents, min(latents, width), dtype=np.float32)
    centre = -statistics.mean @ statistics.patches
    embed_matrix(model.intra_adaptor.block.adaptor, statistics.patches, centre)
    embed_matrix(model.context_extractor.entry, np.eye(statistics.patches.shape[1]))
    _set_rows(model.context_extractor.vector_c, scale)
    decoder = model.hyper_decoder
    _embed_cells(decoder.temporal_down, statistics.blocks[..., : decoder.temporal.channels])
    # The adaptor sees the channels of the hyper-latent, then those of the context with the mean.
    from_hyper = decoder.fusion.blocks[0].adaptor.kernel.shape[2] - decoder.temporal.channels
    _route(decoder.fusion.blocks[0].adaptor, from_hyper, kept)
    kernel = np.zeros(decoder.heads.kernel.shape, np.float32)
    kernel[0, 0, : kept.shape[1], latents : 2 * latents] = kept.T
    decoder.heads.kernel.assign(kernel)


def _route(adaptor: Any, first: int, kept: np.ndarray) -> None:
    """Pass inputs from ``first`` on to the first outputs; other outputs mix the other inputs."""
    inputs, outputs = adaptor.kernel.shape[2:]
    limit = np.sqrt(6.0 / (inputs + outputs))
    matrix = np.random.default_rng(0).uniform(-limit, limit, (inputs, outputs)).astype(np.float32)
    matrix[:, : kept.shape[1]] = 0.0
    matrix[first : first + kept.shape[0]] = 0.0
    matrix[first : first + kept.shape[0], : kept.shape[1]] = kept
    embed_matrix(adaptor, matrix)
