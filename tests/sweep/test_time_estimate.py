"""``--dry-run`` loads no TensorFlow and estimates the time from the rows of earlier sweeps."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from pvsc_link.scenario import parse_scenario
from pvsc_link.sweep.estimate import duration, estimate
from pvsc_link.sweep.plan import build


def plan_of(clip="carphone", rates=(27, 37)):
    return build(
        parse_scenario(
            {
                "name": "timed",
                "media": {"clips": clip, "gop": 2, "num_gops": 1},
                "link": {"channel": "awgn", "snr_db": [6, 9]},
                "schemes": [{"scheme": "x265", "rates": list(rates), "mcs": 4}],
            }
        )
    )


@pytest.fixture
def earlier(tmp_path):
    """A sweep of two rows of four frames: 8 s in rows, and 4 s that went into encoding."""

    def write(clip="carphone", scheme="x265", ids=("a", "b"), name="earlier"):
        folder = tmp_path / name
        folder.mkdir()
        rows = {"point_id": list(ids), "scheme": scheme, "clip": clip}
        pd.DataFrame(rows | {"num_frames": 4, "seconds": 4.0}).to_csv(
            folder / "points.csv", index=False
        )
        stages = {"encode": 4.0, "link and decoding": 8.0}
        (folder / "manifest.json").write_text(json.dumps({"seconds_by_stage": stages}))
        return folder

    return write


def test_rows_of_the_same_clip_give_their_mean_by_frame(earlier, tmp_path):
    told = estimate(plan_of(), tmp_path / "timed", [earlier()])
    assert told.num_points == told.num_timed == 4
    assert told.seconds == pytest.approx(4 * 2 * (4.0 + 2.0) / 4)
    assert "about 12 s" in str(told)


def test_other_clips_count_by_pixel(earlier, tmp_path):
    bikes, carphone = (plan_of(clip).sizes[clip] for clip in ("bikes", "carphone"))
    told = estimate(plan_of(), tmp_path / "timed", [earlier(clip="bikes")])
    share = carphone[0] * carphone[1] / (bikes[0] * bikes[1])
    assert told.seconds == pytest.approx(12.0 * share)


def test_a_scheme_that_never_ran_is_told(earlier, tmp_path):
    told = estimate(plan_of(), tmp_path / "timed", [earlier(scheme="vvenc")])
    assert told.num_timed == 0
    assert "unknown" in str(told)


def test_what_has_a_row_costs_nothing(earlier, tmp_path):
    plan = plan_of()
    own = earlier(ids=[plan.points[0].point_id, plan.points[1].point_id], name="timed")
    assert estimate(plan, own, []).num_points == 2
    done = earlier(ids=[point.point_id for point in plan.points], name="done")
    assert "nothing to run" in str(estimate(plan, done, []))


def test_a_folder_without_times_is_passed_over(tmp_path):
    (tmp_path / "points.csv").write_text("point_id,scheme\n1,x265\n")
    assert estimate(plan_of(), tmp_path, [tmp_path / "absent"]).num_timed == 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (45, "45 s"), (600, "10 min"), (12_000, "3 h 20 min"), (7_199, "2 h 00 min")],
)
def test_durations_are_told_in_the_two_largest_units(seconds, text):
    assert duration(seconds) == text


def test_a_dry_run_loads_no_tensorflow(tmp_path):
    code = (
        "import sys\nfrom pvsc_link.sweep.__main__ import main\n"
        "assert main(['baselines', '--dry-run']) == 0\n"
        "heavy = {'tensorflow', 'keras', 'sionna', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
