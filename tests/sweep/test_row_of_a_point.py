"""One row of points.csv out of what was received."""

import numpy as np
import pytest

from pvsc_link.scenario.grid import expand
from pvsc_link.scenario.schema import Scenario
from pvsc_link.sweep.mcs import McsChoice
from pvsc_link.sweep.rows import finished_row
from pvsc_link.sweep.store import CHOSEN, NEIGHBOUR, gops_table, points_table
from pvsc_link.types import LinkStats, Reception, Video


class NoMetrics:
    """Stands in for the measurement of pictures."""

    def evaluate(self, metrics, frames, frames_hat, *, fps):
        assert fps == 30
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
            num_channel_uses={"source": 5000, "side": side, "pilot": 100},
            frames_lost=0,
            num_blocks=1,
            num_block_errors=0,
            header_uses=side // 100,
            finer_channel_uses={"y": 2000, "intra": 3000, "z": 400, "k": side - 400},
            stats=LinkStats(5000, csi_nmse, snr),
        )
        for side, csi_nmse, snr in ((1003, 0.3, 2.0), (605, 0.1, 6.0))
    ]
    row = finished_row(point, McsChoice(5, 0.0, CHOSEN), receptions, video, NoMetrics(), [])
    uses = {"cbr": 11808, "cbr_source": 10000, "cbr_side": 1608, "cbr_pilot": 200}
    uses |= {"cbr_y": 4000, "cbr_intra": 6000, "cbr_z": 800, "cbr_k": 808}
    uses |= {"cbr_headers": 16}  # session facts are not sent: they are no part of "cbr"
    found = {name: value for name, value in row.items() if name.startswith("cbr")}
    assert found == pytest.approx(
        {name: count / 304_128 for name, count in uses.items()}, rel=1e-12
    )
    assert row["num_frames"] == 4
    # The same number of symbols in both GOPs: errors of power 1/2 and 1/6 make 1/3, CSI errors 0.2.
    assert row["snr_equalized_db"] == pytest.approx(10 * np.log10(3))
    assert row["csi_nmse_measured_db"] == pytest.approx(10 * np.log10(0.2))


class BrightnessOnly:
    """Stands in for the measurement of pictures: the mean of what is shown, frame by frame."""

    def evaluate(self, metrics, frames, frames_hat, *, fps):
        return {"psnr_db": frames_hat.mean(axis=(1, 2, 3))}


def test_a_row_keeps_the_numbers_of_each_gop_and_counts_the_fades_it_met():
    made = {
        "name": "x",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 2},
        "link": {"snr_db": 6, "channel": "rayleigh", "csi_nmse_db": -20, "coherence_length": 1000},
        "schemes": [
            {"scheme": "x265", "variant": "psy", "equalizer": "zf", "csi_aware": False}
            | {"mcs": 5, "rates": [0]}
        ],
    }
    point = expand(Scenario.model_validate(made))[0]
    video = Video("carphone", np.zeros((4, 16, 16, 3), np.uint8), 30.0, "made here")
    receptions = [
        Reception(
            frames_hat=np.stack([np.full((16, 16, 3), v, np.uint8) for v in (level, 2 * level)]),
            num_channel_uses={"source": uses, "side": 0, "pilot": 1},
            frames_lost=lost,
            num_blocks=1,
            num_block_errors=0,
        )
        for level, uses, lost in ((10, 2000, 0), (40, 999, 1))
    ]
    row = finished_row(point, McsChoice(5, 0.0, CHOSEN), receptions, video, BrightnessOnly(), [])
    assert row["psnr_db"] == 37.5
    assert row["num_fades"] == 3 + 1, "2001 channel uses and 1000 of them, 1000 per fade"
    lines = gops_table([row])
    assert lines["point_id"].tolist() == [point.point_id] * 2
    assert lines["gop_index"].tolist() == [0, 1]
    assert lines["psnr_db"].tolist() == [15.0, 60.0]
    assert lines["channel_uses"].tolist() == [2001, 1000]
    assert lines["frames_lost"].tolist() == [0, 1]
    assert "gops" not in points_table([row])


def test_what_was_not_measured_or_estimated_has_no_value_in_its_column():
    nothing = {"csi_nmse_measured_db": None, "snr_equalized_db": None, "papr_db": None}
    assert LinkStats().columns() == nothing
    assert LinkStats.joined([LinkStats(), LinkStats()]).columns() == nothing
    parts = [
        LinkStats(5, 0.0, 10.0, 2.0),
        LinkStats(0, 1.0, 1.0, 90.0),
        LinkStats(5, 0.0, 10.0, 10.0),
    ]
    known = LinkStats.joined(parts).columns()
    assert known == {"csi_nmse_measured_db": None, "snr_equalized_db": 10.0, "papr_db": 10.0}


@pytest.mark.parametrize(
    ("bler", "role", "said"),
    [(0.88, CHOSEN, True), (0.5, CHOSEN, False), (None, CHOSEN, False), (0.88, NEIGHBOUR, False)],
)
def test_a_row_says_that_the_chosen_mcs_loses_most_blocks(bler, role, said):
    made = {
        "name": "x",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
        "link": {"snr_db": -8},
        "schemes": [{"scheme": "x265", "variant": "psy", "mcs": "best", "rates": [0]}],
    }
    point = expand(Scenario.model_validate(made))[0]
    video = Video("carphone", np.zeros((2, 16, 16, 3), np.uint8), 30.0, "made here")
    reception = Reception(
        frames_hat=video.frames,
        num_channel_uses={"source": 10, "side": 0, "pilot": 0},
        frames_lost=1,
        num_blocks=4,
        num_block_errors=3,
    )
    row = finished_row(point, McsChoice(0, bler, role), [reception], video, BrightnessOnly(), [])
    assert ("MCS 0, chosen by the rule best, loses 88 % of its blocks" in row["note"]) == said


@pytest.mark.parametrize(
    ("statuses", "lost", "said"),
    [
        (("ok", "ok"), (2, 1), "ok"),
        (("ok", "ok"), (2, 2), "outage"),
        (("ok", "untrained"), (2, 2), "untrained"),
    ],
)
def test_an_outage_is_a_row_of_which_no_frame_arrived(statuses, lost, said):
    made = {
        "name": "x",
        "media": {"clips": "carphone", "gop": 2, "num_gops": 2},
        "link": {"snr_db": 6},
        "schemes": [{"scheme": "x265", "variant": "psy", "mcs": 5, "rates": [0]}],
    }
    point = expand(Scenario.model_validate(made))[0]
    video = Video("carphone", np.zeros((4, 16, 16, 3), np.uint8), 30.0, "made here")
    receptions = [
        Reception(
            frames_hat=video.frames[:2],
            num_channel_uses={"source": 10, "side": 0, "pilot": 0},
            frames_lost=of_gop,
            num_blocks=1,
            num_block_errors=0,
            status=status,
        )
        for status, of_gop in zip(statuses, lost, strict=True)
    ]
    row = finished_row(point, McsChoice(5, 0.0, CHOSEN), receptions, video, BrightnessOnly(), [])
    assert row["status"] == said
