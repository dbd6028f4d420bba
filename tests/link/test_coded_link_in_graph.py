"""The digital link on tensors: inside graphs it gives what it gives for arrays, and gradients."""

import numpy as np
import pytest
import tensorflow as tf

from pvsc_link.link.channel import ChannelOutput
from pvsc_link.link.coded_link import BATCH_SIZE, CodedLink
from pvsc_link.link.flat_fading import Awgn, BlockFading
from pvsc_link.link.mcs import Mcs, get_mcs
from pvsc_link.types import InputError

ESTIMATED = {"csi_nmse_db": -15.0, "coherence_length": 5}
# (MCS, channel, Es/N0 in dB, condition): some blocks fail. The code of the first repeats bits.
POINTS = [
    (2, "awgn", -4.0, {}),
    (11, "rayleigh", 6.5, ESTIMATED),
    (22, "rayleigh", 20.0, ESTIMATED),
]


def short_link(mcs, channel, n=480, **options):
    row = get_mcs(mcs)
    return CodedLink(Mcs(mcs, row.num_bits_per_symbol, row.target_coderate, n), channel, **options)


def random_bits(*shape):
    return np.random.default_rng(1).integers(0, 2, shape, dtype=np.uint8)


def in_graph(link, num_bits, *, jit_compile=False, **call):
    """The link as one function of rows of bits, with an open batch."""
    return tf.function(
        lambda bits: link(bits, **call),
        jit_compile=jit_compile,
        input_signature=[tf.TensorSpec([None, num_bits], tf.float32)],
    )


@pytest.mark.parametrize(("mcs", "channel", "snr_db", "condition"), POINTS)
def test_a_graph_gives_what_arrays_give_at_equal_seeds(mcs, channel, snr_db, condition):
    """Several groups of blocks for arrays, one call in the graph, a short block at the end."""
    link = short_link(mcs, channel)
    num_bits = (BATCH_SIZE + 3) * link.block_payload + 9
    bits, call = random_bits(3, num_bits), {"snr_db": snr_db, "seed": 3, **condition}
    bits_hat, ok = link(bits[0], **call)
    assert 0 < ok.sum() < len(ok), "a point where agreement is not trivial"
    graph = in_graph(link, num_bits, **call)
    graph_bits_hat, graph_ok = graph(tf.constant(bits, tf.float32))
    assert graph_bits_hat.shape == bits.shape
    assert graph_bits_hat.dtype == tf.float32
    np.testing.assert_array_equal(graph_bits_hat[0], bits_hat)
    np.testing.assert_array_equal(graph_ok[0], ok)


def test_one_graph_serves_any_number_of_rows():
    link = short_link(11, "awgn")
    graph = in_graph(link, 500, snr_db=4.0, seed=3)
    bits = tf.constant(random_bits(9, 500), tf.float32)
    many, few = graph(bits), graph(bits[:2])
    for whole, part in zip(many, few, strict=True):
        np.testing.assert_array_equal(whole[:2], part)
    assert not np.all(many[1])
    assert graph.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("decoder", ["layered", pytest.param("sionna", marks=pytest.mark.slow)])
def test_xla_compiles_the_whole_link(decoder):
    link, call = short_link(11, "rayleigh", decoder=decoder), {"snr_db": 6.5, "seed": 3}
    bits = random_bits(4, 3 * link.block_payload + 9)
    graph = in_graph(link, bits.shape[1], jit_compile=True, **call, **ESTIMATED)
    bits_hat, ok = graph(tf.constant(bits, tf.float32))
    eager_bits_hat, eager_ok = link(tf.constant(bits), **call, **ESTIMATED)
    np.testing.assert_array_equal(bits_hat, eager_bits_hat)
    np.testing.assert_array_equal(ok, eager_ok)
    assert 0 < np.count_nonzero(ok) < ok.shape.num_elements()


@pytest.mark.slow
@pytest.mark.parametrize("mcs", [0, 4, 11, 19, 28])
def test_a_graph_gives_what_arrays_give_at_the_length_of_the_paper(mcs):
    link = CodedLink(mcs, "awgn")
    bits = random_bits(1, 5 * link.block_payload + 100)
    call = {"snr_db": 25.0, "seed": 2}
    bits_hat, ok = in_graph(link, bits.shape[1], **call)(tf.constant(bits, tf.float32))
    np.testing.assert_array_equal(bits_hat, bits)
    np.testing.assert_array_equal(ok[0], link(bits[0], **call)[1])


@pytest.mark.parametrize("dtype", [tf.uint8, tf.int32, tf.float64])
def test_tensors_outside_of_a_graph_keep_shape_and_dtype(dtype):
    link = short_link(11, "awgn")
    bits = random_bits(500)
    expected = link(bits, snr_db=4.0, seed=2, return_llr=True)
    for given in (tf.constant(bits, dtype), tf.constant(bits[None], dtype)):
        received = link(given, snr_db=4.0, seed=2, return_llr=True)
        assert received[0].dtype == dtype
        assert received[0].shape == given.shape
        for one, other in zip(received, expected, strict=True):
            np.testing.assert_array_equal(np.reshape(one, other.shape), other)


def test_rows_meet_independent_realisations_and_may_have_their_own_snr():
    link = short_link(11, "rayleigh")
    bits = tf.constant(np.tile(random_bits(1, 700), (2, 1)))
    call = {"seed": 2, "return_llr": True}
    own, common = (link(bits, snr_db=snr, **call)[2].numpy() for snr in ([9.0, 3.0], 9.0))
    np.testing.assert_allclose(own[0], common[0], rtol=1e-4, atol=1e-4)
    assert np.abs(own[1]).mean() < 0.7 * np.abs(common[1]).mean()
    assert abs(np.corrcoef(common)[0, 1]) < 0.99


@pytest.mark.parametrize("mcs", [0, 11, 22])
@pytest.mark.parametrize("blocks", [0, 2])
def test_llrs_are_those_of_the_coded_bits(mcs, blocks):
    """Without noise their signs are the bits, and there are as many as channel uses carry."""
    link = short_link(mcs, "awgn")
    bits = random_bits(2, blocks * link.block_payload + 9)
    llr = link(tf.constant(bits), snr_db=40.0, seed=1, return_llr=True)[2]
    coded = link.encode(tf.constant(bits, tf.float32))
    num_coded_bits = link.num_channel_uses(bits.shape[1]) * link.mcs.num_bits_per_symbol
    assert coded.shape == (2, num_coded_bits)
    np.testing.assert_array_equal(llr.numpy() > 0, coded.numpy() == 1)
    np.testing.assert_array_equal(link.encode(bits[0]), coded[0])
    graph = tf.function(link.encode)(tf.constant(bits, tf.float32))
    np.testing.assert_array_equal(graph, coded)


class Amplified:
    """A channel object whose transmitter scales what it sends."""

    def __init__(self, channel, jit_compile):
        self.amplitude = tf.Variable(1.0)
        self.channel, self.jit_compile = channel, jit_compile

    def __call__(self, x, **call):
        return self.channel(tf.cast(self.amplitude, x.dtype) * x, **call)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_llrs_are_differentiable_through_snr_and_what_the_channel_computes_with(jit_compile):
    channel = Amplified(BlockFading(csi_nmse_db=-20.0, equalizer="lmmse"), jit_compile)
    link = short_link(11, channel)
    bits = tf.constant(random_bits(2, 300), tf.float32)

    def loss_of(snr_db):
        *_, llr = link(bits, snr_db=snr_db, seed=1, return_llr=True)
        losses = tf.nn.sigmoid_cross_entropy_with_logits(link.encode(bits), llr)
        return tf.reduce_mean(losses)

    @tf.function
    def slopes(snr_db):
        with tf.GradientTape() as tape:
            tape.watch(snr_db)
            loss = loss_of(snr_db)
        return tape.gradient(loss, [snr_db, channel.amplitude])

    by_snr, by_amplitude = slopes(tf.constant(6.0))
    step = 0.05
    difference = loss_of(6.0 + step) - loss_of(6.0 - step)
    assert float(by_snr) == pytest.approx(float(difference) / (2 * step), rel=0.05)
    losses = []
    for amplitude in (1 + step, 1 - step):
        channel.amplitude.assign(amplitude)
        losses.append(float(loss_of(6.0)))
    assert float(by_amplitude) == pytest.approx((losses[0] - losses[1]) / (2 * step), rel=0.05)


def test_a_seed_may_be_a_tensor_and_another_seed_does_not_trace_again():
    link = short_link(11, "rayleigh")
    bits = random_bits(500)

    @tf.function
    def llr_of(seed):
        return link(tf.constant(bits), snr_db=4.0, seed=seed, return_llr=True)[2]

    for seed in (1, 2**40 + 7):
        *_, expected = link(bits, snr_db=4.0, seed=seed, return_llr=True)
        llr = llr_of(tf.constant(seed, tf.int64))
        np.testing.assert_allclose(llr, expected, rtol=1e-4, atol=1e-4)
    assert llr_of.experimental_get_tracing_count() == 1


def test_no_bits_are_no_blocks():
    link = short_link(11, "awgn")
    call = {"snr_db": 4.0, "seed": 2, "return_llr": True}
    for given in (np.zeros(0, np.uint8), tf.zeros([0]), tf.zeros([3, 0], tf.uint8)):
        received = link(given, **call)
        assert [part.shape for part in received] == [given.shape] * 3
        assert received[0].dtype == given.dtype
        assert link.encode(given).shape == given.shape
    received = in_graph(link, 0, **call)(tf.zeros([2, 0]))
    assert [part.shape for part in received] == [(2, 0)] * 3


def test_in_a_graph_blocks_with_llrs_that_are_not_finite_fail():
    class Silent(Awgn):
        def call(self, x, *, snr_db, seed, first_symbol=0):
            output = super().call(x, snr_db=snr_db, seed=seed, first_symbol=first_symbol)
            is_second = tf.range(tf.shape(x)[1]) // 120 == 1
            return output._replace(no_eff=tf.where(is_second, np.nan, output.no_eff))

    link = short_link(11, Silent())
    bits = np.ones((1, 3 * link.block_payload), np.uint8)
    bits_hat, ok = in_graph(link, bits.shape[1], snr_db=20.0, seed=1)(tf.constant(bits, tf.float32))
    np.testing.assert_array_equal(ok, [[True, False, True]])
    blocks = np.reshape(bits_hat, [3, -1])
    np.testing.assert_array_equal(blocks, [[1], [0], [1]] * np.ones_like(blocks))


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"bits": tf.constant([0.0, 0.5])}, "zeros and ones"),
        ({"bits": tf.constant([0, 2])}, "zeros and ones"),
        ({"bits": tf.zeros([2, 2, 2])}, r"\[batch, num_bits\]"),
        ({"bits": tf.zeros([])}, r"\[batch, num_bits\]"),
        ({"bits": tf.constant([True])}, "bool"),
        ({"bits": tf.zeros([2], tf.complex64)}, "complex64"),
        ({"snr_db": tf.zeros([3])}, "snr_db"),
        ({"snr_db": tf.zeros([1, 1])}, "snr_db"),
        ({"snr_db": np.nan}, "snr_db"),
        ({"seed": -1}, "seed"),
        ({"seed": tf.constant(1.0)}, "seed"),
        ({"csi_nmse_db": -10.0}, "csi_nmse_db"),
    ],
)
def test_bad_tensors_are_refused_by_what_is_bad(change, word):
    link = short_link(11, "awgn")
    with pytest.raises(InputError, match=word):
        link(**{"bits": tf.zeros([2, 9]), "snr_db": 4.0, "seed": 1, **change})


def test_a_graph_refuses_a_number_of_bits_that_is_open():
    link = short_link(11, "awgn")

    @tf.function(input_signature=[tf.TensorSpec([2, None])])
    def graph(bits):
        return link(bits, snr_db=4.0, seed=1)

    with pytest.raises(InputError, match="static num_bits"):
        graph.get_concrete_function()


@pytest.mark.parametrize(
    ("returned", "word"),
    [
        (lambda x, no: (x, no), "tuple"),
        (lambda x, no: None, "NoneType"),
        (lambda x, no: ChannelOutput(x[:, 1:], no, 0, {}), "x_hat complex64"),
        (lambda x, no: ChannelOutput(tf.cast(x, tf.complex128), no, 0, {}), "x_hat complex128"),
        (lambda x, no: ChannelOutput(x, no[:, 0], 0, {}), r"no_eff float32 \(None,\)"),
        (lambda x, no: ChannelOutput(x, x, 0, {}), "no_eff complex64"),
        (lambda x, no: ChannelOutput(x, 0.1, 0, {}), "no_eff <class 'float'>"),
    ],
)
def test_a_channel_that_breaks_its_contract_is_named_at_first_use(returned, word):
    def channel(x, *, snr_db, seed, first_symbol=0):
        return returned(x, tf.ones_like(tf.math.real(x)))

    link = short_link(11, channel)
    with pytest.raises(InputError, match=f"what the channel returned: .*{word}"):
        link(random_bits(30), snr_db=4.0, seed=1)
    with pytest.raises(InputError, match="what the channel returned"):
        tf.function(lambda bits: link(bits, snr_db=4.0, seed=1))(tf.zeros([1, 30]))
