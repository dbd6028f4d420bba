"""Seeds: as many as the scenario lists, or until a bound is met; and what they say together."""

from dataclasses import fields, replace

import numpy as np
import pandas as pd
import pytest

from pvsc_link.intervals import bootstrap_interval
from pvsc_link.scenario.grid import expand
from pvsc_link.scenario.schema import Scenario
from pvsc_link.sweep import __main__ as command
from pvsc_link.sweep.rows import link_seeds
from pvsc_link.sweep.runner import is_enough
from pvsc_link.sweep.store import points_table, read_points
from pvsc_link.sweep.tables import seed_keys, seed_means

BASE = {
    "name": "x",
    "media": {"clips": "c"},
    "link": {"snr_db": 1},
    "schemes": [{"scheme": "x265"}],
}


def rows(lpips, frames_lost=0, seconds=1.0, status="ok"):
    return [
        {"lpips": value, "frames_lost": frames_lost, "seconds": seconds, "status": status}
        for value in lpips
    ]


@pytest.mark.parametrize(
    ("rule", "so_far", "enough"),
    [
        ({}, rows([0.2] * 9), False),
        ({"lpips_interval": 0.01}, rows([0.2]), False),
        ({"lpips_interval": 0.01}, rows([0.2, 0.2]), True),
        ({"lpips_interval": 0.01}, rows([0.2, 0.3, 0.25]), False),
        ({"lpips_interval": 0.24}, rows([0.2, 0.3, 0.25]), False),  # from end to end 0.248
        ({"lpips_interval": 0.25}, rows([0.2, 0.3, 0.25]), True),
        ({"psnr_interval": 1.0}, [{**row, "psnr_db": 30.0} for row in rows([0.2] * 2)], True),
        ({"frame_errors": 4}, rows([0.2], frames_lost=3), False),
        ({"frame_errors": 4}, rows([0.2, 0.3], frames_lost=2), True),
        ({"seconds": 3.0}, rows([0.2, 0.3], seconds=1.4), False),
        ({"seconds": 3.0}, rows([0.2, 0.3], seconds=1.6), True),
        ({"lpips_interval": 1e-9, "seconds": 1.0}, rows([0.2, 0.3]), True),
        ({}, rows([0.2], status="codec_error"), True),
    ],
)
def test_one_bound_that_is_met_is_enough(rule, so_far, enough):
    scenario = Scenario.model_validate(BASE | {"stop": rule})
    assert is_enough(scenario.stop, so_far) == enough


def test_seeds_of_a_rule_follow_those_that_are_listed():
    listed = BASE | {"seed": [4, 2]}
    assert Scenario.model_validate(listed).seeds == [4, 2]
    with_rule = listed | {"stop": {"max_seeds": 4}}
    assert Scenario.model_validate(with_rule).seeds == [4, 2, 5, 6]


@pytest.fixture
def point():
    """One point in Rayleigh fading, of seed 1."""
    entry = {"scheme": "x265", "variant": "psy", "equalizer": "lmmse", "csi_aware": True}
    made = {
        "name": "x",
        "media": {"clips": "carphone", "gop": 4},
        "link": {"channel": "rayleigh", "snr_db": 6, "csi_nmse_db": -10, "coherence_length": 2},
        "schemes": [entry | {"mcs": 5, "rates": [32]}],
        "seed": [1],
    }
    return expand(Scenario.model_validate(made))[0]


def changed(point, change):
    """``point`` with other values, of the point itself or of its channel condition."""
    names = {f.name for f in fields(point)}
    own = {name: value for name, value in change.items() if name in names}
    condition = {name: value for name, value in change.items() if name not in names}
    return replace(point, channel_point=replace(point.channel_point, **condition), **own)


@pytest.mark.parametrize(
    "change",
    [{"seed": 2}, {"channel": "awgn"}, {"coherence_length": 3}, {"clip": "bikes"}, {"gop": 8}],
)
def test_gops_meet_other_draws_where_the_seed_or_the_place_is_another(point, change):
    seeds = link_seeds(point, 3) + link_seeds(changed(point, change), 3)
    assert len(set(seeds)) == 6


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "pvsc", "variant": "x", "rate": 0, "mcs": 9},
        {"snr_db": 10.0, "csi_nmse_db": None},
        {"clip": "elsewhere/carphone.mp4"},
    ],
)
def test_schemes_rates_and_snrs_meet_the_same_draws(point, change):
    assert link_seeds(changed(point, change), 3) == link_seeds(point, 3)


def test_a_sweep_stops_where_frames_are_lost_and_goes_on_where_none_is(
    own_caches, write_scenario, tmp_path, monkeypatch
):
    changes = {
        "media": {"clips": ["carphone"], "gop": 2, "num_gops": 1},
        "link": {"channel": "awgn", "snr_db": [-5, 20]},
        "schemes": [{"scheme": "x265", "rates": [37], "mcs": 9}],
        "anchor": None,
        "stop": {"frame_errors": 2, "max_seeds": 3},
    }
    words = [str(write_scenario(**changes)), "--out", str(tmp_path / "out")]
    assert command.main(words) == 0
    points = read_points(tmp_path / "out" / "small")
    assert points[points.snr_db == -5].seed.tolist() == [1]
    assert points[points.snr_db == 20].seed.tolist() == [1, 2, 3]
    means = pd.read_csv(tmp_path / "out" / "small" / "seed_means.csv")
    assert means.num_seeds.tolist() == [1, 3]
    assert means.block_error_rate.tolist() == [1.0, 0.0]
    # Decisions are read from the rows: nothing is loaded or sent again.
    monkeypatch.setattr("pvsc_link.sweep.runner.load", None)
    assert command.main(words) == 0
    pd.testing.assert_frame_equal(read_points(tmp_path / "out" / "small"), points)


def table(psnr_db, **columns):
    made = [
        dict.fromkeys(seed_keys(), "x")
        | {"seed": seed, "cbr": 0.01, "psnr_db": value, "num_blocks": 10, "num_block_errors": seed}
        | {"num_frames": 4, "gop": 4, "frames_lost": 0}
        | columns
        for seed, value in enumerate(psnr_db)
    ]
    return points_table(made)


def test_means_over_seeds_carry_a_bootstrap_interval_and_wilsons():
    values = [30.0, 31.0, 33.0]
    means = seed_means(table(values)).iloc[0]
    expected = bootstrap_interval(values)
    assert (means.psnr_db, means.psnr_db_low, means.psnr_db_high) == pytest.approx(expected)
    assert np.isnan(means.lpips)
    assert (means.num_seeds, means.num_blocks, means.num_block_errors) == (3, 30, 3)
    assert (means.num_clips, means.num_gops, means.interval_over) == (1, 3, "seeds")
    assert means.block_error_rate == pytest.approx(0.1)
    assert 0 < means.block_error_rate_low < 0.1 < means.block_error_rate_high < 0.3


def test_one_clip_and_one_seed_have_no_interval_and_the_table_says_why():
    both = pd.concat([table([30.0], rate=27), table([30.0], rate=32)])
    means = seed_means(both)
    assert means.psnr_db.tolist() == [30.0, 30.0]
    assert means.psnr_db_low.isna().all()
    assert set(means.note) == {"no interval: 1 clip and 1 seed, fewer than 3 of either"}


def test_a_mean_over_clips_resamples_clips_and_otherwise_seeds():
    clips = {"a": [30.0, 31.0, 32.0], "b": [36.0, 35.0, 37.0], "c": [40.0, 42.0, 41.0]}
    tables = [table(values, clip=clip) for clip, values in clips.items()]
    of_three = seed_means(pd.concat(tables)).iloc[-1]
    assert (of_three["clip"], of_three.num_clips, of_three.num_seeds) == ("mean", 3, 3)
    assert (of_three.num_gops, of_three.interval_over) == (9, "clips")
    expected = bootstrap_interval([31.0, 36.0, 41.0])
    found = of_three[["psnr_db", "psnr_db_low", "psnr_db_high"]].tolist()
    assert found == pytest.approx(list(expected))
    of_two = seed_means(pd.concat(tables[:2])).iloc[-1]
    assert (of_two["clip"], of_two.num_clips, of_two.interval_over) == ("mean", 2, "seeds")
    expected = bootstrap_interval([33.0, 33.0, 34.5])
    found = of_two[["psnr_db", "psnr_db_low", "psnr_db_high"]].tolist()
    assert found == pytest.approx(list(expected))


def test_clips_of_unequal_seeds_weigh_alike_and_their_common_seeds_are_resampled():
    both = [table([30.0, 31.0, 32.0], clip="a"), table([36.0, 35.0, 37.0, 60.0], clip="b")]
    mean = seed_means(pd.concat(both)).iloc[-1]
    assert (mean["clip"], mean.num_seeds, mean.interval_over) == ("mean", 4, "seeds")
    assert mean.psnr_db == pytest.approx((31.0 + 42.0) / 2)
    expected = bootstrap_interval([33.0, 33.0, 34.5])
    assert (mean.psnr_db_low, mean.psnr_db_high) == pytest.approx(expected[1:])


def test_percentiles_are_taken_over_the_gops_of_all_seeds():
    """The means of the three seeds are equal; their GOPs are not."""
    points = table([30.0, 30.0, 30.0]).assign(point_id=["a", "b", "c"])
    of_gops = np.linspace(20.0, 40.0, 60)
    lines = [
        {"point_id": "abc"[place % 3], "gop_index": place // 3, "psnr_db": value}
        for place, value in enumerate(of_gops)
    ]
    means = seed_means(points, pd.DataFrame(lines)).iloc[0]
    assert means.psnr_db_p5 == pytest.approx(np.percentile(of_gops, 5))
    assert means.psnr_db_p95 == pytest.approx(np.percentile(of_gops, 95))
    assert means.psnr_db_p95 - means.psnr_db_p5 == pytest.approx(18.0)
    lacking = pd.DataFrame(lines)[lambda lines: lines["point_id"] != "b"]
    assert np.isnan(seed_means(points, lacking).iloc[0].psnr_db_p5), "of all points or of none"


def test_fades_add_up_over_seeds_and_are_unknown_where_a_row_lacks_them():
    assert seed_means(table([30.0, 31.0], num_fades=7)).iloc[0].num_fades == 14
    assert np.isnan(seed_means(table([30.0, 31.0])).iloc[0].num_fades)


def test_counts_are_unknown_where_one_row_lacks_them():
    assert np.isnan(seed_means(table([30.0, 31.0], deadline_misses=None)).iloc[0].deadline_misses)
    points = table([30.0, 31.0]).assign(deadline_misses=[3, np.nan])
    assert np.isnan(seed_means(points).iloc[0].deadline_misses)


def test_late_frames_add_up_over_seeds():
    assert seed_means(table([30.0, 31.0], deadline_misses=3)).iloc[0].deadline_misses == 6


def test_outages_are_not_averaged_with_what_arrived():
    both = pd.concat([table([30.0, 31.0]), table([5.0], status="outage")])
    means = seed_means(both)
    assert means.num_seeds.tolist() == [2, 1]
    assert means.psnr_db.tolist() == [30.5, 5.0]
