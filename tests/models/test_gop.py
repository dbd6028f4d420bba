"""A batch of GOPs as tensors: what is sent is counted, what is lost is concealed."""

from types import SimpleNamespace

import numpy as np
from keras import ops

from pvsc_link.models.gop import GopCoder, SentFrame, pack_gop, unpack_gop
from pvsc_link.models.pvsc.steps import CodedFrame

UNITS = (4, 4)


def picture_of(reals):
    """A flat picture [batch, 4, 4, 3] of the mean of a frame's reals."""
    return ops.ones((1, 4, 4, 3)) * ops.mean(reals, axis=(1, 2, 3), keepdims=True)


class Adding:
    """Steps whose I frame is its reals' mean, and whose P frames add theirs to the frame before."""

    def __init__(self, **models):
        self.models = {True: models.get("intra"), False: models.get("model")}
        self.intra = SimpleNamespace(
            encode=lambda frame, *_: self.coded,
            decode=lambda reals, *_, **__: picture_of(reals),
            start=lambda picture: (picture, None),
        )
        self.predicted = SimpleNamespace(
            reference=lambda feature, motion=None: feature,
            decode=lambda reals, rates, z, buffers, *_, **__: (
                buffers[0] + picture_of(reals),
                None,
            ),
            show=lambda feature, omega_index: feature,
        )


def sent_frame(batch, symbols=None, rate_index=None):
    """What a receiver reads of a frame, of gain 0.5."""
    frame = dict.fromkeys(SentFrame._fields, ops.zeros((batch,)))
    frame |= {"gain": ops.full((batch,), 0.5), "z_hat": ops.zeros((batch, 1, 1, 2))}
    frame |= {"rate_index": ops.zeros((batch, *UNITS), "int32"), "motion": None}
    if symbols is not None:
        frame |= {"symbols": ops.convert_to_tensor(symbols)}
        frame |= {"rate_index": ops.convert_to_tensor(rate_index, "int32")}
    return SentFrame(**frame)


def test_a_lost_frame_shows_the_one_before_and_leaves_the_buffers_and_an_i_frame_takes_all():
    side_ok = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 0], [0, 1, 1]], bool)
    batch, levels = len(side_ok), (0.1, 0.2, 0.4)
    reals = [ops.full((batch, *UNITS, 2), 2 * level) for level in levels]
    sent, omega = [sent_frame(batch)] * 3, ops.zeros((batch,), "int32")
    shown = np.asarray(GopCoder(Adding()).receive(reals, sent, omega, side_ok))
    expected = [[0.1, 0.3, 0.7], [0.1, 0.1, 0.5], [0.1, 0.3, 0.3], [0.5, 0.5, 0.5]]
    np.testing.assert_allclose(shown.mean(axis=(2, 3, 4)), expected, atol=1e-6)
    np.testing.assert_allclose(np.ptp(shown, axis=(2, 3, 4)), 0, atol=1e-6)


def test_frames_with_rate_sets_of_their_own_share_a_stream_and_come_back():
    """I frames send 0, 2 or 6 reals a unit, P frames 0, 1 or 4; an odd number is filled up."""
    rng, rate_sets, sent, counts = np.random.default_rng(0), ((0, 2, 6), (0, 1, 4)), [], []
    for rate_set in rate_sets:
        index = rng.integers(0, 3, (2, *UNITS))
        k = np.array(rate_set)[index]
        reals = rng.standard_normal((2, *UNITS, max(rate_set)), np.float32)
        sent.append(sent_frame(2, reals * (np.arange(max(rate_set)) < k[..., None]), index))
        counts.append(((k + 1) // 2).sum(axis=(1, 2)))
    pairs, count = pack_gop(sent, rate_sets)
    np.testing.assert_array_equal(count, np.sum(counts, axis=0))
    stream = ops.convert_to_numpy(pairs)[..., 0] + 1j * ops.convert_to_numpy(pairs)[..., 1]
    back = unpack_gop(ops.convert_to_tensor(stream.astype(np.complex64)), sent, rate_sets)
    for frame, units in zip(sent, back, strict=True):
        np.testing.assert_array_equal(units, frame.symbols)
    first = np.asarray(sent[0].symbols)[0][np.asarray(sent[0].rate_index)[0] > 0][0, :2]
    np.testing.assert_array_equal(stream[0, 0], first[0] + 1j * first[1])


def test_bits_of_a_map_are_its_entropy_and_one_byte_where_a_gain_is_sent():
    rates = np.zeros((1, *UNITS), np.int32)
    rates[0, :2], rates[0, 2, :] = 1, 2  # 8 units of rate 1, 4 of rate 2, 4 of rate 0
    for sends_gain in (True, False):
        steps = Adding(
            intra=SimpleNamespace(
                config=SimpleNamespace(rate_set=(0, 3, 4)),
                sends_gain=sends_gain,
                num_bits_z=lambda z_hat, omega_index: ops.full((1,), 7.0),
            )
        )
        symbols, wanted = ops.zeros((1, *UNITS, 4)), ops.ones((1, *UNITS))
        steps.coded = CodedFrame(ops.zeros((1, 1, 1, 2)), rates, symbols, None, None, wanted)
        (sent,) = GopCoder(steps).transmit(ops.zeros((1, 1, 4, 4, 3)), ops.zeros((1,), "int32"))
        assert float(sent.num_bits_map[0]) == 8 * 1 + 8 * 2 + 8 * sends_gain
        assert int(sent.num_symbols[0]) == 8 * 2 + 4 * 2
        assert float(sent.num_reals[0]) == 8 * 3 + 4 * 4
        assert float(sent.num_bits_z[0]) == 7
