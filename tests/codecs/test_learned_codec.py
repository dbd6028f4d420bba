"""lvc: a codec like any other, untrained where it has no weights, and its receiver's arithmetic."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.codecs.cache import cached_encode
from pvsc_link.codecs.lvc import TRAININGS, LearnedCodec
from pvsc_link.models import PRESETS, intra_of
from pvsc_link.models import zoo as pretrained
from pvsc_link.models.zoo import UNTRAINED, save_weights
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic import SemanticScheme
from pvsc_link.schemes.separated import SeparatedScheme
from pvsc_link.types import ChannelPoint, CodecFailure, InputError, Video

SMALLEST = {
    **{"name": "smallest", "channels_y": 8, "channels_z": 4, "channels_feature": 12},
    **{"channels_pixel": 12, "channels_prior": 24, "depth_context": (1, 1), "embed_dim": 8},
    **{"num_heads": 2, "num_vit": 1, "rate_set": (0, 2, 4, 8), "num_omega": 2},
}
FINE = ChannelPoint("awgn", 30.0)
LINK = LinkOptions("lmmse", True, "layered", 20)


@pytest.fixture(scope="module")
def video():
    """Two GOPs of two frames, neither side a multiple of 64."""
    rng = np.random.default_rng(3)
    coarse = np.kron(rng.integers(0, 256, (4, 10, 13, 3)), np.ones((1, 8, 8, 1)))
    return Video("noise", coarse[:, :72, :100].astype(np.uint8), 30.0, "made here")


@pytest.fixture(scope="module")
def folder(micro, tmp_path_factory):
    """Weights as a training run leaves them, away from their start."""
    place = tmp_path_factory.mktemp("weights")
    rng = np.random.default_rng(0)
    pretrained.load_models.cache_clear()
    models = pretrained.load_models(micro, pretrained.find_weights(micro))
    for kind, model in zip(("intra", "inter"), models, strict=True):
        for weight in model.trainable_weights:
            spread = 0.1 / np.sqrt(max(np.prod(weight.shape[:-1]), 1))
            weight.assign_add(spread * rng.standard_normal(weight.shape).astype(np.float32))
        save_weights(model, place / f"{kind}.weights.h5")
    pretrained.load_models.cache_clear()
    return str(place)


@pytest.fixture(scope="module")
def codec(micro, folder):
    return LearnedCodec(preset=micro, weights=folder)


@pytest.fixture(scope="module")
def gop(codec, video):
    return codec.encode(video.frames[:2], video.fps, 1)


@pytest.fixture(scope="module")
def mismatched(micro, folder):
    return LearnedCodec(preset=micro, weights=folder, receiver_arithmetic="bfloat16")


def test_the_bytes_alone_hold_the_frames(codec, gop, video):
    assert sum(gop.frame_num_bytes) == len(gop.payload)
    np.testing.assert_array_equal(codec.decode(gop.payload), gop.frames_hat)
    assert gop.frames_hat.shape == video.frames[:2].shape
    assert gop.num_decodable is None


def test_a_corrupt_stream_is_a_codec_failure(codec, gop):
    for damaged in (b"", gop.payload[:-1], gop.payload[:9] + b"\xa5" * 30 + gop.payload[39:]):
        with pytest.raises(CodecFailure, match="codec_error"):
            codec.decode(damaged)


def test_without_weights_the_rows_are_untrained_and_still_there(micro, video):
    scheme = SeparatedScheme(LearnedCodec(preset=micro))
    assert scheme.weights_id == UNTRAINED
    received = scheme.transmit([scheme.encode_gop(video, 0, 2, 0)], FINE, LINK, 12, seeds=[1])
    assert [reception.status for reception in received] == [UNTRAINED]
    assert received[0].num_channel_uses["source"] > 0


def test_with_weights_the_rows_are_ok_and_named_by_them(codec, mismatched, micro, folder):
    name = f"lvc-l1, {micro}, weights {Path(folder).name}"
    assert codec.variant == name
    assert mismatched.variant == f"{name}, receiver bfloat16"
    scheme = SeparatedScheme(codec)
    assert scheme.status == "ok"
    assert scheme.weights_id == codec.weights_id != UNTRAINED
    assert codec.weights_id in codec.version


def test_each_variant_looks_for_its_own_file_in_the_package(micro, folder, monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path)
    source = pretrained.find_weights(micro, folder)
    for kind, path in (("_intra", source.intra), ("", source.inter)):
        name = f"{micro}_lvc_perceptual{kind}.weights.h5"
        (tmp_path / name).write_bytes(path.read_bytes())
    states = {v: LearnedCodec(variant=v, preset=micro).status for v in TRAININGS}
    assert states == {
        "lvc-l1": UNTRAINED,
        "lvc-perceptual": "ok",
        "pvsc-digital": UNTRAINED,
    }
    assert pretrained.find_weights(micro).identity == UNTRAINED


@pytest.fixture(scope="module")
def of_paper(tmp_path_factory):
    """Weights of a small model of the paper's family, as a run leaves them, and their folder."""
    config = replace(PRESETS["pvsc_tiny"], **SMALLEST)
    place = tmp_path_factory.mktemp("paper")
    for kind, one in (("intra", intra_of(config)), ("inter", config)):
        pretrained.save_with_config(pretrained.model_of(one), place / f"{kind}.weights.h5")
    return place


def test_digital_symbols_are_those_of_the_weights_of_pvsc(of_paper, video):
    codec = LearnedCodec(variant="pvsc-digital", preset="pvsc_small", weights=str(of_paper))
    assert codec.variant == f"pvsc-digital, pvsc_small, weights {of_paper.name}"
    analog = SemanticScheme("pvsc_small", weights=str(of_paper))
    assert codec.weights_id == analog.weights_id
    assert codec.default_rates == analog.default_rates == (0, 1)
    coded = codec.encode(video.frames[:2], video.fps, 1)
    np.testing.assert_array_equal(codec.decode(coded.payload), coded.frames_hat)
    assert min(coded.frame_num_bytes) > 0


def test_the_preset_of_the_paper_comes_first_where_it_has_weights(of_paper, monkeypatch, tmp_path):
    assert LearnedCodec(weights=str(of_paper)).variant.startswith("lvc-l1, pvsc_small, weights")
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path)
    assert LearnedCodec(variant="lvc-perceptual").variant == "lvc-perceptual", "pvsc_mc_small"
    assert LearnedCodec(variant="pvsc-digital").variant == "pvsc-digital, pvsc_mc_small"
    for kind, end in (("intra", "_intra"), ("inter", "")):
        for suffix in (".weights.h5", ".json"):
            target = tmp_path / f"pvsc_small_lvc_perceptual{end}{suffix}"
            target.write_bytes((of_paper / f"{kind}{suffix}").read_bytes())
    found = LearnedCodec(variant="lvc-perceptual")
    assert (found.variant, found.status) == ("lvc-perceptual, pvsc_small", "ok")
    assert LearnedCodec(variant="lvc-l1").variant == "lvc-l1"
    chosen = LearnedCodec(variant="lvc-perceptual", preset="pvsc_mc_small")
    assert chosen.variant == "lvc-perceptual"


def test_rates_are_the_quality_presets(codec, video):
    assert codec.allowed_rates == (0, 1, 2)
    with pytest.raises(InputError, match="rate of lvc"):
        codec.encode(video.frames[:1], video.fps, 3)


@pytest.mark.parametrize(
    "wrong", [{"variant": "lvc-l2"}, {"preset": "pvsc_huge"}, {"receiver_arithmetic": "float12"}]
)
def test_unknown_options_are_refused(wrong):
    with pytest.raises(InputError):
        LearnedCodec(**wrong)


def test_a_receiver_in_other_arithmetic_loses_step_and_says_so(mismatched, gop, video):
    received = mismatched.encode(video.frames[:2], video.fps, 1)
    assert received.payload == gop.payload
    assert received.num_decodable < 2
    assert "out of step" in received.note
    assert mismatched.variant != LearnedCodec.name


def test_what_the_receiver_cannot_follow_is_lost_and_concealed(mismatched, video):
    scheme = SeparatedScheme(mismatched)
    gops = scheme.encode(video, 2, 1)
    first, second = scheme.transmit(gops, FINE, LINK, 12, seeds=(1, 2))
    assert first.num_block_errors == second.num_block_errors == 0
    assert first.details["out_of_step"] == 2 - gops[0].num_decodable
    assert first.frames_lost == first.details["out_of_step"]
    if gops[0].num_decodable == 0:
        assert (first.frames_hat == 128).all()
    np.testing.assert_array_equal(second.frames_hat[-1], second.frames_hat[gops[1].num_decodable])


def test_how_far_a_receiver_follows_survives_the_encode_cache(mismatched, video, tmp_path):
    frames = video.frames[:2]
    first, again = (cached_encode(mismatched, frames, 30.0, 1, folder=tmp_path) for _ in range(2))
    assert again.num_decodable == first.num_decodable is not None
    plain = replace(first, num_decodable=None)
    assert plain.num_bits == again.num_bits
