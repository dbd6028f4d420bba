"""DVST over the link: PVSC's graph with other models, one of P frames for every rate."""

import numpy as np
import pytest

from pvsc_link.media.pixels import pad_to_multiple
from pvsc_link.models.stream import Transmitter
from pvsc_link.models.zoo import UNTRAINED, find_dvst_weights, load_dvst_models, save_weights
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic import DvstScheme
from pvsc_link.types import ChannelPoint, InputError

LINK = LinkOptions("zf", False, "layered", 20)
MCS = 0


@pytest.fixture(scope="module")
def models(micro_dvst, move):
    pair = load_dvst_models(micro_dvst, find_dvst_weights(micro_dvst)[0])
    for seed, model in enumerate(pair):
        move(model, seed)
    yield pair
    load_dvst_models.cache_clear()


@pytest.fixture(scope="module")
def dvst(micro_dvst, models):
    return DvstScheme(micro_dvst)


@pytest.fixture(scope="module")
def gops(dvst, video):
    return {rate: dvst.encode(video, 2, rate) for rate in dvst.allowed_rates}


def test_a_clean_channel_shows_what_the_transmitter_holds(dvst, models, video, gops):
    padded = pad_to_multiple(video.frames, 64)
    end = Transmitter(*models, height=padded.shape[1], width=padded.shape[2], omega_index=1)
    shown = dvst.transmit(gops[1], ChannelPoint("awgn", 60.0), LINK, MCS, [1, 2])
    found = np.concatenate([reception.frames_hat for reception in shown])
    assert found.shape == video.frames.shape
    assert found.std() > 5, "a flat picture would prove nothing"
    for position, frame in enumerate(padded):
        end.encode(frame, intra=position % 2 == 0)
        held = np.rint(255 * end.frame_hat()[:72, :100])
        assert np.mean(np.abs(found[position] - held)) < 0.5


def test_noise_shows_in_the_frames(dvst, gops):
    shown = [
        dvst.transmit(gops[0], ChannelPoint("awgn", snr_db), LINK, 2, [1, 2])[0].frames_hat[1]
        for snr_db in (60.0, 5.0)
    ]
    assert np.mean(np.abs(np.subtract(*shown, dtype=float))) > 1


def test_channel_uses_are_counted_by_part_as_pvsc_counts_them(dvst, gops):
    (reception, _) = dvst.transmit(
        gops[0], ChannelPoint("rayleigh", 9.0, -20.0, 1), LINK, 2, [1, 2]
    )
    sent = [frame.symbols.size for frame in gops[0][0].frames]
    finer, uses = reception.finer_channel_uses, reception.num_channel_uses
    assert (finer["intra"], finer["y"]) == tuple(sent)
    assert uses["source"] == sum(sent)
    assert finer["z"] + finer["k"] == uses["side"]
    assert reception.status == dvst.status == UNTRAINED


def test_rates_without_weights_are_one_model_traced_once(dvst, gops):
    for rate in gops:
        dvst.transmit(gops[rate], ChannelPoint("awgn", 10.0), LINK, MCS, [1, 2])
    assert dvst.allowed_rates == (0, 1, 2)
    assert len({id(dvst.engine(rate)) for rate in dvst.allowed_rates}) == 1
    assert dvst.engine(0).trace_count == {"intra": 1, "predicted": 1}


def test_a_receiver_that_is_made_before_its_rows_shows_the_same(dvst, gops):
    point, made = ChannelPoint("awgn", 10.0), DvstScheme(dvst.preset)
    for rate in gops:
        made.warm_up(gops[rate][0])
    assert made.engine(0).trace_count == {"intra": 1, "predicted": 1}
    receptions, others = (s.transmit(gops[0], point, LINK, MCS, [1, 2]) for s in (made, dvst))
    for reception, other in zip(receptions, others, strict=True):
        np.testing.assert_array_equal(reception.frames_hat, other.frames_hat)
    assert made.engine(0).trace_count == {"intra": 1, "predicted": 1}


@pytest.fixture
def folder(models, tmp_path):
    """Weights of the I frames and of rates 0 and 2, which differ."""
    intra, model = models
    save_weights(intra, tmp_path / "intra.weights.h5")
    first = model.trainable_weights[0]
    for rate in (0, 2):
        save_weights(model, tmp_path / f"inter_rate{rate}.weights.h5")
        first.assign_add(np.full(first.shape, 0.5, np.float32))
    first.assign_sub(np.full(first.shape, 1.0, np.float32))
    return tmp_path


def test_every_rate_with_weights_is_a_model_of_its_own(micro_dvst, folder):
    scheme = DvstScheme(micro_dvst, weights=str(folder))
    assert scheme.allowed_rates == (0, 2)
    assert scheme.status == "ok"
    loaded = [scheme.engine(rate).steps.models[False] for rate in (0, 2)]
    weights = [model.trainable_weights[0] for model in loaded]
    np.testing.assert_allclose(weights[0] + 0.5, weights[1], atol=1e-6)
    before = scheme.weights_id
    (folder / "inter_rate2.weights.h5").unlink()
    assert DvstScheme(micro_dvst, weights=str(folder)).weights_id not in (before, UNTRAINED)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "pvsc_tiny"}, "dvst_tiny"),
        ({"side_format": "gif"}, "png"),
        ({"weights": "no/such/folder"}, "inter_rate0"),
    ],
)
def test_bad_options_are_refused_with_what_is_allowed(options, said):
    with pytest.raises(InputError, match=said):
        DvstScheme(**options)


def test_models_of_one_rate_have_no_finer_preset_to_refresh_with(micro_dvst):
    with pytest.raises(TypeError, match="refresh_every"):
        DvstScheme(micro_dvst, refresh_every=4)
