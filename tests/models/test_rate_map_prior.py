"""The rate map under z_hat and its own earlier units: exact, fitted, and the same at both ends."""

import numpy as np
import pytest

from pvsc_link.models.entropy.range_coder import SideInformationError, information
from pvsc_link.models.entropy.rate_map import NEIGHBOURS, RateMapPrior, diagonals
from pvsc_link.models.entropy.side_information import (
    decode_rate_map,
    encode_rate_map,
)
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.types import InputError

CONFIG = PvscConfig("small", channels_z=4, rate_set=(0, 4, 8, 12), num_omega=2)
SHAPE = (24, 24)


def smooth(count, seed):
    """Maps whose units follow z a little and their neighbours a lot."""
    rng = np.random.default_rng(seed)
    z = rng.integers(-4, 5, (count, 6, 6, 4))
    field = np.kron(np.abs(z[..., 0]), np.ones((1, 4, 4))) / 4 + rng.normal(0, 1, (count, *SHAPE))
    for axis in (1, 2):
        field = sum(np.roll(field, shift, axis) for shift in (-1, 0, 1)) / 2
    return z, np.clip(np.rint(field), 0, 3).astype(int)


@pytest.fixture(scope="module")
def fitted():
    prior = RateMapPrior(CONFIG)
    prior.build()
    prior.fit(*smooth(200, 0), 1)
    return prior


def test_a_unit_is_coded_after_all_its_neighbours():
    order = {}
    for number, (rows, columns) in enumerate(diagonals(5, 7)):
        order |= {place: number for place in zip(rows.tolist(), columns.tolist(), strict=True)}
    assert len(order) == 5 * 7
    for (row, column), number in order.items():
        for up, right in NEIGHBOURS:
            assert order.get((row - up, column + right), -1) < number


@pytest.mark.parametrize("preset", [0, 1])  # unfitted, fitted
def test_maps_come_back_and_cost_their_information(fitted, preset):
    for z, rate in zip(*smooth(5, 1), strict=True):
        tables = fitted.tables(z, preset)
        message = encode_rate_map(rate, 4, "range", tables)
        np.testing.assert_array_equal(decode_rate_map(message, SHAPE, 4, "range", tables), rate)
        bits = information(tables.parts(rate))
        assert bits <= 8 * len(message) <= bits + 10 + 1e-3 * rate.size


def test_z_and_neighbours_both_save_bits(fitted):
    """Against the classes of z alone, and against no knowledge at all."""
    z, rate = smooth(40, 2)
    alone = RateMapPrior(CONFIG)
    alone.build()
    shuffled = np.random.default_rng(0)
    scattered = smooth(200, 0)
    # Units moved about within their cell's class keep what z says and lose their neighbours.
    places = shuffled.permutation(SHAPE[0] * SHAPE[1])
    alone.fit(scattered[0], scattered[1].reshape(200, -1)[:, places].reshape(200, *SHAPE), 1)

    def bits(prior, preset):
        pairs = zip(z, rate, strict=True)
        return sum(information(prior.tables(f, preset).parts(k)) for f, k in pairs)

    assert bits(fitted, 1) < 0.8 * bits(alone, 1)
    assert bits(fitted, 1) < 0.7 * bits(fitted, 0)


def test_damage_is_refused_or_gives_a_map_of_the_rate_set(fitted):
    z, rate = smooth(1, 3)
    tables = fitted.tables(z[0], 1)
    message = encode_rate_map(rate[0], 4, "range", tables)
    refused = 0
    for place in range(len(message)):
        damaged = bytearray(message)
        damaged[place] ^= 0x55
        try:
            found = decode_rate_map(bytes(damaged), SHAPE, 4, "range", tables)
        except SideInformationError:
            refused += 1
        else:
            assert found.min() >= 0
            assert found.max() <= 3
    assert refused > 0.9 * len(message)


def test_maps_of_other_frames_are_refused(fitted):
    z, rate = smooth(1, 4)
    with pytest.raises(InputError, match="hyper-latents"):
        fitted.fit(z, rate[:, :-1], 0)
    with pytest.raises(InputError, match="z_hat"):
        encode_rate_map(rate[0, :-1], 4, "range", fitted.tables(z[0], 1))
    with pytest.raises(InputError, match="tables"):
        encode_rate_map(rate[0], 4, "range")


def wanted_of(rate, seed):
    """k* up to half a step beside the rates of a map."""
    rng = np.random.default_rng(seed)
    return np.maximum(0.0, np.asarray(CONFIG.rate_set)[rate] + rng.uniform(-2.5, 2.5, rate.shape))


def test_rates_are_chosen_with_their_bits_in_mind(fitted):
    """Fewer bits for about the wanted reals."""
    rates = np.asarray(CONFIG.rate_set)
    for seed, (z, rate) in enumerate(zip(*smooth(5, 3), strict=True)):
        wanted, tables = wanted_of(rate, seed), fitted.tables(z, 1)
        nearest = np.abs(wanted[..., None] - rates).argmin(axis=-1)
        chosen = tables.choose(wanted, CONFIG.rate_set)
        assert chosen.dtype == np.int32
        assert information(tables.parts(chosen)) < 0.9 * information(tables.parts(nearest))
        assert np.mean(np.abs(rates[chosen] - wanted)) < 3
        assert np.mean(rates[chosen]) == pytest.approx(np.mean(wanted), rel=0.25)


def test_where_all_rates_cost_alike_the_nearest_is_chosen():
    wanted = np.full(SHAPE, 4.0)
    prior = RateMapPrior(CONFIG)
    prior.build()
    prior.counts.assign(np.ones(prior.counts.shape, np.int32))
    tables = prior.tables(np.zeros((6, 6, 4), int), 0)
    np.testing.assert_array_equal(tables.choose(wanted, CONFIG.rate_set), 1)


@pytest.mark.parametrize(("wanted", "chosen"), [(3.4, 0), (3.6, 4), (9.5, 4), (9.7, 8)])
def test_a_rate_is_chosen_where_lost_reals_and_one_and_a_half_per_bit_are_least(wanted, chosen):
    """Rates 0, 4, 8 and 16 take 1, 2, 3 and 3 bits.

    Of (k - w)^2 / (2 max(w, 4)) + 1.5 bits, those of 0 and 4 are equal at w = 3.5, and those of 4
    and 8 at w = 9.6.
    """
    prior = RateMapPrior(CONFIG)
    prior.build()
    counts = np.broadcast_to([4, 2, 1, 1], prior.counts.shape)
    prior.counts.assign(counts.astype(np.int32))
    tables = prior.tables(np.zeros((6, 6, 4), int), 0)
    found = tables.choose(np.full(SHAPE, wanted), (0, 4, 8, 16))
    assert np.unique(np.array([0, 4, 8, 16])[found]).tolist() == [chosen]


def test_tables_fitted_to_chosen_maps_make_them_cheaper():
    z, rate = smooth(60, 4)
    wanted = wanted_of(rate, 9)
    bits = []
    for fit_to in ("nearest", "chosen"):
        prior = RateMapPrior(CONFIG)
        prior.build()
        if fit_to == "chosen":
            prior.fit_to_wanted(z[:50], wanted[:50], 0)
        else:
            nearest = np.abs(wanted[..., None] - np.asarray(CONFIG.rate_set)).argmin(axis=-1)
            prior.fit(z[:50], nearest[:50], 0)
        every = [(prior.tables(f, 0), k) for f, k in zip(z[50:], wanted[50:], strict=True)]
        bits.append(sum(information(t.parts(t.choose(k, CONFIG.rate_set))) for t, k in every))
    assert bits[1] < bits[0]
