"""A P model that starts as the trained intra model and knows what the previous frame tells.

The two models share their transforms, hyperprior and feature coding; the P model's context joins
F_ext and G through inputs that start at zero weight. In the entropy model it counts at once: the
mean of a latent is the best linear estimate from the previous frame's features and from z_hat, so
that a unit that stays as it was costs next to nothing before the first step. Learnt by gradient
alone, this took longer than two cores have.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.dc_block import pixel_unshuffle
from pvsc_link.semantic.hyperprior import MIN_SIGMA
from pvsc_link.semantic.rate_control import symbol_bits
from pvsc_link.train.distillation import weights_by_path
from pvsc_link.train.informed_init import embed_matrix
from pvsc_link.types import InputError

_LAST_OF_RESIDUAL = ("output_projection/kernel", "mlp/reduce/kernel")
_BATCH = 16
_RIDGE = 1e-3  # of the mean variance of the inputs
_SHIFTS = np.linspace(-2.0, 2.0, 17)  # of log sigma


def start_from_intra(intra: Any, inter: Any, pairs: np.ndarray) -> None:
    """Overwrite the weights of ``inter`` as the module says.

    The prior holds the intra model's features of the hyper-latent in its first channels and the
    predicted mean in the next; E_s hands on the mean and spread of H_dec.
    Input: ``pairs`` : [count, 2, height, width, 3], float32, successive frames.
    Raises ``InputError`` where the prior is too narrow for both.
    """
    _check_width(intra.config, inter.config)
    _copy_shared(intra, inter, inter.layers)
    width = inter.config.channels_feature
    for stack in (inter.feature_extractor.stack, inter.feature_generator.stack):
        embed_matrix(stack.blocks[0].adaptor, np.eye(width, dtype=np.float32))
    embed_matrix(inter.context_extractor.entry, np.eye(width, dtype=np.float32))
    inter.context_extractor.vector_c.rows.assign(intra.feature_extractor.vector_f.rows)
    copy_feature_coding(intra, inter)
    _start_prediction(intra, inter, pairs)


def copy_feature_coding(intra: Any, inter: Any) -> None:
    """F_tx and F_rx of a P model start as those of the intra model, which sends like features.

    The residual branches of the temporal ViTs, which the intra model lacks, start at zero: both
    models then send equal features as equal symbols.
    """
    for layer in (inter.feature_encoder, inter.feature_decoder):
        quiet_residuals(layer.transformer.temporal)
    _copy_shared(intra, inter, inter.coding_layers)


def quiet_residuals(layer: Any) -> None:
    """The residual branches of all ViT blocks in ``layer`` add nothing until they have learnt."""
    for variable in layer.weights:
        if variable.path.endswith(_LAST_OF_RESIDUAL):
            variable.assign(np.zeros(variable.shape, np.float32))


def _copy_shared(intra: Any, inter: Any, layers: Any) -> None:
    """Weights of equal path and shape."""
    trained = weights_by_path(intra)
    for layer in layers:
        for variable in layer.weights:
            value = trained.get(str(variable.path).removeprefix(f"{inter.name}/"))
            if value is not None and value.shape == tuple(variable.shape):
                variable.assign(value)


def _check_width(intra: Any, inter: Any) -> None:
    latents = inter.channels_y
    least = max(intra.channels_prior + latents, 3 * latents)
    if inter.channels_prior < least:
        raise InputError(
            f"channels_prior of {inter.name} with intra_start",
            found=inter.channels_prior,
            allowed=f"at least {least}: the intra model's features and the predicted mean",
            remedy="Widen the preset, or start without intra_start.",
        )


def _start_prediction(intra: Any, inter: Any, pairs: np.ndarray) -> None:
    """C_ext, H_dec and E_s: the mean out of the previous frame and z_hat."""
    seen = _measure(intra, pairs)
    adaptor = inter.intra_adaptor.block.adaptor
    embed_matrix(adaptor, *_fit(seen["patches"], seen["feature"]))
    weight = 1.0 / seen["size"]
    latents = inter.config.channels_y
    from_past, offset = _fit(seen["cells"], seen["y"], weight)
    _start_temporal(inter.hyper_decoder, from_past, offset)
    known = np.concatenate([seen["hyper"], seen["cells"] @ from_past + offset], axis=-1)
    mean, bias = _fit(known, seen["y"], weight)
    error = seen["y"] - known @ mean - bias
    shrink = _cheapest_shift(error / seen["w"], seen["sigma"])
    _start_hyper_decoder(intra.hyper_decoder, inter.hyper_decoder, mean, bias, shrink)
    spread = seen["sigma"] * np.exp(shrink)
    _start_spatial_prior(inter.spatial_prior, latents, np.maximum(spread, MIN_SIGMA + 0.01))


def _measure(intra: Any, pairs: np.ndarray) -> dict[str, np.ndarray]:
    """What the intra model makes of pairs, flat: of the first frame ``patches`` [n8, 192],
    ``feature`` [n8, C]; of both ``cells`` [n16, 4C] (past) and ``y``, ``w``, ``sigma``,
    ``hyper`` [n16, ...] (present), ``size`` [n16, 1]: how large y is at that preset."""
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
        z_hat, _ = intra.hyper_latent(y, omega_index)
        decoder = intra.hyper_decoder
        joint = decoder.exit(decoder.up_16(decoder.up_32(decoder.stack(z_hat))))
        w, _, sigma = intra.parameters_of(z_hat)
        scaled = intra.feature_extractor.vector_f(feature, omega_index)
        values = {
            "patches": patches,
            "feature": feature,
            "cells": pixel_unshuffle(scaled, 2),
            **{"y": y, "w": w, "sigma": sigma, "hyper": decoder.fusion(joint)},
            "size": ops.broadcast_to(ops.std(y, axis=(1, 2, 3), keepdims=True), (*y.shape[:3], 1)),
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
    """What to add to log sigma of each channel so that rounded values cost least: [C]."""
    y_bar = np.round(values)
    bits = [
        np.mean(symbol_bits(y_bar, np.maximum(sigma * np.exp(shift), MIN_SIGMA)), axis=0)
        for shift in _SHIFTS
    ]
    return _SHIFTS[np.argmin(bits, axis=0)]


def _start_temporal(decoder: Any, matrix: np.ndarray, bias: np.ndarray) -> None:
    """The stride-2 layer gives the predicted latents first; its other channels stay as drawn."""
    kernel = ops.convert_to_numpy(decoder.temporal_down.kernel).copy()
    count = min(matrix.shape[1], kernel.shape[-1])
    kernel[..., :count] = matrix[:, :count].reshape(2, 2, -1, count)
    decoder.temporal_down.kernel.assign(kernel)
    full = np.zeros(kernel.shape[-1], np.float32)
    full[:count] = bias[:count]
    decoder.temporal_down.bias.assign(full)


def _start_hyper_decoder(
    source: Any, target: Any, mean: np.ndarray, bias: np.ndarray, shrink: np.ndarray
) -> None:
    """First the intra model's fusion, then the temporal branch as it comes."""
    first, joint = source.fusion.blocks[0], target.fusion.blocks[0]
    hyper, width = _matrix(first.adaptor).shape
    inputs, outputs = joint.adaptor.kernel.shape[2:]
    matrix = np.zeros((inputs, outputs), np.float32)
    matrix[:hyper, :width] = _matrix(first.adaptor)
    passed = min(inputs - hyper, outputs - width)
    matrix[hyper : hyper + passed, width : width + passed] = np.eye(passed)
    embed_matrix(joint.adaptor, matrix, ops.convert_to_numpy(first.adaptor.bias))
    for before, after in zip(source.fusion.blocks, target.fusion.blocks, strict=True):
        _widen(before, after)
    w, _, sigma = np.split(_matrix(source.heads), 3, axis=1)
    w_bias, _, sigma_bias = np.split(ops.convert_to_numpy(source.heads.bias), 3)
    heads = np.zeros(target.heads.kernel.shape[2:], np.float32)
    latents = w.shape[1]
    heads[:width, :latents], heads[:width, 2 * latents :] = w, sigma
    heads[: width + latents, latents : 2 * latents] = mean
    embed_matrix(target.heads, heads, np.concatenate([w_bias, bias, sigma_bias + shrink]))


def _widen(source: Any, target: Any) -> None:
    """A DC block whose first channels are those of ``source``; the others start as identity."""
    few, many = source.channels, target.channels
    for name in ("mix_in", "mix_out"):
        _copy_channels(getattr(source, name), getattr(target, name), [(0, 0, few)], [(0, 0, few)])
    _copy_channels(source.depthwise, target.depthwise, [(0, 0, few)], None)
    halves = [(0, 0, 2 * few), (2 * few, 2 * many, 2 * few)]
    _copy_channels(source.gate_in, target.gate_in, [(0, 0, few)], halves)
    _copy_channels(source.gate_out, target.gate_out, [(0, 0, 2 * few)], [(0, 0, few)])


def _copy_channels(source: Any, target: Any, inputs: Any, outputs: Any) -> None:
    """Copy channel ranges (start in source, start in target, length); ``target`` keeps the rest,
    but nothing else flows into the copied outputs."""
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


def _start_spatial_prior(prior: Any, latents: int, spread: np.ndarray) -> None:
    """mu_1 = mu_0, sigma_1 about sigma_0; y_before stands ready in the channels behind them.

    Input: ``spread`` : [n, C_y], values of sigma_0 for which the copy should hold.
    """
    order = [2 * latents, 3 * latents, 0]  # of (y_before, w, mu_0, sigma_0)
    matrix = np.zeros(prior.gather.adaptor.kernel.shape[2:], np.float32)
    for place, first in enumerate(order):
        columns = slice(place * latents, (place + 1) * latents)
        matrix[first : first + latents, columns] = np.eye(latents)
    embed_matrix(prior.gather.adaptor, matrix)
    raw = np.log(np.expm1(spread - MIN_SIGMA))
    slope = ((spread - spread.mean(0)) * (raw - raw.mean(0))).mean(0) / (spread.var(0) + 1e-6)
    heads = np.zeros(prior.heads.kernel.shape[2:], np.float32)
    heads[:latents, :latents] = np.eye(latents)
    heads[latents : 2 * latents, latents:] = np.diag(slope)
    offset = raw.mean(0) - slope * spread.mean(0)
    embed_matrix(prior.heads, heads, np.concatenate([np.zeros(latents), offset]))


def _matrix(layer: Any) -> np.ndarray:
    return ops.convert_to_numpy(layer.kernel)[0, 0]
