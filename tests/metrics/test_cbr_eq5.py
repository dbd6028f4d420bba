"""CBR as in eq. 5: complex channel uses per unpadded source sample."""

import pytest

from pvsc_link.metrics.cbr import cbr
from pvsc_link.types import InputError


def test_one_channel_use_per_sample_is_a_ratio_of_one():
    assert cbr({"source": 4 * 144 * 176 * 3}, 4, 144, 176) == {"cbr": 1.0, "cbr_source": 1.0}


def test_side_information_counts_and_the_parts_add_up():
    ratios = cbr({"source": 3000, "side": 500, "padding": 0}, 2, 240, 416)
    assert ratios["cbr"] == pytest.approx(3500 / (2 * 240 * 416 * 3))
    parts = ratios["cbr_source"] + ratios["cbr_side"] + ratios["cbr_padding"]
    assert ratios["cbr"] == pytest.approx(parts, rel=1e-12)


def test_nothing_sent_is_a_ratio_of_zero():
    assert cbr({}, 1, 16, 16) == {"cbr": 0.0}


@pytest.mark.parametrize(
    ("uses", "size"),
    [
        ({"source": -1}, (1, 16, 16)),
        ({"source": 0.5}, (1, 16, 16)),
        ({"source": float("nan")}, (1, 16, 16)),
        ({"": 5}, (1, 16, 16)),
        ({"source": 5}, (0, 16, 16)),
        ({"source": 5}, (1, -16, 16)),
    ],
)
def test_impossible_counts_and_sizes_are_refused(uses, size):
    with pytest.raises(InputError):
        cbr(uses, *size)
