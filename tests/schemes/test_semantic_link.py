"""PVSC over the link: one graph equal to link and receiver apart, paired draws, honest counts."""

import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.channel import ChannelFunction, make_channel
from pvsc_link.link.coded_link import BitReception, CodedLink, get_coded_link
from pvsc_link.link.transport_options import DEFAULT_TRANSPORT, Transport
from pvsc_link.media.pixels import pad_to_multiple
from pvsc_link.models.layers import rate_adaptive
from pvsc_link.models.pvsc_mc.config import REFRESH_PRESETS
from pvsc_link.models.stream import Receiver, Transmitter
from pvsc_link.models.zoo import model_of
from pvsc_link.schemes import analog, side_stream
from pvsc_link.schemes.analog import side_link_options
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.semantic import PvscMcScheme
from pvsc_link.train.weights import load_by_path, weights_by_path
from pvsc_link.types import ChannelPoint, InputError

LINK = LinkOptions("zf", False, "layered", 20)
RAYLEIGH = ChannelPoint("rayleigh", 6.0, -10.0, 3)
MCS = 0


@pytest.fixture(scope="module")
def gops(scheme, video):
    """Two GOPs of two frames by quality preset."""
    made = {rate: scheme.encode(video, 2, rate) for rate in scheme.allowed_rates}
    assert {len(of_rate) for of_rate in made.values()} == {2}
    assert {len(gop.frames) for of_rate in made.values() for gop in of_rate} == {2}
    return made


def models_of(scheme):
    return scheme.engine(0).steps.models.values()


def session(video, rate):
    height, width = pad_to_multiple(video.frames, 64).shape[1:3]
    return {"height": height, "width": width, "omega_index": rate}


def apart(models, video, gops, rate, point, link, seeds, **options):
    """The same transmission by the channel object itself and the streaming receiver."""
    receiver = Receiver(*models, **session(video, rate), **options)
    channel = make_channel(point, equalizer=link.equalizer, csi_aware=link.csi_aware)
    height, width = video.frames.shape[1:3]
    side_link = get_coded_link(MCS, point.channel)
    for gop, seed in zip(gops, seeds, strict=True):
        (outgoing,) = gop.transports(DEFAULT_TRANSPORT)
        received = channel(
            tf.constant(outgoing.symbols[None]),
            snr_db=point.snr_db,
            seed=seed,
            first_symbol=side_link.num_channel_uses(outgoing.side_bits.size),
        )
        ends = np.cumsum([frame.symbols.size for frame in gop.frames])[:-1]
        parts = (np.split(v.numpy()[0], ends) for v in (received.x_hat, received.no_eff))
        for place, (frame, symbols_hat, no_eff) in enumerate(zip(gop.frames, *parts, strict=True)):
            decoded = receiver.decode(symbols_hat, frame.side_bits, intra=place == 0, no_eff=no_eff)
            yield decoded.frame_uint8[:height, :width]


@pytest.mark.parametrize(
    ("point", "link"),
    [
        (RAYLEIGH, LINK),
        (ChannelPoint("rayleigh", 6.0, -10.0, 1), LinkOptions("lmmse", True, "layered", 20)),
        (ChannelPoint("awgn", 3.0), LINK),
    ],
)
def test_the_scheme_equals_channel_and_streaming_receiver(scheme, video, gops, point, link):
    shown = scheme.transmit(gops[1], point, link, MCS, [11, 12])
    expected = np.stack(list(apart(models_of(scheme), video, gops[1], 1, point, link, [11, 12])))
    found = np.concatenate([reception.frames_hat for reception in shown])
    assert expected.std() > 5, "a flat picture would prove nothing"
    difference = np.abs(found.astype(int) - expected)
    assert difference.max() <= 1, "only a rounding to 8 bits may fall to the other side"
    assert difference.mean() < 0.01


def test_a_receiver_with_noise_input_is_told_the_variances_of_its_symbols(
    micro, scheme, video, gops, monkeypatch
):
    models, rng = [], np.random.default_rng(0)
    for plain in models_of(scheme):
        told = model_of(dataclasses.replace(plain.config, noise_input=True))
        rates = plain.config.rate_set
        load_by_path(told, weights_by_path(plain), rates, rates)
        layer = told.feature_decoder.noise_input
        layer.set_weights([rng.standard_normal(w.shape) for w in layer.get_weights()])
        models.append(told)
    monkeypatch.setattr("pvsc_link.models.load_models", lambda *_: tuple(models))
    gop, told = gops[1][:1], PvscMcScheme(micro)
    (reception,) = told.transmit(gop, RAYLEIGH, LINK, MCS, [11])
    expected = np.stack(list(apart(models, video, gop, 1, RAYLEIGH, LINK, [11])))
    assert np.abs(reception.frames_hat.astype(int) - expected).max() <= 1
    plain = np.stack(list(apart(models_of(scheme), video, gop, 1, RAYLEIGH, LINK, [11])))
    assert np.abs(plain.astype(int) - expected).max() > 10


def test_a_refreshed_frame_is_shown_as_the_streaming_receiver_shows_it(
    micro, scheme, video, same_models
):
    """Frame 2 of a GOP of 4 is finer than the GOP, and the graph decodes it by its own preset."""
    refreshing = PvscMcScheme(micro, refresh_every=2)
    refreshing._engines.update(scheme._engines)
    (gop,) = refreshing.encode(video, 4, 0)
    end = Transmitter(*models_of(scheme), **session(video, 0), refresh_every=2)
    presets = [end.read_side(frame.side_bits, t).preset for t, frame in enumerate(gop.frames)]
    assert presets == [0, 0, REFRESH_PRESETS, 0]
    sent = [gop], RAYLEIGH, LINK
    (reception,) = refreshing.transmit(*sent, MCS, [11])
    apart_from_it = apart(models_of(scheme), video, [gop], 0, *sent[1:], [11], refresh_every=2)
    expected = np.stack(list(apart_from_it))
    difference = np.abs(reception.frames_hat.astype(int) - expected)
    assert difference.max() <= 1, "only a rounding to 8 bits may fall to the other side"
    assert difference.mean() < 0.01


def test_the_ideal_branch_is_what_remains_as_snr_grows(scheme, video, gops):
    ideal = []
    end = Transmitter(*models_of(scheme), **session(video, 2))
    padded = pad_to_multiple(video.frames, 64)
    for position, frame in enumerate(padded):
        end.encode(frame, intra=position % 2 == 0)
        ideal.append(np.rint(255 * end.frame_hat()[:72, :100]))
    errors = []
    for snr_db in (0.0, 10.0, 20.0, 30.0, 80.0):
        point = ChannelPoint("rayleigh", snr_db, None, 1)
        shown = scheme.transmit(gops[2], point, LINK, MCS, [1, 2])
        frames = np.concatenate([reception.frames_hat for reception in shown])
        errors.append(np.mean(np.abs(frames - np.stack(ideal))))
    # The side stream may fail at 0 dB; concealment is then a larger error still.
    assert errors == sorted(errors, reverse=True)
    assert errors[0] > 1
    assert errors[-1] < 0.05


def test_24_channel_points_and_all_rates_are_one_trace_per_frame_kind(scheme, gops):
    before = scheme.engine(0).trace_count
    scheme.transmit(gops[0], RAYLEIGH, LINK, MCS, [1, 2])
    assert before["intra"] <= 1
    points = [
        ChannelPoint("rayleigh", snr, nmse, coherence)
        for snr, nmse, coherence in itertools.product([0.0, 6.0, 12.0], [None, -10.0], [1, 2, 96])
    ] + [ChannelPoint("awgn", float(snr)) for snr in range(6)]
    shown = []
    for seed, (point, rate) in enumerate(zip(points, itertools.cycle(gops), strict=False)):
        link = dataclasses.replace(LINK, csi_aware=bool(seed % 2))
        received = scheme.transmit(gops[rate], point, link, MCS, [seed, seed + 100])
        shown.append(received[0].frames_hat.tobytes())
    assert len(points) == len(set(shown)) == 24
    assert scheme.engine(0).trace_count == {"intra": 1, "predicted": 1}


def test_channel_uses_are_symbols_and_coded_side_bits_by_part(scheme, gops):
    (reception, _) = scheme.transmit(gops[1], RAYLEIGH, LINK, 5, [1, 2])
    gop = gops[1][0]
    uses, finer = reception.num_channel_uses, reception.finer_channel_uses
    assert uses["source"] == sum(frame.symbols.size for frame in gop.frames)
    assert finer["intra"] == gop.frames[0].symbols.size
    assert finer["y"] + finer["intra"] == uses["source"]
    assert finer["z"] + finer["k"] == uses["side"]
    link = get_coded_link(5, "rayleigh", **dataclasses.asdict(side_link_options(LINK)))
    num_bits = 8 * len(side_stream.write(1, gop.frames))
    assert uses["side"] == link.num_channel_uses(num_bits)
    assert reception.num_blocks == link.num_blocks(num_bits)


def test_session_facts_are_counted_where_the_scenario_says_so(scheme, gops):
    counted = dataclasses.replace(LINK, transport=Transport(count_headers=True))
    free, paid = (scheme.transmit(gops[1], RAYLEIGH, one, 5, [1, 2])[0] for one in (LINK, counted))
    assert len(gops[1][0].session_facts) == side_stream.NUM_FACT_BYTES == 16
    assert free.header_uses == paid.header_uses > 0
    more = paid.num_channel_uses["side"] - free.num_channel_uses["side"]
    assert more == paid.header_uses
    assert free.num_channel_uses["source"] == paid.num_channel_uses["source"]


@pytest.fixture
def streams(monkeypatch):
    """Every stream that a scheme sends: (first channel use, channel uses, seed)."""
    sent, send_bits, send_symbols = [], CodedLink.send, ChannelFunction.__call__

    def spy_on_bits(link, bits, point, seed, first_symbol=0, *more):
        sent.append((first_symbol, link.num_channel_uses(len(bits)), seed))
        return send_bits(link, bits, point, seed, first_symbol, *more)

    def spy_on_symbols(channel, symbols, point, seed, first_symbol=0, *more):
        sent.append((first_symbol, len(symbols), seed))
        return send_symbols(channel, symbols, point, seed, first_symbol, *more)

    monkeypatch.setattr(CodedLink, "send", spy_on_bits)
    monkeypatch.setattr(ChannelFunction, "__call__", spy_on_symbols)
    return sent


@pytest.mark.parametrize(("unit", "per_gop"), [("gop", 2), ("frame", 4)])
def test_side_stream_and_symbols_follow_each_other_in_one_process(
    scheme, gops, streams, unit, per_gop
):
    link = dataclasses.replace(LINK, transport=Transport(transport_unit=unit))
    first, second = scheme.transmit(gops[0], RAYLEIGH, link, MCS, [7, 8])
    assert len(streams) == 2 * per_gop
    for gop, seed, reception in ((streams[:per_gop], 7, first), (streams[per_gop:], 8, second)):
        places = np.cumsum([0, *(length for _, length, _ in gop)])
        assert [place for place, *_ in gop] == places[:-1].tolist()
        assert {one for *_, one in gop} == {seed}
        assert places[-1] == sum(reception.num_channel_uses.values())
    assert first.frames_lost == second.frames_lost == 0


def test_frames_as_transports_show_what_a_gop_as_transport_shows(scheme, gops):
    clear = ChannelPoint("awgn", 60.0)
    shown = []
    for unit in ("gop", "frame"):
        link = dataclasses.replace(LINK, transport=Transport(transport_unit=unit))
        shown.append(scheme.transmit(gops[1][:1], clear, link, MCS, [1])[0].frames_hat.astype(int))
    assert np.abs(shown[0] - shown[1]).mean() < 0.1
    assert shown[0].std() > 5


class LossySide:
    """A bit link of one message per block that loses the blocks it is told to."""

    transport = DEFAULT_TRANSPORT

    def __init__(self, gop, lost, found=None):
        self.bits, self.found = gop.transports(DEFAULT_TRANSPORT)[0].side_bits, found
        messages = [8 * len(frame.side_bits[part]) for frame in gop.frames for part in "zk"]
        sizes = [len(self.bits) - sum(messages), *messages]
        self.sizes, self.ok = np.array(sizes), ~np.isin(np.arange(len(sizes)), list(lost))

    def num_channel_uses(self, num_bits):
        return num_bits

    def send(self, bits, *place, **options):
        np.testing.assert_array_equal(bits, self.bits)
        # Nothing of a block that failed may be used: its bits are turned.
        bits_hat = np.where(np.repeat(self.ok, self.sizes), bits, 1 - bits)
        bits_hat = bits_hat if self.found is None else self.found
        rounds = np.ones(len(self.sizes), np.int64)
        bits_hat = bits_hat.astype(np.uint8)
        return BitReception(bits_hat, self.ok, self.sizes, rounds, len(bits))


class LossySides(LossySide):
    """One for several GOPs, which are told apart by their bits."""

    def __init__(self, *sides):
        self.sides = sides

    def send(self, bits, *place, **options):
        (side,) = (side for side in self.sides if np.array_equal(side.bits, bits))
        return side.send(bits)


# Blocks: header, z and k of the I frame, z and k of the P frame.
@pytest.mark.parametrize(
    ("lost", "side_lost", "concealed"),
    [({4}, 1, [1]), ({3}, 1, [1]), ({0}, 2, [0, 1]), ({1}, 1, [0, 1]), (set(), 0, [])],
)
def test_lost_side_information_repeats_the_last_frame(
    scheme, gops, monkeypatch, lost, side_lost, concealed
):
    gop = gops[0][0]
    monkeypatch.setattr(analog, "open_link", lambda *_, **__: LossySide(gop, set()))
    clean = scheme.transmit([gop], RAYLEIGH, LINK, MCS, [3])[0]
    monkeypatch.setattr(analog, "open_link", lambda *_, **__: LossySide(gop, lost))
    reception = scheme.transmit([gop], RAYLEIGH, LINK, MCS, [3])[0]
    assert reception.details == {"side_lost": side_lost}
    assert reception.frames_lost == len(concealed)
    assert reception.frames_concealed == (2 - concealed[0] if concealed else 0)
    assert reception.freeze_events == bool(concealed)
    assert reception.num_block_errors == len(lost)
    grey = np.full_like(clean.frames_hat[0], 128)
    expected = list(clean.frames_hat)
    for index in concealed:
        expected[index] = expected[index - 1] if index else grey
    np.testing.assert_array_equal(reception.frames_hat, np.stack(expected))


def test_frames_behind_a_lost_one_are_concealed_though_they_are_decoded(
    micro, scheme, video, same_models, monkeypatch
):
    """In the second GOP the I frame is lost; P frames go on from the buffers of the first."""
    gops = scheme.encode(video, 2, 0)
    sides = LossySides(LossySide(gops[0], {3}), LossySide(gops[1], {1}))
    monkeypatch.setattr(analog, "open_link", lambda *_, **__: sides)
    first, second = scheme.transmit(gops, RAYLEIGH, LINK, MCS, [3, 4])
    assert (first.frames_lost, first.frames_concealed, first.freeze_events) == (1, 1, 1)
    # The run of repeated frames goes on into the second GOP, where it is not counted again.
    assert (second.frames_lost, second.frames_concealed, second.freeze_events) == (1, 2, 0)
    assert np.any(second.frames_hat[1] != second.frames_hat[0])


def test_the_next_gop_recovers_from_a_lost_one(scheme, gops, monkeypatch):
    shown = []
    for lost in (set(), {0}):
        sides = LossySides(LossySide(gops[0][0], lost), LossySide(gops[0][1], set()))
        monkeypatch.setattr(analog, "open_link", lambda *_, sides=sides, **__: sides)
        shown.append(scheme.transmit(gops[0], RAYLEIGH, LINK, MCS, [3, 4]))
    clean, damaged = shown
    assert damaged[0].frames_lost == 2
    np.testing.assert_array_equal(damaged[1].frames_hat, clean[1].frames_hat)


@pytest.mark.parametrize("seed", range(6))
def test_wrong_bits_behind_a_crc_that_passes_do_no_harm(scheme, gops, monkeypatch, seed):
    """All blocks are said to be right, and hold anything: frames are shown, nothing is raised."""
    gop, rng = gops[0][0], np.random.default_rng(seed)
    link = LossySide(gop, set())
    found = rng.integers(0, 2, len(link.bits)) if seed < 2 else link.bits.copy()
    if seed >= 2:
        wrong = rng.integers(0, len(link.bits) if seed < 4 else 64, 5)
        found[wrong] ^= 1
    found = found.astype(np.uint8)
    monkeypatch.setattr(analog, "open_link", lambda *_, **__: LossySide(gop, set(), found))
    (reception,) = scheme.transmit([gop], RAYLEIGH, LINK, MCS, [3])
    assert reception.frames_hat.shape == (2, 72, 100, 3)
    assert 0 < reception.frames_lost <= 2


def test_what_was_encoded_side_by_side_equals_what_was_encoded_alone(micro, scheme, video, gops):
    """Sharing traces between quality presets must not share anything else."""
    alone = scheme.encode(dataclasses.replace(video, frames=video.frames[2:]), 2, 1)[0]
    for ours, theirs in zip(gops[1][1].frames, alone.frames, strict=True):
        np.testing.assert_array_equal(ours.symbols, theirs.symbols)
        assert ours.side_bits == theirs.side_bits


@pytest.fixture
def sent_as(micro, scheme, video):
    """GOPs of quality preset 1 with the rate map in another format."""

    def send(side_format):
        other = PvscMcScheme(micro, side_format=side_format)
        other._engines = scheme._engines
        assert other.variant == f"{micro}-{side_format}"
        return other.encode(video, 2, 1)

    return send


def num_bytes(gop):
    return len(side_stream.write(gop.omega_index, gop.frames))


def test_bytes_of_the_rate_map_without_png_are_fewer_and_nothing_else_changes(gops, sent_as):
    for png, ours in zip(gops[1], sent_as("payload"), strict=True):
        assert num_bytes(ours) < num_bytes(png)
        for theirs, frame in zip(png.frames, ours.frames, strict=True):
            np.testing.assert_array_equal(frame.symbols, theirs.symbols)
            assert frame.side_bits["z"] == theirs.side_bits["z"]


def test_a_range_coded_map_is_chosen_for_its_bits_and_gets_there(scheme, video, gops, sent_as):
    """The receiver's map is the chosen one: the symbols fit it. z is that of the same frame."""
    ends = {
        form: Transmitter(*models_of(scheme), **session(video, 1), side_format=form)
        for form in ("png", "range")
    }
    for png, ours in zip(gops[1], sent_as("range"), strict=True):
        assert num_bytes(ours) < num_bytes(png)
        assert ours.frames[0].side_bits["z"] == png.frames[0].side_bits["z"]
        maps = []
        for place, (frame, theirs) in enumerate(zip(ours.frames, png.frames, strict=True)):
            chosen = ends["range"].read_side(frame.side_bits, place).rate_index
            nearest = ends["png"].read_side(theirs.side_bits, place).rate_index
            maps.append((chosen, nearest))
            kind = place == 0
            rates = ends["range"]._models[kind].config.rate_set
            assert rate_adaptive.num_symbols(chosen, rates) == frame.symbols.size > 0
        assert any(not np.array_equal(chosen, nearest) for chosen, nearest in maps)


@pytest.mark.slow
def test_xla_changes_no_more_than_a_rounding(micro, scheme, gops, same_models):
    compiled = PvscMcScheme(micro, jit_compile=True)
    shown = [s.transmit(gops[0], RAYLEIGH, LINK, MCS, [1, 2]) for s in (scheme, compiled)]
    ours, theirs = (np.concatenate([r.frames_hat for r in one]).astype(int) for one in shown)
    assert np.abs(ours - theirs).max() <= 1


def test_results_without_trained_weights_say_so(scheme, gops):
    assert scheme.weights_id == "untrained"
    assert scheme.transmit(gops[0], RAYLEIGH, LINK, MCS, [1, 2])[0].status == "untrained"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "pvsc_huge"}, "pvsc_tiny"),
        ({"preset": "pvsc_tiny_intra"}, "pvsc_tiny"),
        ({"side_format": "gif"}, "png"),
        ({"weights": "no/such/folder"}, "inter.weights.h5"),
    ],
)
def test_bad_options_are_refused_with_what_is_allowed(options, said):
    with pytest.raises(InputError, match=said):
        PvscMcScheme(**options)
