"""b_z given neighbours: exact both ways, shorter where places are alike, else unused."""

import numpy as np
import pytest

from pvsc_link.models.entropy.hyper_latent import Z_MAX, HyperContext, PmfTables
from pvsc_link.models.entropy.range_coder import SideInformationError, information, quantise_pmf
from pvsc_link.models.entropy.side_information import (
    decode_hyper_latent,
    encode_hyper_latent,
    hyper_parts,
)
from pvsc_link.models.presets import PRESETS
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.types import InputError

CONFIG = PRESETS["pvsc_tiny"]
CHANNELS = CONFIG.channels_z


def smooth(frames, seed, rows=5, columns=7):
    """Rows in which every place is the one to its left and a little noise."""
    rng = np.random.default_rng(seed)
    start = rng.normal(scale=8.0, size=(frames, rows, 1, CHANNELS))
    steps = rng.normal(scale=1.5, size=(frames, rows, columns, CHANNELS))
    return np.rint(start + np.cumsum(steps, axis=2)).astype(np.int64)


def scattered(frames, seed):
    rng = np.random.default_rng(seed)
    return np.rint(rng.normal(scale=2.0, size=(frames, 5, 7, CHANNELS))).astype(np.int64)


def plain_tables(z):
    """Every channel's histogram: the best that tables without neighbours can be."""
    seen = np.full((CHANNELS, 2 * Z_MAX + 1), 1e-3)
    for channel, row in enumerate(seen):
        np.add.at(row, z[..., channel].ravel() + Z_MAX, 1.0)
    return PmfTables(-Z_MAX, quantise_pmf(seen))


@pytest.fixture(scope="module")
def fitted():
    context, train = HyperContext(CONFIG), smooth(60, 0)
    context.build()
    assert context.fit(train, 1, plain_tables(train))
    return context, plain_tables(train)


def test_neighbours_shorten_frames_that_were_not_fitted_to(fitted):
    context, plain = fitted
    tables = context.tables(1)
    for frame in smooth(3, 1):
        message = encode_hyper_latent(frame, tables)
        assert len(message) < 0.8 * len(encode_hyper_latent(frame, plain))
        assert information(hyper_parts(frame, tables)) <= 8 * len(message)
        np.testing.assert_array_equal(decode_hyper_latent(message, (5, 7), tables)[0], frame)


@pytest.mark.parametrize("shape", [(1, 1), (1, 6), (6, 1), (9, 16)])
def test_any_grid_and_any_value_survive(fitted, shape):
    rng = np.random.default_rng(2)
    frame = rng.integers(-Z_MAX, Z_MAX + 1, (*shape, CHANNELS))
    tables = fitted[0].tables(1)
    message = encode_hyper_latent(frame, tables)
    np.testing.assert_array_equal(decode_hyper_latent(message, shape, tables)[0], frame)


def test_places_that_do_not_resemble_each_other_keep_the_factorised_tables():
    context, train = HyperContext(CONFIG), scattered(8, 0)
    context.build()
    assert not context.fit(train, 0, plain_tables(train))
    assert context.tables(0) is None


def test_a_fit_leaves_the_other_presets_alone(fitted):
    context, _ = fitted
    before = context.tables(1).spreads.copy()
    assert context.tables(0) is None
    assert context.fit(smooth(60, 3), 0, plain_tables(smooth(60, 3)))
    np.testing.assert_array_equal(context.tables(1).spreads, before)


def test_a_model_codes_by_neighbours_once_they_are_fitted():
    model, train = IntraModel(PRESETS["pvsc_tiny_intra"]), smooth(60, 0)
    assert isinstance(model.hyper_tables(1), PmfTables)
    model.hyper_context.fit(train, 1, model.z_prior.pmf_table(1))
    frame = smooth(1, 4)[0]
    known, plain = model.hyper_tables(1), model.z_prior.pmf_table(1)
    assert information(hyper_parts(frame, known)) < information(hyper_parts(frame, plain))
    with pytest.raises(InputError, match="preset"):
        model.hyper_tables(model.config.num_omega)


def test_damage_is_noticed_or_changes_what_is_read(fitted):
    tables, frame = fitted[0].tables(1), smooth(1, 5)[0]
    message = encode_hyper_latent(frame, tables)
    with pytest.raises(SideInformationError):
        decode_hyper_latent(message[:-3], (5, 7), tables)
    for byte in (0, len(message) // 2):
        damaged = bytearray(message)
        damaged[byte] ^= 0x10
        try:
            other = decode_hyper_latent(bytes(damaged), (5, 7), tables)[0]
        except SideInformationError:
            continue
        assert (other != frame).any()


def test_other_channels_are_refused(fitted):
    with pytest.raises(InputError, match="does not fit"):
        encode_hyper_latent(np.zeros((2, 2, CHANNELS + 1), int), fitted[0].tables(1))
