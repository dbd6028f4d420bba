"""A P model that starts as the trained intra model: it codes as well before its first step.

The two models share their transforms, hyperprior and feature coding; what the P model has beyond
them joins through layers whose new inputs start at zero weight. So training has only to learn
what the previous frame tells.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.train.distillation import weights_by_path

_LAST_OF_RESIDUAL = ("output_projection/kernel", "mlp/reduce/kernel")


def start_from_intra(intra: Any, inter: Any) -> None:
    """Overwrite the weights of ``inter`` with those of ``intra``, context without influence.

    The two-block checkerboard prior takes over the quadtree's third step, which knows the same
    half of the units. The buffers hold features as F_ext has them at its entry.
    """
    _copy_shared(intra, inter, inter.layers)
    width = inter.config.channels_feature
    for stack in (inter.feature_extractor.stack, inter.feature_generator.stack):
        _join(stack.blocks[0].adaptor, np.eye(width, dtype=np.float32))
    joint = intra.hyper_decoder.fusion.blocks[0].adaptor
    _join(inter.hyper_decoder.fusion.blocks[0].adaptor, _matrix(joint), joint.bias)
    _start_prior(intra.spatial_prior, inter.spatial_prior)
    _start_context(intra, inter)
    copy_feature_coding(intra, inter)


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


def _join(adaptor: Any, matrix: np.ndarray, bias: Any = None) -> None:
    """The first inputs go through ``matrix`` [in, out], the others nowhere yet."""
    kernel = np.zeros(adaptor.kernel.shape, np.float32)
    kernel[0, 0, : matrix.shape[0]] = matrix
    adaptor.kernel.assign(kernel)
    zeros = np.zeros(adaptor.bias.shape, np.float32)
    adaptor.bias.assign(zeros if bias is None else ops.convert_to_numpy(bias))


def _matrix(layer: Any) -> np.ndarray:
    return ops.convert_to_numpy(layer.kernel)[0, 0]


def _start_prior(quadtree: Any, checkerboard: Any) -> None:
    entry = quadtree.entries[1]
    _join(checkerboard.gather.adaptor, _matrix(entry), entry.bias)
    bodies = zip(quadtree.trunk.blocks, (checkerboard.gather, checkerboard.refine), strict=True)
    for source, target in bodies:
        for name in ("mix_in", "depthwise", "mix_out", "gate_in", "gate_out"):
            _copy_layer(getattr(source, name), getattr(target, name))
    _copy_layer(quadtree.heads, checkerboard.heads)


def _start_context(intra: Any, inter: Any) -> None:
    adaptor, entry = inter.intra_adaptor.block.adaptor, intra.feature_extractor.entry
    _copy_layer(entry, adaptor)
    context = inter.context_extractor
    _join(context.entry, np.eye(context.entry.kernel.shape[-1], dtype=np.float32))
    context.vector_c.rows.assign(intra.feature_extractor.vector_f.rows)


def _copy_layer(source: Any, target: Any) -> None:
    target.set_weights(source.get_weights())
