"""Refreshing P frames: which they are, and that both ends agree on them."""

import numpy as np
import pytest

from pvsc_link.models.presets import PRESETS
from pvsc_link.models.pvsc.model import IntraModel, PvscModel
from pvsc_link.models.pvsc_mc.config import REFRESH_PRESETS, preset_at
from pvsc_link.models.stream import Receiver, Transmitter
from pvsc_link.types import InputError

SESSION = {"height": 64, "width": 64, "omega_index": 1, "side_format": "range"}


@pytest.fixture(scope="module")
def models(stirred):
    intra = stirred(IntraModel(PRESETS["pvsc_tiny_intra"]), 1)
    return intra, stirred(PvscModel(PRESETS["pvsc_tiny"]), 2)


@pytest.fixture(scope="module")
def frames():
    coarse = np.random.default_rng(3).random((5, 8, 8, 3))
    return np.kron(coarse, np.ones((1, 8, 8, 1))).astype(np.float32)


def test_every_nth_p_frame_is_finer_within_the_presets_there_are():
    places = range(9)
    assert [preset_at(1, place, 0, 5) for place in places] == [1] * 9
    finer = 3  # two presets finer than 1
    assert [preset_at(1, place, 4, 5) for place in places] == [*[1] * 4, finer, *[1] * 3, finer]
    assert [preset_at(4, place, 2, 5) for place in places] == [4] * 9


@pytest.mark.slow
def test_short_gops_are_what_they_are_without_a_refresh(models, frames):
    plain = Transmitter(*models, **SESSION)
    ends = [plain, Transmitter(*models, **SESSION, refresh_every=4)]
    for t, frame in enumerate(frames[:4]):
        sent = [end.encode(frame, intra=t == 0) for end in ends]
        assert sent[0].side_bits == sent[1].side_bits
        np.testing.assert_array_equal(sent[0].symbols, sent[1].symbols)
    sent = [end.encode(frames[4], intra=False) for end in ends]
    assert not np.array_equal(sent[0].symbols, sent[1].symbols)


def test_both_ends_agree_even_after_a_lost_frame(models, frames):
    session = {**SESSION, "refresh_every": 2}
    sender, receiver = Transmitter(*models, **session), Receiver(*models, **session)
    for t, frame in enumerate(frames[:3]):
        payload = sender.encode(frame, intra=t == 0)
        decoded = receiver.decode(payload.symbols, payload.side_bits, intra=t == 0)
        assert decoded.status == "ok"
        np.testing.assert_array_equal(decoded.frame, sender.frame_hat())
    lost = sender.encode(frames[3], intra=False)
    assert receiver.decode(lost.symbols, {}, intra=False).status == "side_z_lost"
    payload = sender.encode(frames[4], intra=False)
    assert receiver.decode(payload.symbols, payload.side_bits, intra=False).status == "ok"
    assert receiver.preset_at(4) == sender.preset_at(4) == 1 + REFRESH_PRESETS


def test_a_negative_period_is_refused(models):
    with pytest.raises(InputError, match="refresh_every"):
        Transmitter(*models, **SESSION, refresh_every=-1)
