"""A P model that starts as the trained intra model and predicts from the previous frame.

The two models share their transforms, hyperprior and feature coding. The P model's context joins
F_ext and G through inputs whose weights start at zero. In the entropy model it counts at once: the
mean of a latent is the best linear estimate from the features of the previous frame and from
z_hat. A unit that does not change then costs few bits before the first step. To learn this by
gradients alone takes much longer.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models import MIN_SIGMA, compensate, pixel_unshuffle, symbol_bits
from pvsc_link.train.family import motion_vectors
from pvsc_link.train.starts.informed import embed_matrix
from pvsc_link.train.weights import weights_by_path
from pvsc_link.types import InputError

_LAST_OF_RESIDUAL = ("output_projection/kernel", "mlp/reduce/kernel")
_BATCH = 16
_RIDGE = 1e-3  # of the mean variance of the inputs
_SHIFTS = np.linspace(-2.0, 2.0, 17)  # of log sigma


def start_from_intra(intra: Any, inter: Any, pairs: np.ndarray) -> None:
    """Overwrite the weights of ``inter``, as this module describes.

    The prior holds the intra model's features of the hyper-latent in its first channels and the
    predicted mean in the next. E_s passes on the mean and spread of H_dec.
    Input: ``pairs`` : [count, 2, height, width, 3], float32, successive frames.
    Raises ``InputError`` if the prior is too narrow for both.
    """
    _check_width(intra.config, inter.config)
    pairs = _compensated(inter.config, pairs)
    _copy_shared(intra, inter, inter.layers)
    width = inter.config.channels_feature
    for stack in (inter.feature_extractor.stack, inter.feature_generator.stack):
        embed_matrix(stack.blocks[0].adaptor, np.eye(width, dtype=np.float32))
    embed_matrix(inter.context_extractor.entry, np.eye(width, dtype=np.float32))
    inter.context_extractor.vector_c.rows.assign(intra.feature_extractor.vector_f.rows)
    copy_feature_coding(intra, inter)
    _start_prediction(intra, inter, pairs)


def _compensated(config: Any, pairs: np.ndarray) -> np.ndarray:
    """Pairs whose first frame is motion-compensated, for a model that sends vectors.

    Input, output: [count, 2, height, width, 3], float32.
    """
    presets = np.arange(len(pairs)) % config.num_omega
    motion = motion_vectors(config, pairs[:, 0], pairs[:, 1], presets)
    if motion is None:
        return pairs
    moved = ops.convert_to_numpy(ops.clip(compensate(pairs[:, 0], motion), 0.0, 1.0))
    return np.stack([moved, pairs[:, 1]], axis=1)


def copy_feature_coding(intra: Any, inter: Any) -> None:
    """F_tx and F_rx of a P model start as those of the intra model.

    The residual branches of the temporal ViTs, which the intra model lacks, start at zero. Both
    models then send equal features as equal symbols.
    """
    for layer in (inter.feature_encoder, inter.feature_decoder):
        quiet_residuals(layer.transformer.temporal)
    _copy_shared(intra, inter, inter.coding_layers)


def quiet_residuals(layer: Any) -> None:
    """Set the last layers of the residual branches of all ViT blocks in ``layer`` to zero."""
    for variable in layer.weights:
        if variable.path.endswith(_LAST_OF_RESIDUAL):
            variable.assign(np.zeros(variable.shape, np.float32))


def _copy_shared(intra: Any, inter: Any, layers: Any) -> None:
    """Copy the weights of equal path and shape."""
    trained = weights_by_path(intra)
    for layer in layers:
        for variable in layer.weights:
            value = trained.get(str(variable.path).removeprefix(f"{inter.name}/"))
            if value is not None and value.shape == tuple(variable.shape):
                variable.assign(value)


def _check_width(intra: Any, inter: Any) -> None:
    least = intra.channels_prior + min(inter.channels_y, inter.channels_feature)
    if inter.channels_prior < least:
        raise InputError(
            f"channels_prior of {inter.name} with intra_start",
            found=inter.channels_prior,
            allowed=f"at least {least}: the intra model's features and the predicted mean",
            remedy="Widen the preset, or start without intra_start.",
        )


def _start_prediction(intra: Any, inter: Any, pairs: np.ndarray) -> None:
    """Set C_ext, F_ext, G, H_dec and E_s so that they predict y from the past and z_hat."""
    prediction = getattr(inter.feature_extractor, "prediction", None)
    if prediction is not None:
        still = np.stack([pairs[:, 0], pairs[:, 0]], axis=1)
        seen = _measure(intra, still)
        _start_latent_prediction(intra, inter, *_fit(seen["cells"], seen["y"], 1.0 / seen["size"]))
    seen = _measure(intra, pairs, prediction)
    adaptor = inter.intra_adaptor.block.adaptor
    embed_matrix(adaptor, *_fit(seen["patches"], seen["feature"]))
    weight = 1.0 / seen["size"]
    count = min(inter.config.channels_y, inter.config.channels_feature)
    from_past, offset = (a[..., :count] for a in _fit(seen["cells"], seen["y"], weight))
    _start_temporal(inter.hyper_decoder, from_past, offset)
    known = np.concatenate([seen["hyper"], seen["cells"] @ from_past + offset], axis=-1)
    mean, bias = _fit(known, seen["y"], weight)
    error = seen["y"] - known @ mean - bias
    shrink = _cheapest_shift(error / seen["w"], seen["sigma"])
    _start_hyper_decoder(intra.hyper_decoder, inter.hyper_decoder, mean, bias, shrink)
    heads = inter.spatial_prior.heads
    embed_matrix(heads, np.zeros(heads.kernel.shape[2:], np.float32))  # E_s changes nothing


def _start_latent_prediction(
    intra: Any, inter: Any, matrix: np.ndarray, offset: np.ndarray
) -> None:
    """F_ext and G predict the latent of a frame from its own decoded features."""
    for half in (inter.feature_extractor, inter.feature_generator):
        half.prediction.vector.rows.assign(intra.feature_extractor.vector_f.rows)
        kernel = half.prediction.down.kernel
        kernel.assign(matrix.reshape(kernel.shape))
        half.prediction.down.bias.assign(offset)


def _measure(intra: Any, pairs: np.ndarray, prediction: Any = None) -> dict[str, np.ndarray]:
    """Code the first frame of each pair with the intra model and analyse the second.

    Output: arrays with all units of all pairs on the first axis. Of the first frame ``patches``
    [n8, 192] and ``feature`` [n8, C] at 1/8, and ``cells`` [n16, 4 C], its scaled features; of the
    second ``y`` (less its ``prediction``, if any), ``w``, ``sigma`` and ``hyper`` [n16, ...], and
    ``size`` [n16, 1], the standard deviation of y in the picture.
    """
    batches = np.array_split(pairs, max(1, len(pairs) // _BATCH))
    parts: dict[str, list[np.ndarray]] = {}
    for number, batch in enumerate(batches):
        presets = (np.arange(len(batch)) + number * _BATCH) % intra.config.num_omega
        omega_index = ops.convert_to_tensor(presets, "int32")
        before = intra.forward(batch[:, 0], omega_index)
        patches = pixel_unshuffle(ops.clip(before["frame_ideal"], 0.0, 1.0), 8)
        parameters = intra.parameters_of(before["z_hat"])
        y_tilde = intra.dequantise(before["y_bar"], parameters)
        feature = intra.feature_generator(y_tilde, omega_index)
        y = intra.feature_extractor(batch[:, 1], omega_index)
        size = ops.broadcast_to(ops.std(y, axis=(1, 2, 3), keepdims=True), (*y.shape[:3], 1))
        if prediction is not None:
            y = y - prediction(feature, omega_index)
        z_hat, _ = intra.hyper_latent(y, omega_index)
        decoder = intra.hyper_decoder
        joint = decoder.exit(decoder.up_16(decoder.up_32(decoder.stack(z_hat))))
        w, _, sigma = intra.parameters_of(z_hat)
        scaled = intra.feature_extractor.vector_f(feature, omega_index)
        values = {
            "patches": patches,
            "feature": feature,
            "cells": pixel_unshuffle(scaled, 2),
            **{"y": y, "w": w, "sigma": sigma, "hyper": decoder.fusion(joint), "size": size},
        }
        for name, value in values.items():
            flat = ops.convert_to_numpy(value).reshape(-1, value.shape[-1])
            parts.setdefault(name, []).append(flat)
    return {name: np.concatenate(arrays) for name, arrays in parts.items()}


def _fit(
    inputs: np.ndarray, targets: np.ndarray, weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares with a ridge: matrix [in, out] and bias [out], float32.

    Input: ``weight`` : [n, 1], multiplies inputs, targets and the constant alike.
    """
    ones = np.ones((len(inputs), 1))
    every = np.concatenate([inputs, ones], axis=1).astype(np.float64)
    if weight is not None:
        every, targets = every * weight, targets * weight
    square = every.T @ every
    ridge = np.full(len(square), _RIDGE * np.mean(np.diag(square)[:-1]))
    ridge[-1] = 0.0
    solved = np.linalg.solve(square + np.diag(ridge), every.T @ targets)
    return solved[:-1].astype(np.float32), solved[-1].astype(np.float32)


def _cheapest_shift(values: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """The shift of log sigma of each channel with which rounded values cost fewest bits: [C]."""
    y_bar = np.round(values)
    bits = [
        np.mean(symbol_bits(y_bar, np.maximum(sigma * np.exp(shift), MIN_SIGMA)), axis=0)
        for shift in _SHIFTS
    ]
    return _SHIFTS[np.argmin(bits, axis=0)]


def _start_temporal(decoder: Any, matrix: np.ndarray, bias: np.ndarray) -> None:
    """The first channels of the stride-2 layer give the predicted latents; others are kept."""
    kernel = ops.convert_to_numpy(decoder.temporal_down.kernel).copy()
    count = matrix.shape[1]
    kernel[..., :count] = matrix.reshape(2, 2, -1, count)
    decoder.temporal_down.kernel.assign(kernel)
    full = np.zeros(kernel.shape[-1], np.float32)
    full[:count] = bias
    decoder.temporal_down.bias.assign(full)


def _start_hyper_decoder(
    source: Any, target: Any, mean: np.ndarray, bias: np.ndarray, shrink: np.ndarray
) -> None:
    """The first channels are the intra model's fusion; the next pass the temporal branch on."""
    first, joint = source.fusion.blocks[0], target.fusion.blocks[0]
    hyper, width = _matrix(first.adaptor).shape
    inputs, outputs = joint.adaptor.kernel.shape[2:]
    matrix = np.zeros((inputs, outputs), np.float32)
    matrix[:hyper, :width] = _matrix(first.adaptor)
    passed = len(mean) - width
    matrix[hyper : hyper + passed, width : width + passed] = np.eye(passed)
    embed_matrix(joint.adaptor, matrix, ops.convert_to_numpy(first.adaptor.bias))
    for before, after in zip(source.fusion.blocks, target.fusion.blocks, strict=True):
        _widen(before, after)
    w, _, sigma = np.split(_matrix(source.heads), 3, axis=1)
    w_bias, _, sigma_bias = np.split(ops.convert_to_numpy(source.heads.bias), 3)
    heads = np.zeros(target.heads.kernel.shape[2:], np.float32)
    latents = w.shape[1]
    heads[:width, :latents], heads[:width, 2 * latents :] = w, sigma
    heads[: len(mean), latents : 2 * latents] = mean
    embed_matrix(target.heads, heads, np.concatenate([w_bias, bias, sigma_bias + shrink]))


def _widen(source: Any, target: Any) -> None:
    """Copy the DC block ``source`` into the first channels of ``target``; others are identity."""
    few, many = source.channels, target.channels
    for name in ("mix_in", "mix_out"):
        _copy_channels(getattr(source, name), getattr(target, name), [(0, 0, few)], [(0, 0, few)])
    _copy_channels(source.depthwise, target.depthwise, [(0, 0, few)], None)
    halves = [(0, 0, 2 * few), (2 * few, 2 * many, 2 * few)]
    _copy_channels(source.gate_in, target.gate_in, [(0, 0, few)], halves)
    _copy_channels(source.gate_out, target.gate_out, [(0, 0, 2 * few)], [(0, 0, few)])


def _copy_channels(source: Any, target: Any, inputs: Any, outputs: Any) -> None:
    """Copy channel ranges (start in source, start in target, length).

    Other weights of ``target`` stay, but those from other inputs into the copied outputs are zero.
    """
    old, new = (ops.convert_to_numpy(layer.kernel) for layer in (source, target))
    new = new.copy()
    bias = ops.convert_to_numpy(target.bias).copy()
    if outputs is None:  # depthwise: no mixing
        for i, j, n in inputs:
            new[:, :, j : j + n] = old[:, :, i : i + n]
            bias[j : j + n] = ops.convert_to_numpy(source.bias)[i : i + n]
    else:
        for a, b, m in outputs:
            new[..., b : b + m] = 0.0
            bias[b : b + m] = ops.convert_to_numpy(source.bias)[a : a + m]
            for i, j, n in inputs:
                new[:, :, j : j + n, b : b + m] = old[:, :, i : i + n, a : a + m]
    target.kernel.assign(new)
    target.bias.assign(bias)


def _matrix(layer: Any) -> np.ndarray:
    return ops.convert_to_numpy(layer.kernel)[0, 0]
