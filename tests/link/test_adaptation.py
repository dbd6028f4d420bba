"""Outer loop link adaptation: it settles at its target, whatever the channel is."""

import numpy as np
import pytest

from pvsc_link.link import adaptation
from pvsc_link.link.adaptation import OuterLoop, as_adaptation
from pvsc_link.types import InputError

LADDER = [*range(29)]


def first_failures(loop, num_transports, snr_db, seed=0, blocks=lambda rng: 1):
    """Whether each block fails on a made-up channel whose MCS m needs 0.7 m - 2 dB."""
    rng, failed = np.random.default_rng(seed), []
    for t in range(num_transports):
        margin_db = snr_db(t, rng) - (0.7 * loop.mcs - 2.0)
        bler = 1.0 / (1.0 + np.exp(3.0 * margin_db))
        ok = rng.random(blocks(rng)) >= bler
        loop.report(ok)
        failed.append(~ok)
    return np.concatenate(failed)


@pytest.mark.parametrize("start", [0, 14, 28])
@pytest.mark.parametrize(
    ("name", "snr_db"),
    [
        ("constant", lambda t, rng: 8.3),
        ("fast fading", lambda t, rng: 10 + 10 * np.log10(rng.exponential() + 1e-3)),
        ("slow fading", lambda t, rng: 8 + 5 * np.sin(t / 300)),
    ],
)
@pytest.mark.parametrize("blocks", [lambda rng: 1, lambda rng: rng.integers(1, 12)])
def test_it_settles_at_its_target(start, name, snr_db, blocks):
    loop = OuterLoop(LADDER, start)
    failed = first_failures(loop, 6000, snr_db, blocks=blocks)
    assert 0.07 < failed[len(failed) // 4 :].mean() < 0.13, name


@pytest.mark.parametrize("target", [0.01, 0.3])
def test_another_target_is_another_share_of_failures(target):
    loop = OuterLoop(LADDER, 10, target=target)
    failed = first_failures(loop, 20_000, lambda t, rng: 8.3)
    assert failed[5000:].mean() == pytest.approx(target, rel=0.3)


def test_it_stays_on_the_ladder_and_leaves_its_ends_at_once():
    order = [0, 1, 3, 2]
    loop = OuterLoop(order, 2)
    loop.report([True] * 1000)
    assert loop.mcs == 2
    loop.report([False] * 2)
    assert loop.mcs == 2 or loop.mcs == 3
    loop.report([False] * 1000)
    assert loop.mcs == 0
    loop.report([True] * 36)  # one MCS up: 4 failures of 0.25
    assert loop.mcs == 1


def test_the_mean_is_that_of_the_transports():
    loop = OuterLoop(LADDER, 10, step=1.0)
    assert np.isnan(loop.mean_mcs)
    for ok in ([False], [False], [], [True] * 30):
        loop.report(ok)
    assert loop.mean_mcs == pytest.approx((10 + 9 + 8 + 8) / 4)
    fixed = as_adaptation(7)
    fixed.report([False])
    assert fixed.mcs == 7
    assert as_adaptation(loop) is loop


@pytest.mark.parametrize(
    "arguments", [(LADDER, 29), (LADDER, 3, 0.0), (LADDER, 3, 1.0), (LADDER, 3, 0.1, 0.0)]
)
def test_bad_arguments_are_refused(arguments):
    with pytest.raises(InputError, match="outer loop"):
        OuterLoop(*arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("channel", "more"), [("awgn", {}), ("rayleigh", {"coherence_length": 5})])
def test_it_settles_on_a_real_link(channel, more):
    from pvsc_link.link import MCS_TABLE, Air, get_coded_link
    from pvsc_link.types import ChannelPoint

    order = [m.index for m in sorted(MCS_TABLE, key=lambda m: m.spectral_efficiency)]
    loop, point, ok = OuterLoop(order, 5), ChannelPoint(channel, 12.3, **more), []
    bits = np.random.default_rng(0).integers(0, 2, 3000, dtype=np.uint8)
    for seed in range(1500):
        received = Air(point, seed).send_bits(get_coded_link(loop.mcs, channel), bits)
        loop.report(received.first_ok)
        ok.append(received.first_ok)
    assert 0.07 < 1.0 - np.mean(np.concatenate(ok[300:])) < 0.13
    assert 8 < loop.mean_mcs < 22
    assert adaptation.OLLA_TARGET == 0.1
