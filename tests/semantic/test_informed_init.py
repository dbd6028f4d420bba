"""The informed start codes pictures, and P frames cheaper than I frames, without training."""

import numpy as np
import pytest
from keras import ops

from pvsc_link.semantic.informed_init import start_as_transform_codec
from pvsc_link.semantic.intra import IntraModel
from pvsc_link.semantic.model import PvscModel
from pvsc_link.semantic.presets import PRESETS, PvscConfig, intra_of
from pvsc_link.types import InputError

OMEGA = np.zeros((2,), np.int32)


def moving_clips():
    """Smooth random pictures that drift by a quarter pixel per frame: [2, 3, 64, 64, 3]."""
    rng = np.random.default_rng(4)
    spectrum = rng.standard_normal((2, 80, 80, 3)) + 1j * rng.standard_normal((2, 80, 80, 3))
    rows, columns = np.meshgrid(np.fft.fftfreq(80), np.fft.fftfreq(80), indexing="ij")
    spectrum /= (0.02 + np.hypot(rows, columns)[None, ..., None]) ** 2
    drift = np.exp(2j * np.pi * 0.25 * (rows + columns))[None, ..., None]
    frames = [np.fft.ifft2(spectrum * drift**t, axes=(1, 2)).real for t in range(3)]
    clips = np.stack(frames, axis=1)[:, :, :64, :64]
    return np.clip(0.5 + 0.12 * clips / clips.std(), 0, 1).astype(np.float32)


def psnr(frame, frame_hat):
    return -10 * np.log10(np.mean((ops.convert_to_numpy(frame_hat) - frame) ** 2))


def test_informed_start_codes_pictures_and_predicts_them_before_training():
    clips = moving_clips()
    intra, model = IntraModel(PRESETS["pvsc_tiny_intra"]), PvscModel(PRESETS["pvsc_tiny"])
    for each in (intra, model):
        start_as_transform_codec(each, clips, step=0.05)
    first = intra(clips[:, 0], OMEGA)
    second = model(clips[:, 1], model.start_buffers(first["frame_ideal"]), OMEGA)
    third = model(clips[:, 2], second["buffers"], OMEGA)
    for t, output in enumerate((first, second, third)):
        assert psnr(clips[:, t], output["frame_ideal"]) > 33
    bits = [float(np.sum(output["num_bits_y"])) for output in (first, second, third)]
    assert max(bits[1:]) < 0.8 * bits[0]


def test_a_config_that_cannot_be_linear_is_refused():
    config = PvscConfig("wide", channels_y=4, channels_feature=8, channels_pixel=12, embed_dim=8)
    with pytest.raises(InputError, match="linear"):
        start_as_transform_codec(IntraModel(intra_of(config)), moving_clips())
    with pytest.raises(InputError, match="clips"):
        start_as_transform_codec(PvscModel(PRESETS["pvsc_tiny"]), moving_clips()[:, :1])
