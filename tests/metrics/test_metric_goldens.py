"""LPIPS, DISTS and PSNR against the official implementations, on both supported backends."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_up_pairs import digest, made_up_pairs
from PIL import Image

MADE_UP = json.loads((Path(__file__).parent / "made_up_goldens.json").read_text())["pairs"]
GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "metrics"
needs_goldens = pytest.mark.skipif(not GOLDEN.exists(), reason="no golden pairs here")
TOLERANCE = {"lpips": 1e-6, "dists": 1e-5, "psnr": 1e-5}
KEY = {"lpips": "lpips_vgg_f64", "dists": "dists_f64", "psnr": "psnr"}


def golden_pairs():
    for pair in json.loads((GOLDEN / "goldens.json").read_text())["pairs"]:
        images = [np.asarray(Image.open(GOLDEN / pair[key])) for key in ("ref", "dist")]
        yield pair, [image[None, None].astype(np.float32) / 255 for image in images]


def assert_equal_to_goldens():
    from pvsc_link.metrics import METRICS

    pairs = list(golden_pairs())
    assert len(pairs) == 6
    for pair, (frames, frames_hat) in pairs:
        for name in KEY:
            value = METRICS[name].measure(frames, frames_hat)
            assert value.shape == (1, 1)
            assert value.dtype == np.float32
            assert abs(value[0, 0] - pair[KEY[name]]) <= TOLERANCE[name], (pair["name"], name)


def in_unit_range(picture):
    return picture[None, None].astype(np.float32) / 255


@pytest.mark.parametrize("name", list(MADE_UP))
def test_made_up_pictures_have_the_values_of_the_official_implementations(name):
    """Needs no file of pictures; ``official_values.py`` wrote what is expected."""
    from pvsc_link.metrics import METRICS

    pair, expected = made_up_pairs()[name], MADE_UP[name]
    assert digest(pair) == expected["pixels"], "these are other pictures than the official code saw"
    frames, frames_hat = map(in_unit_range, pair)
    for measure in ("lpips", "dists"):
        value = METRICS[measure].measure(frames, frames_hat)[0, 0]
        assert value == pytest.approx(expected[measure], abs=TOLERANCE[measure]), measure


def test_every_made_up_pair_has_a_golden():
    assert list(made_up_pairs()) == list(MADE_UP)


@needs_goldens
def test_metrics_equal_the_official_implementations():
    assert_equal_to_goldens()


@pytest.mark.slow
@needs_goldens
def test_metrics_equal_the_official_implementations_under_jax():
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import test_metric_goldens as t, keras\n"
        "assert keras.backend.backend() == 'jax'\n"
        "t.assert_equal_to_goldens()\n"
        "assert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-3000:]


@needs_goldens
def test_the_loss_form_of_lpips_keeps_the_official_value():
    from pvsc_link.metrics.perceptual import Lpips

    loss = Lpips(finite_gradient=True)
    pairs = list(golden_pairs())[:3]
    assert len(pairs) == 3
    for pair, (frames, frames_hat) in pairs:
        value = float(loss(frames[0], frames_hat[0])[0])
        assert value == pytest.approx(pair["lpips_vgg_f64"], abs=1e-5)


@needs_goldens
def test_swapped_colours_are_noticed():
    from pvsc_link.metrics import METRICS

    pair, (frames, frames_hat) = next(golden_pairs())
    for name in ("lpips", "dists"):
        swapped = METRICS[name].measure(frames[..., ::-1], frames_hat[..., ::-1])[0, 0]
        assert abs(swapped - pair[KEY[name]]) > 1e-3
