"""Bad values that a program gives: each is an ``InputError`` with its four parts."""

import pytest
import tensorflow as tf

from pvsc_link import CodedLink, channels
from pvsc_link.link import (
    CHANNELS,
    Harq,
    Impairments,
    Transport,
    get_coded_link,
    get_mcs,
    measure_bler,
)
from pvsc_link.types import ChannelPoint, InputError


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transport(block_length=3), "Transport: block_length: found 3"),
        (lambda: Transport(harq={"combining": "sum"}), "harq.combining: found 'sum'"),
        (lambda: Transport(harq={}, segmentation="shortened"), "segmentation with harq"),
        (lambda: Transport(blok_length=3), "Did you mean 'block_length'"),
        (lambda: Harq(max_retransmissions=0), "Harq: max_retransmissions: found 0"),
        (lambda: Impairments(erasure_rate=2), "Impairments: erasure_rate: found 2"),
        (lambda: CHANNELS["ofdm"].Condition(num_rx=0), "num_rx: found 0"),
        (lambda: CHANNELS["rician"].Condition(), "k_factor_db: found None"),
        (lambda: CodedLink(5, "awgn", transport={"block_length": 480}), "a pvsc_link.link.Transp"),
        (lambda: get_coded_link(5, "awgn", transport={}), "a pvsc_link.link.Transport"),
        (lambda: CodedLink(5, 3), "channel object: found 3"),
        (lambda: CodedLink(5, ["awgn"]), "channel object"),
        (lambda: channels.Impaired(None), "channel object: found None"),
        (lambda: channels.Awgn(equalizer=["zf"]), "equalizer"),
        (lambda: get_mcs(5, 1, "6144"), "block_length: found '6144'"),
    ],
)
def test_bad_values_from_python_are_told_with_a_remedy(make, message):
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert caught.value.allowed
    assert caught.value.remedy


@pytest.mark.parametrize("snr_db", ["6 dB", None, {}])
def test_an_snr_that_is_no_number_is_refused(snr_db):
    with pytest.raises(InputError, match="snr_db"):
        channels.Awgn()(tf.ones([1, 4], tf.complex64), snr_db=snr_db, seed=1)
    with pytest.raises(InputError, match="snr_db"):
        measure_bler(5, ChannelPoint("awgn", snr_db), max_blocks=1)
