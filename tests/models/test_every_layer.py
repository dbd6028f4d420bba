"""One contract for every layer of the room; a new layer without a case here fails a test."""

import importlib
import inspect
import pkgutil
from dataclasses import fields, replace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import pvsc_link.models
from pvsc_link.models.dvst.config import DvstConfig, StreamConfig
from pvsc_link.models.presets import intra_of
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc_mc.config import PvscMcConfig

CONFIG = PvscConfig(
    "contract",
    channels_y=8,
    channels_z=6,
    channels_feature=12,
    channels_pixel=10,
    channels_prior=16,
    depth_context=(1, 1),
    depth_extractor=1,
    depth_hyper=1,
    depth_fusion=1,
    depth_feature=1,
    depth_pixel=1,
    depth_deblock=1,
    embed_dim=8,
    num_heads=2,
    num_vit=2,
    mlp_ratio=2,
    window_size=2,
    rate_set=(0, 2, 5),
    num_omega=3,
    eta=0.3,
)
INTRA = replace(intra_of(CONFIG), channels_prior=CONFIG.channels_prior)
MOVING = PvscMcConfig(**{f.name: getattr(CONFIG, f.name) for f in fields(CONFIG)})
STREAM = StreamConfig("stream", channels_y=8, channels_z=6, channels_context=12)
DVST = DvstConfig(
    "dvst_contract",
    "none",
    motion=replace(STREAM, channels_context=0, channels_y=6),
    context=STREAM,
    num_levels=2,
    flow_channels=(6,),
    flow_kernel=3,
    channels_motion=(5, 6, 7),
    channels_pixel=6,
    channels_context=(8, 9, 10),
    depth_reference=1,
    depth_refine=1,
    depth_encoder=1,
    depth_decoder=1,
)
#: Tables of integers for the range coder, without a network in them.
NO_NETWORK = {"MotionPrior", "RateMapPrior"}
RNG = np.random.default_rng(0)


def real(*shape):
    return RNG.standard_normal((2, *shape)).astype(np.float32)


FRAME = RNG.random((2, 64, 64, 3)).astype(np.float32)
OMEGA = np.array([0, 2], np.int32)
RATE = RNG.integers(0, 3, (2, 4, 4)).astype(np.int32)
Y = real(4, 4, 8)
PARAMETERS = [
    np.abs(real(4, 4, 8)) + 0.5,
    real(4, 4, 8),
    np.abs(real(4, 4, 8)) + 0.2,
    real(4, 4, 8),
]
TOKENS, STATE = real(4, 4, 8), real(4, 4, 8)
SMALL = RNG.random((2, 32, 32, 3)).astype(np.float32)
PIXELS = real(32, 32, 6)

#: class name: (constructor arguments, call arguments) per variant
CASES = {
    "DepthConvBlock": [
        ({"channels": 5, "shortcut": True}, [real(4, 4, 3)]),
        ({"channels": 3}, [real(4, 4, 3)]),
    ],
    "DepthConvStack": [({"channels": 5, "depth": 2}, [real(4, 4, 3)])],
    "ResidualDown": [({"channels": 5}, [real(4, 4, 3)])],
    "ResidualUp": [({"channels": 5}, [real(4, 4, 3)])],
    "SubPixelUp": [({"channels": 5, "kernel_size": 3}, [real(4, 4, 3)])],
    "NoiseInput": [({"config": CONFIG}, [real(4, 4, 5), RATE, np.abs(real(4, 4, 5))])],
    "LearnableVector": [({"config": CONFIG}, [real(4, 4, 7), OMEGA])],
    "ContextExtractor": [({"config": CONFIG}, [real(8, 8, 12), OMEGA])],
    "LatentPrediction": [({"config": MOVING}, [real(8, 8, 12), OMEGA])],
    "IntraFeatureAdaptor": [({"config": CONFIG}, [FRAME])],
    "FeatureExtractor": [
        ({"config": CONFIG}, [FRAME, OMEGA, real(8, 8, 12)]),
        ({"config": INTRA}, [FRAME, OMEGA]),
    ],
    "PredictingExtractor": [({"config": MOVING}, [FRAME, OMEGA, real(8, 8, 12)])],
    "PredictingGenerator": [({"config": MOVING}, [Y, OMEGA, real(8, 8, 12)])],
    "FeatureGenerator": [
        ({"config": CONFIG}, [Y, OMEGA, real(8, 8, 12)]),
        ({"config": INTRA}, [Y, OMEGA]),
    ],
    "FrameGenerator": [
        ({"config": CONFIG}, [real(8, 8, 12), OMEGA]),
        ({"config": replace(CONFIG, depth_deblock=0)}, [real(8, 8, 12), OMEGA]),
    ],
    "ReferenceBlend": [({"config": MOVING}, [FRAME, FRAME[::-1], real(8, 8, 12), OMEGA])],
    "HyperEncoder": [({"config": CONFIG}, [Y])],
    "HyperDecoder": [
        ({"config": CONFIG}, [real(1, 1, 6), real(8, 8, 12)]),
        ({"config": INTRA}, [real(1, 1, 6)]),
    ],
    "FactorizedPrior": [({"config": CONFIG}, [real(1, 1, 6), OMEGA])],
    "SpatialPrior": [({"config": CONFIG}, PARAMETERS)],
    "QuadtreePrior": [({"config": INTRA}, PARAMETERS)],
    "FeaturesToReals": [({"config": CONFIG}, [Y, RATE])],
    "RealsToFeatures": [({"config": CONFIG}, [real(4, 4, 5), RATE])],
    "TokenEmbedding": [({"config": CONFIG}, [Y, RATE])],
    "SpatioTemporalVit": [({"config": CONFIG}, [TOKENS, STATE]), ({"config": INTRA}, [TOKENS])],
    "Mlp": [({"config": CONFIG}, [TOKENS])],
    "VitBlock": [({"config": CONFIG, "shifted": True}, [TOKENS])],
    "ContextualVitBlock": [({"config": CONFIG, "shifted": True}, [TOKENS, STATE])],
    "WindowAttention": [({"config": CONFIG, "shifted": True}, [TOKENS, STATE])],
    "DecodedState": [({"config": CONFIG}, [STATE, TOKENS])],
    "FeatureEncoder": [({"config": CONFIG}, [Y, RATE, STATE]), ({"config": INTRA}, [Y, RATE])],
    "FeatureDecoder": [
        ({"config": CONFIG}, [real(4, 4, 5), RATE, STATE]),
        ({"config": INTRA}, [real(4, 4, 5), RATE]),
    ],
    "FlowRefinement": [({"config": DVST}, [real(8, 8, 8)])],
    "MotionEstimator": [({"config": DVST}, [SMALL, SMALL[:, ::-1]])],
    "MotionEncoder": [({"config": DVST}, [real(32, 32, 2)])],
    "MotionDecoder": [({"config": DVST}, [real(2, 2, 6)])],
    "MotionCompensation": [({"config": DVST}, [SMALL, real(32, 32, 2)])],
    "ContextEncoder": [({"config": DVST}, [SMALL, SMALL, PIXELS])],
    "ContextDecoder": [({"config": DVST}, [real(2, 2, 8), SMALL, PIXELS])],
    "Discriminator": [({"num_filters": 8, "num_layers": 2, "num_groups": 4}, [FRAME])],
}


def layers_of_the_room():
    """Every public layer class of pvsc_link.models and below, models and bases apart."""
    found = {}
    for module in pkgutil.walk_packages(pvsc_link.models.__path__, "pvsc_link.models."):
        module = importlib.import_module(module.name)
        for name, value in inspect.getmembers(module, inspect.isclass):
            public = value.__module__ == module.__name__ and not name.startswith("_")
            if public and issubclass(value, keras.layers.Layer) and "call" in vars(value):
                found[name] = value
    return {k: v for k, v in found.items() if not issubclass(v, keras.Model)}


LAYERS = layers_of_the_room()
VARIANTS = [
    pytest.param(name, *case, id=f"{name}-{i}")
    for name, cases in CASES.items()
    for i, case in enumerate(cases)
]


def flat(outputs):
    return [ops.convert_to_numpy(x) for x in tf.nest.flatten(outputs) if x is not None]


def test_every_layer_of_the_room_has_a_case():
    assert set(LAYERS) - NO_NETWORK == set(CASES)


@pytest.mark.parametrize(("name", "arguments", "inputs"), VARIANTS)
def test_symbolic_eager_and_graph_calls_agree(name, arguments, inputs):
    layer = LAYERS[name](**arguments)
    eager = flat(layer(*inputs))
    specs = [keras.KerasTensor(x.shape, dtype=x.dtype.name) for x in inputs]
    symbolic = [x for x in tf.nest.flatten(layer.compute_output_spec(*specs)) if x is not None]
    assert [tuple(x.shape) for x in symbolic] == [x.shape for x in eager]
    assert [x.dtype for x in symbolic] == [x.dtype.name for x in eager]
    graph = flat(tf.function(lambda *x: layer(*x))(*inputs))
    for first, second in zip(eager, graph, strict=True):
        assert np.isfinite(first).all()
        np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.parametrize(("name", "arguments", "inputs"), VARIANTS)
def test_one_training_step_moves_the_weights_and_lowers_the_loss(name, arguments, inputs):
    layer = LAYERS[name](**arguments)
    target = [RNG.standard_normal(x.shape).astype(np.float32) for x in flat(layer(*inputs))]

    def loss_now():
        outputs = [x for x in tf.nest.flatten(layer(*inputs)) if x is not None]
        return sum(ops.mean(ops.square(x - y)) for x, y in zip(outputs, target, strict=True))

    with tf.GradientTape() as tape:
        loss = loss_now()
    gradients = tape.gradient(loss, layer.trainable_variables)
    norm = np.sqrt(sum(np.sum(flat(g)[0] ** 2) for g in gradients if g is not None))
    assert norm > 0
    for variable, gradient in zip(layer.trainable_variables, gradients, strict=True):
        if gradient is not None:
            variable.assign_sub(1e-3 / norm * ops.convert_to_tensor(gradient))
    assert loss_now() < loss


@pytest.mark.parametrize(("name", "arguments", "inputs"), VARIANTS)
def test_config_round_trip_gives_the_same_layer(name, arguments, inputs):
    layer = LAYERS[name](**arguments, name="renamed")
    expected = flat(layer(*inputs))
    twin = LAYERS[name].from_config(layer.get_config())
    twin(*inputs)
    twin.set_weights(layer.get_weights())
    assert twin.get_config() == layer.get_config()
    assert twin.name == "renamed"
    for key, value in arguments.items():
        assert getattr(twin, key) == value
    for first, second in zip(expected, flat(twin(*inputs)), strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("name", "arguments", "inputs"), VARIANTS)
def test_mixed_precision_keeps_float32_weights_and_comes_close(name, arguments, inputs):
    layer = LAYERS[name](**arguments)
    expected = flat(layer(*inputs))
    mixed = LAYERS[name](**arguments, dtype="mixed_bfloat16")
    mixed(*inputs)
    mixed.set_weights(layer.get_weights())
    assert {w.dtype for w in mixed.trainable_weights} == {"float32"}
    for first, second in zip(expected, flat(mixed(*inputs)), strict=True):
        second = second.astype(np.float32)
        scale = np.sqrt(np.mean(first**2)) + 1e-3
        assert np.sqrt(np.mean((first - second) ** 2)) < 0.1 * scale
