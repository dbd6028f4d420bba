"""A sweep with HARQ and the outer loop: axes, columns, and a restart that changes nothing."""

import pytest

from pvsc_link.sweep import __main__ as command
from pvsc_link.sweep.store import read_points

LINK = {
    "channel": "rayleigh",
    "snr_db": 4,
    "coherence_length": 400,
    "harq": ["none", {"max_retransmissions": 2, "combining": "chase"}],
    "transport_unit": "frame",
    "latency_budget_ms": [3, 33],
}


def test_harq_and_the_outer_loop_through_a_sweep(own_caches, write_scenario, tmp_path):
    scenario = write_scenario(
        link=LINK, schemes=[{"scheme": "x264", "rates": [37], "mcs": ["olla", 7]}], anchor=None
    )
    again = [str(scenario), "--out", str(tmp_path / "out")]
    assert command.main(again) == 0
    folder = tmp_path / "out" / "small"
    points = read_points(folder)
    assert len(points) == 2 * 2 * 2
    loops, given = (points[points.mcs_policy == policy] for policy in ("olla", "7"))
    assert set(loops.mcs_role) == {"chosen"}
    assert loops.mcs.nunique() == 1, "neither HARQ nor a budget changes a block error rate"
    assert (loops.bler <= 0.1).all()
    assert (loops.mcs_mean - loops.mcs).abs().max() <= 2
    assert given.mcs_mean.isna().all()
    without, with_harq = (given[given.harq.isna() == plain] for plain in (True, False))
    short = with_harq[with_harq.latency_budget_ms == 3]
    assert short.note.str.contains("nothing is sent again").all()
    assert (short.num_retransmissions == 0).all()
    assert set(short.num_block_errors) == set(without.num_block_errors)
    assert not points.note.drop(points.index[points.note.str.contains("sent again")]).any()
    assert with_harq.num_block_errors.sum() < without.num_block_errors.sum()
    assert (with_harq.cbr > without.cbr.max()).any()
    assert (points.latency_ms_max <= points.latency_budget_ms).all()
    before = (folder / "points.csv").read_bytes()
    assert command.main(again) == 0
    assert (folder / "points.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("link", "entry", "message"),
    [
        ({"latency_budget_ms": 3}, {}, "round_trip_ms, which is 4"),
        ({"harq": "none", "interleaving": "gop"}, {"mcs": "olla"}, "olla with interleaving"),
        ({"harq": {"combining": "max"}}, {}, "'ir' or 'chase'"),
    ],
)
def test_what_cannot_work_ends_with_status_2(
    own_caches, write_scenario, tmp_path, capsys, link, entry, message
):
    scenario = write_scenario(
        link=LINK | link, schemes=[{"scheme": "x264", "rates": [37], **entry}], anchor=None
    )
    assert command.main([str(scenario), "--out", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
