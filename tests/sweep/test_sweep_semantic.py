"""PVSC in a sweep: beside its baseline, counted by part, never mistaken for a trained model."""

import numpy as np
import pandas as pd
import pytest

from pvsc_link.scenario.loader import load_scenario
from pvsc_link.sweep import __main__ as command
from pvsc_link.sweep.mcs import SideMcsPolicy
from pvsc_link.sweep.plan import build
from pvsc_link.sweep.runner import _batches
from pvsc_link.sweep.store import SweepStore, read_points

LINK = {"channel": "rayleigh", "snr_db": [10, 16], "csi_nmse_db": -20}


def run(scenario, out, *words):
    return command.main([str(scenario), "--out", str(out), *words])


@pytest.fixture
def both(write_scenario, micro):
    """PVSC named before its baseline, which has to be sent first all the same."""
    schemes = [
        {"scheme": "pvsc-mc", "preset": micro},
        {"scheme": "x265", "rates": [27, 32, 37, 42]},
    ]
    media = {"clips": ["carphone"], "gop": 2, "num_gops": 2}
    return lambda **changes: write_scenario(
        **{"media": media, "link": LINK, "schemes": schemes, "anchor": "x265"} | changes
    )


def test_pvsc_stands_beside_its_baseline(rough_bler, both, micro, tmp_path):
    assert run(both(), tmp_path / "out") == 0
    folder = tmp_path / "out" / "small"
    points = read_points(folder)
    ours, theirs = points[points.scheme == "pvsc-mc"], points[points.scheme == "x265"]
    assert len(ours) == 2 * 3
    assert set(ours.variant) == {micro}
    assert set(ours.equalizer) == {"zf"}
    assert not ours.csi_aware.any()
    for snr_db, rows in ours.groupby("snr_db"):
        assert set(rows.mcs) == set(theirs[theirs.snr_db == snr_db].mcs), "the baseline's MCS"
    np.testing.assert_allclose(ours.cbr, ours.cbr_source + ours.cbr_side, rtol=1e-12)
    np.testing.assert_allclose(ours.cbr_source, ours.cbr_y + ours.cbr_intra, rtol=1e-12)
    np.testing.assert_allclose(ours.cbr_side, ours.cbr_z + ours.cbr_k, rtol=1e-12)
    assert (ours[["cbr_y", "cbr_intra", "cbr_z", "cbr_k", "cbr_motion"]] > 0).all(axis=None)
    assert (ours.cbr_motion < ours.cbr_z).all()
    assert (ours.side_lost <= ours.frames_lost).all()
    assert set(ours.status) == {"untrained"}
    assert not (pd.read_csv(folder / "bd_cbr.csv").scheme == "pvsc-mc").any()
    # The switch changes what is compared; no row is sent again.
    seconds = ours.seconds.tolist()
    assert run(both(), tmp_path / "out", "--with-untrained") == 0
    again = read_points(folder)
    assert again[again.scheme == "pvsc-mc"].seconds.tolist() == seconds
    assert (pd.read_csv(folder / "bd_cbr.csv").scheme == "pvsc-mc").any()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"preset": "pvsc_huge"}, "pvsc_tiny"),
        ({"side_format": "gif"}, "payload"),
        ({"weights": "no/such/folder"}, "inter.weights.h5"),
        ({"rates": [6]}, "rate"),
        ({"variant": "psy"}, "variant"),
        ({"binary": "/bin/true"}, "binary"),
    ],
)
def test_what_pvsc_does_not_have_is_told_at_load(entry, said, write_scenario, tmp_path, capsys):
    scenario = write_scenario(schemes=[{"scheme": "pvsc-mc", **entry}], anchor=None)
    assert run(scenario, tmp_path / "out") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_stop_rule_on_lpips_needs_lpips(write_scenario, tmp_path, capsys):
    scenario = write_scenario(stop={"lpips_interval": 0.01}, metrics=["psnr"])
    assert run(scenario, tmp_path / "out") == 2
    assert "lpips" in capsys.readouterr().err


@pytest.fixture
def policy(both, tmp_path, monkeypatch):
    """The policy of one clip with a store without rows, and BLER as a table: clean up to MCS 9."""
    plan = build(load_scenario(both()))
    monkeypatch.setattr("pvsc_link.sweep.mcs._bler", lambda p, o, mcs, n, **_: float(mcs > 9))
    store = SweepStore(tmp_path / "store", version="test")
    yield plan, store, SideMcsPolicy(plan, store, plan.points)
    store.close()


def test_without_a_baseline_the_fastest_clean_mcs_is_taken(policy):
    plan, _, of_clip = policy
    point = next(p for p in plan.points if p.scheme == "pvsc-mc")
    assert of_clip.choices(point)[0].mcs in (9, 10)


def test_the_mcs_is_that_of_the_baseline_at_the_same_condition(policy):
    plan, store, of_clip = policy
    for point in plan.points:
        if point.scheme == "x265":
            mcs = {10.0: 3, 16.0: 7}[point.snr_db]
            store.add([{"point_id": point.point_id, "mcs": mcs, "status": "ok"}])
    ours = [point for point in plan.points if point.scheme == "pvsc-mc"]
    assert {point.snr_db for point in ours} == {10.0, 16.0}
    for point in ours:
        assert of_clip.choices(point)[0].mcs == {10.0: 3, 16.0: 7}[point.snr_db]


def test_an_mcs_that_the_scenario_gives_is_kept(both, micro, policy, tmp_path):
    _, _, of_clip = policy
    given = both(schemes=[{"scheme": "pvsc-mc", "preset": micro, "mcs": 2}], anchor=None)
    point = build(load_scenario(given)).points[0]
    choice = of_clip.choices(point)[0]
    assert (choice.mcs, choice.role, choice.bler) == (2, "given", None)


def test_a_batch_never_holds_two_seeds_of_one_point(both):
    scenario = load_scenario(both(seed=[1, 2, 3]))
    points = [p for p in build(scenario).points if p.scheme == "pvsc-mc"]
    batches = list(_batches(points, 8))
    assert [point for batch in batches for point in batch] == points
    assert max(map(len, batches)) > 1
    for batch in batches:
        places = [(p.rate, p.snr_db) for p in batch]
        assert len(set(places)) == len(places) <= 8


def test_a_baseline_that_is_added_moves_the_mcs_of_finished_side_information(
    rough_bler, both, micro, tmp_path, monkeypatch
):
    """Alone it takes the fastest clean MCS, beside a baseline that of the baseline."""
    monkeypatch.setattr("pvsc_link.sweep.mcs._bler", lambda p, o, mcs, n, **_: float(mcs > 9))
    pvsc = {"scheme": "pvsc-mc", "preset": micro, "rates": [0, 1]}
    alone = {"schemes": [pvsc], "anchor": None, "metrics": ["psnr"]}
    beside = {"schemes": [pvsc, {"scheme": "x264", "rates": [37], "mcs": 3}], "anchor": "x264"}
    assert run(both(**alone), tmp_path / "grown") == 0
    before = read_points(tmp_path / "grown" / "small")
    assert run(both(**alone | beside), tmp_path / "grown") == 0
    grown = read_points(tmp_path / "grown" / "small")
    assert set(before.mcs) != set(grown.mcs) == {3}
    assert run(both(**alone | beside), tmp_path / "fresh") == 0
    fresh = read_points(tmp_path / "fresh" / "small")
    pd.testing.assert_frame_equal(grown.drop(columns="seconds"), fresh.drop(columns="seconds"))
