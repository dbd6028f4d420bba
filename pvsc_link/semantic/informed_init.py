"""Informed start: a network that is a linear transform codec before its first training step.

The first and last layers become principal components (8x8 patches to the feature width, 2x2 of
those to the latent), the context path copies the previous frame's features, F_ext subtracts them
and G adds them again. With ``zero_init_residual`` every block is the identity, so the model starts
as closed-loop DPCM of transform coefficients: P frames are cheaper than I frames from the start.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.hyperprior import MIN_SIGMA
from pvsc_link.semantic.latent_coding import LatentCodingModel
from pvsc_link.types import InputError


def start_as_transform_codec(
    model: LatentCodingModel, clips: np.ndarray, *, step: float = 0.06
) -> None:
    """Set the linear layers of ``model`` from the statistics of ``clips``.

    Parameters
    ----------
    model : PvscModel or IntraModel, with ``zero_init_residual`` and one width at 1/8
    clips : [num_clips, num_frames, height, width, 3], float32 in [0, 1]; sizes multiples of 16;
        a PvscModel needs two frames or more
    step : quantisation step of a coefficient at w = 1, in units of pixel values

    Raises ``InputError`` for a config that cannot start as a linear codec.
    """
    _check(model, clips)
    width = model.config.channels_feature
    patches = _patches(clips, 8)
    mean, basis_8 = _principal(patches, width)
    features = (patches - mean) @ basis_8
    blocks = _patches(features, 2)
    _, basis_16 = _principal(blocks, model.config.channels_y)
    latents = blocks @ basis_16 / step
    _set_analysis(model, mean, basis_8, basis_16 / step)
    _set_synthesis(model, mean, basis_8, basis_16 * step)
    if not model.config.intra:
        latents = np.diff(latents, axis=1)
        _set(model.context_extractor.entry, np.eye(width))
        _set(model.intra_adaptor.block.adaptor, basis_8, -mean @ basis_8)
    _set_spread(model, latents.reshape(-1, latents.shape[-1]).std(axis=0))


def _set_analysis(model: Any, mean: np.ndarray, basis_8: np.ndarray, basis_16: np.ndarray) -> None:
    width = basis_8.shape[1]
    extractor = model.feature_extractor
    _set(extractor.entry, basis_8, -mean @ basis_8)
    if not model.config.intra:
        _set(extractor.stack.blocks[0].adaptor, np.concatenate([np.eye(width), -np.eye(width)]))
    kernel = np.zeros((3, 3, width, basis_16.shape[1]))
    # On even sizes "same" padding is below and to the right: the first 2x2 taps are the block.
    kernel[:2, :2] = basis_16.reshape(2, 2, width, -1)
    extractor.down.set_weights([kernel, np.zeros(basis_16.shape[1])])


def _set_synthesis(model: Any, mean: np.ndarray, basis_8: np.ndarray, basis_16: np.ndarray) -> None:
    width = basis_8.shape[1]
    generator, painter = model.feature_generator, model.frame_generator
    _set(generator.up.spread, basis_16.T)
    if not model.config.intra:
        _set(generator.stack.blocks[0].adaptor, np.concatenate([np.eye(width)] * 2))
    _set(generator.exit, np.eye(width))
    pixels, offset = basis_8.T, mean
    if painter.deblock is not None:
        # The shuffle goes by 2, then by 4: 8 rows are 2 x 4 rows, and so are the columns.
        order = np.arange(len(mean)).reshape(2, 4, 2, 4, 3).transpose(0, 2, 1, 3, 4).ravel()
        pixels, offset = pixels[:, order], offset[order]
        _set(painter.paint, np.eye(3 * 4 * 4))
    _set(painter.exit, pixels, offset)


def _set_spread(model: Any, spread: np.ndarray) -> None:
    """w = 1, mu = 0 and the measured sigma everywhere, whatever the networks before say."""
    raw = np.log(np.expm1(np.maximum(spread - MIN_SIGMA, 1e-3)))
    zeros = np.zeros_like(raw)
    for heads, bias in (
        (model.hyper_decoder.heads, [zeros, zeros, raw]),
        (model.spatial_prior.heads, [zeros, raw]),
    ):
        kernel = ops.convert_to_numpy(heads.kernel)
        heads.set_weights([np.zeros_like(kernel), np.concatenate(bias)])


def _set(convolution: Any, matrix: np.ndarray, bias: np.ndarray | None = None) -> None:
    """Put ``matrix`` [in, out] on the centre tap of a convolution, and its bias."""
    kernel = np.zeros(convolution.kernel.shape)
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = matrix
    convolution.set_weights([kernel, np.zeros(matrix.shape[1]) if bias is None else bias])


def _patches(maps: np.ndarray, size: int) -> np.ndarray:
    """[clips, frames, H, W, c] to [clips, frames, H / size, W / size, size * size * c]."""
    clips, frames, height, width, channels = maps.shape
    rows, columns = height // size, width // size
    cut = maps.reshape(clips, frames, rows, size, columns, size, channels)
    return cut.transpose(0, 1, 2, 4, 3, 5, 6).reshape(clips, frames, rows, columns, -1)


def _principal(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean [n] and the ``count`` strongest principal axes [n, count] of vectors [..., n]."""
    flat = vectors.reshape(-1, vectors.shape[-1]).astype(np.float64)
    mean = flat.mean(axis=0)
    _, axes = np.linalg.eigh((flat - mean).T @ (flat - mean) / len(flat))
    return mean, axes[:, ::-1][:, :count]


def _check(model: LatentCodingModel, clips: np.ndarray) -> None:
    cfg = model.config
    if not cfg.zero_init_residual or cfg.channels_pixel != cfg.channels_feature:
        raise InputError(
            "preset cannot start as a linear codec",
            found=f"{cfg.name}: zero_init_residual={cfg.zero_init_residual}, "
            f"channels {cfg.channels_feature} and {cfg.channels_pixel}",
            allowed="zero_init_residual, and channels_feature = channels_pixel",
            remedy="Use pvsc_tiny, or set both in a config of your own.",
        )
    frames_needed = 1 if cfg.intra else 2
    if clips.ndim != 5 or clips.shape[1] < frames_needed or clips.shape[-1] != 3:
        raise InputError(
            "clips for the principal components",
            found=clips.shape,
            allowed=f"[clips, frames >= {frames_needed}, height, width, 3]",
            remedy="Pass a batch of training crops.",
        )
