"""The ideal branch as a codec: bits as estimated, decoded from bytes alone, honest about damage."""

from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import ops

from pvsc_link.media.clips import load_clip
from pvsc_link.media.pixels import pad_to_multiple
from pvsc_link.models import zoo as pretrained
from pvsc_link.models.entropy.latent import MAX_SIGMA, SCALES, latent_parts, read_latent, table
from pvsc_link.models.entropy.quantisation import symbol_bits
from pvsc_link.models.entropy.range_coder import (
    TOTAL,
    MessageReader,
    SideInformationError,
    encode,
    information,
)
from pvsc_link.models.presets import PRESETS
from pvsc_link.models.pvsc.ideal_codec import IdealCodec
from pvsc_link.models.pvsc_mc.motion import penalty, search_motion
from pvsc_link.models.zoo import find_arithmetic, model_of, receiving
from pvsc_link.train.starts.informed import measure_statistics, start_informed
from pvsc_link.types import InputError

SIZE = (72, 100)
FINE = 50.0  # omega with a quantisation step of 0.02
#: Bytes of a GOP beside its messages: the header, and one or two for the length of each.
HEADER, LENGTH = 6, 2


def models_of(preset, frames, seed=0):
    """Transform codecs of the frames, every weight then moved a little: all depends on all."""
    keras.utils.set_random_seed(seed)
    pairs = np.stack([frames[:-1], frames[1:]], axis=1).astype(np.float32) / 255
    rng = np.random.default_rng(seed)
    for name in (f"{preset}_intra", preset):
        model = model_of(replace(PRESETS[name], zero_init_residual=True))
        config = model.config
        statistics = measure_statistics(pairs, config.channels_feature, config.channels_y)
        start_informed(model, statistics, [FINE] * config.num_omega)
        for weight in model.trainable_weights:
            value = ops.convert_to_numpy(weight)
            weight.assign(value + 0.01 * rng.standard_normal(value.shape).astype(np.float32))
        yield model


@pytest.fixture(scope="module")
def frames():
    """Three padded frames of edges and noise that move."""
    rng = np.random.default_rng(3)
    coarse = np.kron(rng.integers(0, 256, (12, 18, 3)), np.ones((8, 8, 1)))
    moved = [np.roll(coarse, 3 * t, axis=1)[:, :128] for t in range(3)]
    noisy = np.stack(moved) + rng.normal(0, 8, (3, 96, 128, 3))
    padded = np.pad(noisy, ((0, 0), (0, 32), (0, 0), (0, 0)), "edge")
    return np.clip(padded, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def sender(micro, frames):
    return tuple(models_of(micro, frames))


@pytest.fixture(scope="module")
def receiver(micro, frames):
    """Models of their own with the sender's weights: nothing is shared but the bytes."""
    return IdealCodec(*models_of(micro, frames))


@pytest.fixture(scope="module")
def coded(sender, frames):
    return IdealCodec(*sender).encode(frames, 1, SIZE)


def test_a_fresh_decoder_holds_exactly_the_encoders_frames_from_bytes_alone(receiver, coded):
    decoded = np.stack(list(receiver.decode(bytes(coded.payload))))
    np.testing.assert_array_equal(decoded, coded.frames_hat)
    assert decoded.shape == (3, *SIZE, 3)
    assert not np.array_equal(decoded[0], decoded[1])


def test_frames_cost_what_training_estimates(coded):
    assert sum(coded.frame_num_bytes) == len(coded.payload)
    bits = 8.0 * np.array(coded.frame_num_bytes) - 8 * LENGTH
    bits[0] -= 8 * HEADER
    estimate = np.array(coded.estimated_bits)
    assert estimate.min() > 1000
    assert (bits < 1.01 * estimate + 9).all()


def test_the_ideal_branch_of_training_gives_the_same_pictures(sender, frames, coded):
    """One frame on: what training sees as frame_ideal is what the codec shows."""
    intra, model = sender
    pixels = ops.convert_to_tensor(frames[:2, None].astype(np.float32) / 255)
    omega = np.array([1], np.int32)
    first = intra(pixels[0], omega)["frame_ideal"]
    buffers = model.start_buffers(first)
    slope = penalty(model.config, 1)
    motion = search_motion(buffers["feature_tx"].numpy(), pixels[1].numpy(), slope)
    second = model(pixels[1], buffers, omega, motion=motion)
    for shown, frame in zip((first, second["frame_ideal"]), coded.frames_hat, strict=False):
        unit = np.clip(ops.convert_to_numpy(shown)[0, : SIZE[0], : SIZE[1]], 0, 1)
        assert np.abs(255 * unit - frame).max() < 0.51
    bits = float(ops.sum(second["num_bits_y"])) + float(second["num_bits_z"][0])
    bits += information(model.motion_prior.parts(motion[0]))
    assert bits == pytest.approx(coded.estimated_bits[1], rel=1e-5)


def test_a_damaged_stream_is_refused_or_decoded_but_never_a_crash(receiver, coded):
    rng = np.random.default_rng(0)
    refused = 0
    for trial in range(10):
        damaged = bytearray(coded.payload)
        for place in rng.integers(0, len(damaged), 1 + trial % 3):
            damaged[place] ^= 1 << rng.integers(8)
        if trial % 4 == 0:
            damaged = damaged[: rng.integers(len(damaged))]
        try:
            list(receiver.decode(bytes(damaged)))
        except SideInformationError:
            refused += 1
    assert refused >= 8


@pytest.mark.parametrize("payload", [b"", b"\0" * 5, b"\xff" * 40, b"\x10\0\0\x40\0\x40"])
def test_what_is_no_stream_is_refused(receiver, payload):
    with pytest.raises(SideInformationError):
        list(receiver.decode(payload))


def test_bytes_behind_the_last_frame_are_refused(receiver, coded):
    with pytest.raises(SideInformationError, match="behind"):
        list(receiver.decode(coded.payload + b"\0"))


def test_other_weights_cannot_read_the_stream(micro, frames, coded):
    with pytest.raises(SideInformationError):
        list(IdealCodec(*models_of(micro, frames, seed=1)).decode(coded.payload))


@pytest.fixture(scope="module")
def rounded(sender):
    return receiving(sender, find_arithmetic("bfloat16"))


def test_a_receiver_in_bfloat16_loses_the_entropy_decoder(rounded, coded):
    with pytest.raises(SideInformationError):
        list(IdealCodec(*rounded).decode(coded.payload))


def test_models_at_another_precision_have_equal_weights(sender, rounded):
    for own, copy in zip(sender, rounded, strict=True):
        assert copy.compute_dtype == "bfloat16"
        for a, b in zip(own.get_weights(), copy.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
    assert receiving(sender, find_arithmetic("same")) is sender


def test_an_unknown_arithmetic_is_refused():
    with pytest.raises(InputError, match="bfloat16"):
        find_arithmetic("float12")


def test_a_gop_that_the_header_cannot_hold_is_refused(receiver):
    with pytest.raises(InputError, match="256 frames"):
        receiver.encode(np.zeros((256, 64, 64, 3), np.uint8), 0, (64, 64))


@pytest.mark.parametrize("sigma", [0.11, 0.2, 0.5, 1.7, 9.0, 100.0])
def test_quantised_scales_cost_less_than_half_a_percent(sigma):
    rng = np.random.default_rng(0)
    spread = sigma * np.exp(rng.uniform(0, 0.2, 60_000)).astype(np.float32)
    values = np.rint(rng.normal(0, spread)).astype(int)
    message = encode(latent_parts(values, spread))
    estimate = float(np.sum(symbol_bits(values.astype(np.float32), spread)))
    # One count of 65536 is the least a table can spare: it costs certain symbols a little.
    assert 0.98 * estimate < 8 * len(message) < 1.005 * estimate + 7e-5 * spread.size + 9


def test_values_far_outside_are_escaped_and_come_back():
    sigma = np.array([0.11, 0.3, 5.0, np.nan, np.inf, 1e9, 0.0], np.float32)
    for value in (0, 1, 2, 3, 600, 30_000, 32_767):
        values = np.array([value, -value, value, -value, value, -value, value])
        reader = MessageReader(encode(latent_parts(values, sigma)))
        np.testing.assert_array_equal(read_latent(reader, sigma), values)
        reader.finish()


def test_a_latent_that_has_run_away_is_refused():
    with pytest.raises(InputError, match="run away"):
        latent_parts(np.array([40_000]), np.ones(1))


def test_every_table_is_whole_and_reaches_to_its_tail():
    for index, sigma in enumerate(SCALES):
        reach, counts = table(index)
        assert counts.sum() == TOTAL
        assert counts.min() >= 1
        assert len(counts) == 2 * reach + 2
        assert 1 <= reach <= 5 * MAX_SIGMA
        assert reach + 0.5 > 4 * sigma


@pytest.mark.parametrize("clip", [pytest.param("bikes", marks=pytest.mark.slow), "carphone"])
def test_shipped_weights_code_real_clips_within_one_percent_of_the_estimate_and_exactly(clip):
    """Container included; at the coarsest preset its bytes alone are more than that."""
    files = pretrained.find_weights("pvsc_mc_small", training="lvc_perceptual")
    codec = IdealCodec(*pretrained.load_models("pvsc_mc_small", files))
    frames = load_clip(clip, num_frames=2).frames
    padded = pad_to_multiple(frames, codec.padding_multiple)
    for preset in (1, 2, 4):
        coded = codec.encode(padded, preset, frames.shape[1:3])
        assert 8 * len(coded.payload) <= 1.01 * sum(coded.estimated_bits)
    shown = list(codec.decode(coded.payload))
    np.testing.assert_array_equal(shown, coded.frames_hat)
