"""One row of points.csv out of what was received."""

import numpy as np
import pytest

from pvsc_link.scenario.grid import expand
from pvsc_link.scenario.schema import Scenario
from pvsc_link.sweep.mcs import CHOSEN, McsChoice
from pvsc_link.sweep.rows import finished_row
from pvsc_link.types import Reception, Video


class NoMetrics:
    """Stands in for the measurement of pictures."""

    def evaluate(self, metrics, frames, frames_hat):
        assert frames.shape == frames_hat.shape
        return {}


def test_the_cbr_of_a_row_is_channel_uses_over_the_samples_without_padding():
    """Two GOPs of two frames of 176x144: 4 * 176 * 144 * 3 samples, whatever padding is coded."""
    made = {
        "name": "x",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 2},
        "link": {"snr_db": 6},
        "schemes": [
            {"scheme": "x265", "variant": "psy", "equalizer": "zf", "csi_aware": False}
            | {"mcs": 5, "rates": [0]}
        ],
    }
    point = expand(Scenario.model_validate(made))[0]
    video = Video("carphone", np.zeros((5, 144, 176, 3), np.uint8), 30.0, "made here")
    receptions = [
        Reception(
            frames_hat=video.frames[:2],
            num_channel_uses={"source": 5000, "side": side},
            frames_lost=0,
            num_blocks=1,
            num_block_errors=0,
            finer_channel_uses={"y": 2000, "intra": 3000, "z": 400, "k": side - 400},
        )
        for side in (1003, 605)
    ]
    row = finished_row(point, McsChoice(5, 0.0, CHOSEN), receptions, video, NoMetrics(), [])
    uses = {"cbr": 11608, "cbr_source": 10000, "cbr_side": 1608}
    uses |= {"cbr_y": 4000, "cbr_intra": 6000, "cbr_z": 800, "cbr_k": 808}
    found = {name: value for name, value in row.items() if name.startswith("cbr")}
    assert found == pytest.approx(
        {name: count / 304_128 for name, count in uses.items()}, rel=1e-12
    )
    assert row["num_frames"] == 4
