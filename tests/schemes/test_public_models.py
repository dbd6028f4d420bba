"""Drivers of public models on their real repositories, with random weights.

TORCH_PYTHON names an interpreter with torch, timm and, for NTSCC+, compressai; SWINJSCC_CHECKOUT,
WITT_CHECKOUT and NTSCC_PLUS_CHECKOUT name the clones. Without them the tests are skipped.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.schemes import public_models
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.foreign import READY, ForeignScheme
from pvsc_link.types import ChannelPoint, CodecFailure

LINK = LinkOptions("lmmse", csi_aware=True, decoder="layered", num_iter=20)
MODELS = {
    "swinjscc-plain": ("swinjscc", {"model": "plain", "size": "small"}, 96 * 128),
    "swinjscc-sa-ra": ("swinjscc", {"model": "sa-ra", "size": "small"}, 32 * 128),
    "witt": ("witt", {}, 96 * 128),
    "ntscc_plus": ("ntscc_plus", {}, None),  # as many as its entropy model asks for
}


def stated(name):
    value = os.environ.get(name)
    if not value:
        pytest.skip(f"{name} is not set")
    return value


@pytest.mark.slow
@pytest.mark.parametrize("case", MODELS)
def test_a_real_repository_sends_its_symbols_and_shows_a_picture(case, video):
    """A frame of 72x100 is padded to 128x128: 64 places of 96 or 32 channels, two per symbol."""
    name, options, num_values = MODELS[case]
    scheme = ForeignScheme(
        name,
        python=stated("TORCH_PYTHON"),
        checkout=stated(f"{name.upper()}_CHECKOUT"),
        model_options=options,
        max_cbr=2.0,  # random weights of NTSCC+ may ask for as many symbols as its rates allow
        timeout_s=3600.0,  # of a busy machine
    )
    scheme.check()
    assert scheme.status == "untrained"
    gops = scheme.encode(video, 1, 0)[:1]
    for point in (ChannelPoint("awgn", 10.0), ChannelPoint("rayleigh", 10.0, -20.0, 64)):
        (got,) = scheme.transmit(gops, point, LINK, 0, [1])
        assert got.frames_lost == 0
        source = got.num_channel_uses["source"]
        assert source == num_values // 4 if num_values else source > 64
        assert got.num_channel_uses["side"] > 0
        assert got.frames_hat.shape == (1, 72, 100, 3)
        assert np.ptp(got.frames_hat) > 0


@pytest.mark.slow
def test_the_ntscc_plus_driver_does_what_upstream_does_in_its_own_forward():
    """Equal symbols, and equal pictures of what upstream received over its own channel."""
    script = Path(__file__).parent / "ntscc_plus_upstream.py"
    driver = Path(public_models.__file__).parent / "ntscc_plus.py"
    done = subprocess.run(
        [stated("TORCH_PYTHON"), script, driver],
        cwd=stated("NTSCC_PLUS_CHECKOUT"),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    upstream, ours = found["uses"]
    assert ours - upstream in (0.0, 0.5), "an odd number of values is filled up"
    assert found["sent"] < 1e-5 * found["scale"]
    assert found["contrast"] > 1e-3, "the picture is not plain"
    assert found["shown"] < 1e-4 * found["contrast"]
    assert abs(found["snr_db"] - 7.0) < 0.5, "SNR per complex symbol of unit power, as here"


@pytest.mark.parametrize("name", READY)
def test_a_driver_without_a_checkout_says_what_is_missing(name):
    with pytest.raises(CodecFailure):
        ForeignScheme(name).check()
