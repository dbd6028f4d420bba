"""One set of weights gives the same symbols and features under TensorFlow and JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

pytest.importorskip("jax")

#: Runs under either backend: weights and inputs in, outputs out, jitted where JAX jits.
SCRIPT = """
import sys
import keras, numpy as np
from pvsc_link.models.pvsc.discriminator import Discriminator
from pvsc_link.models.pvsc.feature_codec import FeatureDecoder, FeatureEncoder
from pvsc_link.models.pvsc.config import PvscConfig

CONFIG = PvscConfig("small", channels_y=8, embed_dim=16, num_heads=2, num_vit=2, mlp_ratio=2,
                    window_size=4, rate_set=(0, 1, 2, 4, 7, 8))

def layers():
    encoder, decoder = FeatureEncoder(CONFIG), FeatureDecoder(CONFIG)
    discriminator = Discriminator(num_filters=8, num_layers=2, num_groups=4)
    encoder.build(None)
    decoder.build(None)
    discriminator.build((None, None, None, 3))
    return encoder, decoder, discriminator

def run(built, data):
    encoder, decoder, discriminator = built
    padded = encoder(data["y_bar"], data["rate_index"], data["state"])
    y_bar_rx, state = decoder(padded, data["rate_index"], data["state"])
    return padded, y_bar_rx, state, discriminator(data["frames"])

if __name__ == "__main__":
    data = dict(np.load(sys.argv[1]))
    built = layers()
    for number, layer in enumerate(built):
        layer.set_weights([data[f"w{number}_{i}"] for i in range(len(layer.weights))])
    import jax
    inputs = {k: v for k, v in data.items() if not k.startswith("w")}
    results = jax.jit(lambda inputs: run(built, inputs))(inputs)
    np.savez(sys.argv[2], backend=keras.backend.backend(), *[np.asarray(r) for r in results])
"""


@pytest.mark.ci
def test_jax_under_jit_gives_what_tensorflow_gives(tmp_path):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares TensorFlow, in this process, with JAX in another")
    script, given, taken = (tmp_path / name for name in ("run.py", "in.npz", "out.npz"))
    script.write_text(SCRIPT)
    scope = {"__name__": "here"}
    exec(compile(SCRIPT, str(script), "exec"), scope)
    rng = np.random.default_rng(0)
    built = scope["layers"]()
    for layer in built:
        layer.set_weights([w + 0.1 * rng.normal(size=w.shape) for w in layer.get_weights()])
    data = {
        "y_bar": np.round(3 * rng.normal(size=(2, 5, 7, 8))).astype(np.float32),
        "rate_index": rng.integers(0, 6, (2, 5, 7)).astype(np.int32),
        "state": rng.normal(size=(2, 5, 7, 16)).astype(np.float32),
        "frames": rng.random((1, 32, 48, 3), np.float32),
    }
    weights = {f"w{n}_{i}": w for n, x in enumerate(built) for i, w in enumerate(x.get_weights())}
    np.savez(given, **data, **weights)
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(script), str(given), str(taken)]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr[-2000:]
    other = np.load(taken)
    assert str(other["backend"]) == "jax"
    for number, result in enumerate(scope["run"](built, data)):
        np.testing.assert_allclose(other[f"arr_{number}"], result, atol=1e-4)
