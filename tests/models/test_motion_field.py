"""Vectors chosen together: what units gain as a body, and what a choice costs its neighbours."""

import itertools

import numpy as np
import pytest

from pvsc_link.models.pvsc_mc.motion import choose, predicted, vector_bits

ROWS, COLUMNS, SLOPE = 8, 10, 100.0
BODY = np.s_[:, 2:6, 3:8]
ANNEALED = (*np.geomspace(3.0, 0.3, 12), 0.0, 0.0, 0.0)


def two_choices(gain):
    """Rest, or a vector that brings ``gain`` levels in each unit of a body and costs elsewhere."""
    rest = np.zeros((1, ROWS, COLUMNS, 2), np.int32)
    moved = np.broadcast_to(np.array([-72, 4], np.int32), rest.shape)
    differences = np.full((2, 1, ROWS, COLUMNS), 1000.0, np.float32)
    differences[1] += 400.0
    differences[1][BODY] = 1000.0 - gain
    return rest, np.stack([rest, moved]), differences


def total(motion, candidates, differences):
    taken = (motion == candidates[1]).all(axis=-1)
    bits = vector_bits(motion - predicted(motion))
    return float(np.where(taken, differences[1], differences[0]).sum() + SLOPE * bits.sum())


def chosen(start, candidates, differences, temperatures):
    slope = np.full((len(start), 1, 1), SLOPE, np.float32)
    return choose(start, candidates, differences, slope, temperatures)


def test_a_body_keeps_the_vector_that_no_unit_would_take_alone():
    rest, candidates, differences = two_choices(1100.0)
    alone = [(1, 1), (7, 5)]  # as much is gained there, but by one unit each
    for row, column in alone:
        differences[1, 0, row, column] = 1000.0 - 1100.0
    gained = differences.argmin(axis=0)[..., None] * candidates[1]
    together = chosen(gained, candidates, differences, ANNEALED)
    moves = together.any(axis=-1)
    assert moves[BODY].mean() > 0.9
    assert not any(moves[0, row, column] for row, column in alone)
    assert not chosen(rest, candidates, differences, (0.0,) * 6).any()
    assert total(together, candidates, differences) < total(rest, candidates, differences)


def test_what_is_not_worth_its_bits_stays_at_rest():
    rest, candidates, differences = two_choices(100.0)
    assert not chosen(rest, candidates, differences, ANNEALED).any()


@pytest.mark.parametrize("seed", range(3))
def test_a_sweep_without_temperature_never_costs_more(seed):
    rng = np.random.default_rng(seed)
    candidates = rng.integers(-12, 13, (5, 1, ROWS, COLUMNS, 2)).astype(np.int32)
    differences = rng.uniform(0, 2000, (5, 1, ROWS, COLUMNS)).astype(np.float32)
    slope = np.full((1, 1, 1), SLOPE, np.float32)

    def cost(motion):
        own = (motion == candidates).all(axis=-1)
        level = np.where(own, differences, np.inf).min(axis=0)
        return float((level + SLOPE * vector_bits(motion - predicted(motion))).sum())

    motion, costs = candidates[0], []
    for _ in range(4):
        costs.append(cost(motion))
        motion = choose(motion, candidates, differences, slope, (0.0,))
    costs.append(cost(motion))
    assert all(later <= earlier + 1e-3 for earlier, later in itertools.pairwise(costs))
    assert costs[-1] < costs[0]


def test_without_a_price_every_unit_takes_what_fits_best():
    rest, candidates, differences = two_choices(100.0)
    motion = choose(rest, candidates, differences, np.zeros((1, 1, 1), np.float32), (0.0,))
    best = np.take_along_axis(candidates, differences.argmin(axis=0)[None, ..., None], axis=0)[0]
    np.testing.assert_array_equal(motion, best)
