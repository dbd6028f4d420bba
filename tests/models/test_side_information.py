"""Side-information bitstreams: exact, as short as they claim, and honest about damage."""

import io

import numpy as np
import pytest
from PIL import Image

from pvsc_link.models.entropy.hyper_latent import PmfTables
from pvsc_link.models.entropy.range_coder import (
    TOTAL,
    MessageReader,
    encode,
    information,
    quantise_pmf,
)
from pvsc_link.models.entropy.side_information import (
    SIDE_FORMATS,
    SideInformationError,
    decode_hyper_latent,
    decode_rate_map,
    encode_hyper_latent,
    encode_rate_map,
    hyper_parts,
)
from pvsc_link.types import InputError

#: Whole bytes cost up to 9 bits beyond the information; the coder's rounding gets the rest.
OVERHEAD_BITS = 10


def gaussian_tables(channels, seed=0, low=0.05, high=3.0, reach=20):
    """Tables like those of a trained prior: most channels nearly certain, some wide."""
    rng = np.random.default_rng(seed)
    values = np.arange(-reach, reach + 1)
    width = np.exp(rng.uniform(np.log(low), np.log(high), (channels, 1)))
    return PmfTables(-reach, quantise_pmf(np.exp(-0.5 * (values / width) ** 2)))


def draw(tables, height, width, seed=0):
    rng = np.random.default_rng(seed)
    offset, counts = tables
    columns = [rng.choice(len(row), size=(height, width), p=row / TOTAL) for row in counts]
    return (np.stack(columns, -1) + offset).astype(np.int32)


def smooth_map(height, width, num_rates=16, seed=0):
    """A rate map like a video's: mostly zero, one busy region."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    hill = 0.4 * num_rates * np.exp(-((y - height / 2) ** 2 + (x - width / 2) ** 2) * 20 / y.size)
    return np.clip(np.round(hill + 0.4 * rng.normal(size=y.shape)), 0, num_rates - 1).astype(int)


class FixedTables:
    """Every unit has a table of its own, whatever its neighbours are."""

    def __init__(self, probabilities):
        self.shape = probabilities.shape[:2]
        self.counts = quantise_pmf(probabilities.reshape(-1, probabilities.shape[-1]))

    def parts(self, rate_index):
        return [(rate_index.ravel(), self.counts)]

    def read(self, reader):
        return reader.read(len(self.counts), self.counts).reshape(self.shape)


def map_prior(index, num_rates):
    """Per-unit probabilities that are good but not certain."""
    distance = np.arange(num_rates) - index[..., None]
    return FixedTables(np.exp(-np.abs(distance)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 32), (18, 30, 128)])
def test_hyper_latents_survive_and_cost_their_information(shape):
    tables = gaussian_tables(shape[-1])
    z_hat = draw(tables, *shape[:2])
    message = encode_hyper_latent(z_hat, tables)
    np.testing.assert_array_equal(decode_hyper_latent(message, shape[:2], tables)[0], z_hat)
    estimate = information(hyper_parts(z_hat, tables))
    rounding = 1e-3 * z_hat.size
    assert estimate <= 8 * len(message) <= estimate + OVERHEAD_BITS + rounding


def test_estimate_bounds_coded_bits_for_any_tables_and_any_values():
    rng = np.random.default_rng(3)
    for _ in range(300):
        channels, side, size = rng.integers(1, 5), rng.integers(1, 5), rng.integers(1, 9)
        spread = rng.choice([0.02, 1.0], (channels, size))
        tables = PmfTables(
            int(rng.integers(-9, 9)),
            quantise_pmf(rng.random((channels, size)) ** 9 * spread + 1e-9),
        )
        z_hat = tables.offset + rng.integers(0, size, (side, side, channels))
        message = encode_hyper_latent(z_hat, tables)
        estimate = information(hyper_parts(z_hat, tables))
        assert estimate - 1e-6 <= 8 * len(message) <= estimate + OVERHEAD_BITS
        np.testing.assert_array_equal(
            decode_hyper_latent(message, z_hat.shape[:2], tables)[0], z_hat
        )


def test_values_at_both_ends_of_the_tables_and_certain_channels_are_exact():
    certain = np.array([[TOTAL]])
    assert encode_hyper_latent(np.full((3, 3, 1), 7), PmfTables(7, certain)) == b""
    np.testing.assert_array_equal(decode_hyper_latent(b"", (3, 3), PmfTables(7, certain))[0], 7)
    tables = gaussian_tables(2, low=0.05, high=0.06)
    z_hat = np.full((3, 2, 2), -20, np.int32)
    z_hat[0] = 20
    message = encode_hyper_latent(z_hat, tables)
    assert 8 * len(message) >= 12 * 16, "one count of 2 ** 16 each"
    np.testing.assert_array_equal(decode_hyper_latent(message, (3, 2), tables)[0], z_hat)


def test_a_message_may_lie_in_front_of_anything():
    """Every continuation decodes to the same symbols, so no terminator is needed."""
    counts = gaussian_tables(1)[1][0]
    for seed in range(50):
        symbols = draw(PmfTables(0, counts[None]), 1, 5, seed).ravel()
        message = encode([(symbols, counts)])
        for filler in (b"\0" * 8, b"\xff" * 8):
            longer = encode([(symbols, counts), (np.zeros(0, int), counts)])
            assert longer == message
            np.testing.assert_array_equal(decode_prefix(message + filler, 5, counts), symbols)


def decode_prefix(data, num, counts):
    """The coder alone, without the check that a message is canonical."""
    import constriction

    words = np.frombuffer(data + b"\0" * (-len(data) % 4), ">u4").astype(np.uint32)
    model = constriction.stream.model.Categorical(counts / TOTAL, perfect=True)
    return constriction.stream.queue.RangeDecoder(words).decode(model, num)


def test_every_truncation_of_a_hyper_latent_message_is_noticed():
    tables = gaussian_tables(32)
    message = encode_hyper_latent(draw(tables, 4, 4), tables)
    for length in range(len(message)):
        with pytest.raises(SideInformationError):
            decode_hyper_latent(message[:length], (4, 4), tables)
    with pytest.raises(SideInformationError):
        decode_hyper_latent(message + b"\0", (4, 4), tables)


def damaged(message, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(message)
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    return bytes(data)


def outcome(decoder, message):
    """True for a typed refusal, False for a legal result; anything else fails the test."""
    try:
        decoder(message)
    except SideInformationError:
        return True
    return False


def test_bit_errors_in_range_coding_never_crash_and_are_mostly_noticed():
    tables = gaussian_tables(32)
    message = encode_hyper_latent(draw(tables, 4, 4), tables)
    noticed = [
        outcome(lambda m: decode_hyper_latent(m, (4, 4), tables)[0], damaged(message, seed))
        for seed in range(400)
    ]
    assert np.mean(noticed) > 0.9, "the rest decodes to wrong symbols: the link needs its CRC"


@pytest.mark.parametrize("side_format", SIDE_FORMATS)
def test_garbage_is_a_typed_refusal_or_a_legal_map(side_format):
    rng = np.random.default_rng(0)
    prior = map_prior(smooth_map(9, 7), 16)

    def decoder(message):
        index = decode_rate_map(message, (9, 7), 16, side_format, prior)
        assert index.shape == (9, 7)
        assert 0 <= index.min() <= index.max() < 16

    refused = [outcome(decoder, rng.bytes(rng.integers(0, 120))) for _ in range(300)]
    assert np.mean(refused) > 0.9


@pytest.mark.parametrize("side_format", ["png", "payload"])
def test_every_bit_error_and_truncation_of_a_png_map_is_noticed(side_format):
    index = smooth_map(16, 16)
    message = encode_rate_map(index, 16, side_format)
    for position in range(len(message)):
        for bit in range(8):
            data = bytearray(message)
            data[position] ^= 1 << bit
            try:
                decoded = decode_rate_map(bytes(data), (16, 16), 16, side_format)
            except SideInformationError:
                continue
            # The zlib header holds hint bits that change nothing.
            np.testing.assert_array_equal(decoded, index)
        with pytest.raises(SideInformationError):
            decode_rate_map(message[:position], (16, 16), 16, side_format)


@pytest.mark.parametrize("side_format", SIDE_FORMATS)
@pytest.mark.parametrize("num_rates", [2, 16, 129])
@pytest.mark.parametrize("shape", [(1, 1), (16, 16), (15, 27), (5, 1)])
def test_rate_maps_survive_every_format(side_format, num_rates, shape):
    rng = np.random.default_rng(1)
    for index in (smooth_map(*shape, num_rates), rng.integers(0, num_rates, shape)):
        prior = map_prior(index, num_rates) if side_format == "range" else None
        message = encode_rate_map(index, num_rates, side_format, prior)
        decoded = decode_rate_map(message, shape, num_rates, side_format, prior)
        np.testing.assert_array_equal(decoded, index)
        assert decoded.dtype == np.int32


@pytest.mark.parametrize("num_rates", [16, 129])
def test_an_ordinary_png_reader_sees_the_map(num_rates):
    index = smooth_map(15, 27, num_rates)
    with Image.open(io.BytesIO(encode_rate_map(index, num_rates, "png"))) as image:
        image.load()
        pixels = np.asarray(image)
    # Readers spread 4 bits over 8.
    np.testing.assert_array_equal(pixels // 17 if num_rates == 16 else pixels, index)


@pytest.mark.parametrize(("shape", "floor"), [((16, 16), 69), ((16, 32), 70), ((72, 120), 83)])
def test_an_empty_map_costs_the_floor_of_png_and_little_without_the_container(shape, floor):
    empty = np.zeros(shape, int)
    assert len(encode_rate_map(empty, 16, "png")) == floor
    assert len(encode_rate_map(empty, 16, "payload")) == floor - 57
    certain = FixedTables(np.eye(16)[empty] + 1e-4)
    assert len(encode_rate_map(empty, 16, "range", certain)) < floor - 57 + shape[0] * shape[1] / 64


def test_payload_and_png_of_a_map_differ_by_the_container_alone():
    index = smooth_map(72, 120)
    png, payload = (encode_rate_map(index, 16, f) for f in ("png", "payload"))
    assert len(png) == len(payload) + 57
    assert payload in png


@pytest.mark.parametrize("num_rates", [16, 129])
def test_range_coded_maps_cost_their_information_and_beat_png_under_a_good_prior(num_rates):
    index = smooth_map(72, 120, num_rates)
    prior = map_prior(index, num_rates)
    message = encode_rate_map(index, num_rates, "range", prior)
    estimate = information(prior.parts(index))
    assert estimate <= 8 * len(message) <= estimate + OVERHEAD_BITS + 1e-3 * index.size
    assert len(message) < len(encode_rate_map(index, num_rates, "payload"))


def test_quantised_tables_are_legal_and_close_to_the_probabilities():
    p = np.random.default_rng(0).dirichlet(np.full(129, 0.05), 500)
    counts = quantise_pmf(p)
    assert counts.min() >= 1
    assert (counts.sum(-1) == TOTAL).all()
    divergence = np.sum(p * np.log2(np.maximum(p, 1e-300) * TOTAL / counts), axis=-1)
    assert divergence.max() < 0.01, "bits a symbol"


def test_wrong_table_at_the_receiver_is_noticed_or_gives_wrong_symbols_but_no_crash():
    tables, others = gaussian_tables(32, seed=0), gaussian_tables(32, seed=1)
    message = encode_hyper_latent(draw(tables, 4, 4), tables)
    assert outcome(lambda m: decode_hyper_latent(m, (4, 4), others), message)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: encode_hyper_latent(np.full((1, 1, 1), 21), gaussian_tables(1)), "outside its"),
        (lambda: encode_hyper_latent(np.zeros((1, 1, 1)), gaussian_tables(1)), "does not fit"),
        (lambda: encode_hyper_latent(np.zeros((1, 1, 2), int), gaussian_tables(1)), "not fit"),
        (lambda: encode([(np.zeros(1, int), np.array([1, 2]))]), "not a table"),
        (lambda: MessageReader(b"").read(1, np.array([0, TOTAL])), "not a table"),
        (lambda: quantise_pmf(np.array([0.5, np.nan])), "not a probability"),
        (lambda: encode_rate_map(np.full((2, 2), 16), 16, "png"), "not a rate map"),
        (lambda: encode_rate_map(np.zeros((2, 2)), 16, "png"), "not a rate map"),
        (lambda: encode_rate_map(np.zeros((2, 2), int), 16, "gif"), "side_format"),
        (lambda: encode_rate_map(np.zeros((2, 2), int), 16, "range"), "needs tables"),
        (lambda: encode_rate_map(np.zeros((2, 2), int), 257, "png"), "number of rates"),
    ],
)
def test_bad_input_says_what_is_wrong(call, message):
    with pytest.raises(InputError, match=message):
        call()


def test_an_index_beyond_the_rate_set_in_a_legal_png_is_corruption():
    message = encode_rate_map(np.full((2, 2), 9), 16, "png")
    with pytest.raises(SideInformationError, match="outside the rate set"):
        decode_rate_map(message, (2, 2), 8, "png")
