"""The grid: every list is an axis, ids are stable, axes that do not apply collapse."""

from dataclasses import replace

import pytest

from pvsc_link.link.registry import Impairments
from pvsc_link.link.transport_options import Harq, Transport
from pvsc_link.scenario.grid import expand
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.types import InputError


def scenario(link, entry=None, **top):
    resolved = {
        "scheme": "x265",
        "variant": "psy",
        "rates": [27, 32],
        "equalizer": "lmmse",
        "csi_aware": True,
    }
    return parse_scenario(
        {
            "name": "demo",
            "media": {"clips": ["bikes"], "gop": 4},
            "link": link,
            "schemes": [resolved | (entry or {})],
            **top,
        }
    )


RAYLEIGH = {"channel": "rayleigh", "snr_db": [0, 6], "csi_nmse_db": [None, -10]}


def test_every_list_multiplies_the_grid():
    points = expand(
        scenario(RAYLEIGH | {"coherence_length": [1, 16]}, {"mcs": [3, 9]}, seed=[1, 2])
    )
    assert len(points) == 2 * 2 * 2 * 2 * 2 * 2  # snr, nmse, coherence, mcs, seed, rate
    assert len({point.point_id for point in points}) == len(points)


def test_nmse_and_coherence_collapse_under_awgn():
    axes = {"csi_nmse_db": [None, -10], "coherence_length": [1, 16]}
    points = expand(scenario({"channel": ["awgn", "rayleigh"], "snr_db": [0, 6]} | axes))
    conditions = [p.channel_point.condition for p in points if p.channel == "awgn"]
    assert conditions == [{"csi_nmse_db": None, "coherence_length": None}] * 4  # snr, rate


@pytest.mark.parametrize(
    ("channel", "key"),
    [
        ({"channel": "awgn"}, {"csi_nmse_db": -10}),
        ({"channel": ["awgn", "ofdm"]}, {"csi_nmse_db": [None, -10]}),
        ({"channel": "ofdm", "channel_model": "umi"}, {"delay_spread_ns": 30}),
        ({"channel": "ofdm"}, {"cir_file": "absent.npz"}),
        ({"channel": "rayleigh"}, {"k_factor_db": 3}),
    ],
)
def test_a_key_that_no_channel_takes_is_refused(channel, key):
    with pytest.raises(InputError, match=next(iter(key))):
        expand(scenario({"snr_db": 6} | channel | key))


def test_a_key_that_is_its_default_belongs_to_every_channel():
    points = expand(scenario({"channel": "awgn", "snr_db": 6, "coherence_length": 1}))
    assert len(points) == 2


def test_awgn_beside_rayleigh_keeps_the_axes_of_rayleigh():
    points = expand(scenario(RAYLEIGH | {"channel": ["awgn", "rayleigh"]}))
    assert sum(point.channel == "awgn" for point in points) == 2 * 2
    assert sum(point.channel == "rayleigh" for point in points) == 2 * 2 * 2


def test_impairments_that_are_off_change_no_id():
    off = dict.fromkeys(Impairments.model_fields) | {"erasure_burst": 5, "phase_interval": 64}
    for link in ({"channel": "awgn", "snr_db": 6}, RAYLEIGH):
        before, after = expand(scenario(link)), expand(scenario(link | off))
        assert [p.point_id for p in after] == [p.point_id for p in before]
        assert after == before


def test_impairments_are_axes_under_every_channel():
    on = {"erasure_rate": [None, 0, 0.1], "erasure_burst": [2, 8], "clip_papr_db": [None, 3]}
    points = expand(scenario(RAYLEIGH | {"channel": ["awgn", "rayleigh"]} | on))
    rates = 2 + 2 + 2 * 2  # erased: not at all, at rate 0, at 0.1 in bursts; clipped or not
    assert len(points) == rates * (2 + 2 * 2) * 2  # conditions of both channels, rates
    assert len({point.point_id for point in points}) == len(points)
    conditions = [point.channel_point.condition for point in points]
    assert {c.get("erasure_rate") for c in conditions} == {None, 0, 0.1}
    assert all("erasure_burst" not in c for c in conditions if not c.get("erasure_rate"))


def test_the_transport_is_axes_for_every_channel_and_its_defaults_change_no_id():
    plain = expand(scenario({"snr_db": 6}))
    said = {"block_length": 6144, "segmentation": "equal", "harq": "none", "interleaving": "none"}
    assert expand(scenario({"snr_db": 6} | said)) == plain
    axes = {"block_length": [1536, 6144, 8448], "mcs_table": [1, 2]}
    points = expand(scenario(RAYLEIGH | {"channel": ["awgn", "rayleigh"]} | axes))
    assert len({point.point_id for point in points}) == len(points) == 3 * 2 * (2 + 2 * 2) * 2
    assert {point.coordinates["block_length"] for point in points} == {1536, 6144, 8448}


def test_harq_sends_frame_by_frame_and_is_an_axis():
    points = expand(scenario({"snr_db": 6, "harq": ["none", {}, {"combining": "chase"}]}))
    units = {point.transport.harq: point.transport.transport_unit for point in points}
    assert units == {None: "gop", Harq(): "frame", Harq(combining="chase"): "frame"}


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"harq": {"combining": "sum"}}, "combining"),
        ({"harq": {}, "segmentation": "shortened"}, "segmentation with harq"),
        ({"harq": {"max_retransmissions": 0}}, "max_retransmissions"),
        ({"harq": ["none", {}], "transport_unit": "gop"}, "transport_unit with harq"),
        ({"harq": {}, "symbol_rate_hz": 1e12}, "round trips of harq"),
        ({"harq": {"round_trip_ms": 4}, "latency_budget_ms": [3, 4]}, "round_trip_ms, which is 4"),
        ({"harq": [{}, {"round_trip_ms": 12}], "latency_budget_ms": 10}, "which is 12"),
    ],
)
def test_a_harq_that_cannot_work_is_refused(keys, message):
    with pytest.raises(InputError, match=message):
        expand(scenario({"snr_db": 6} | keys))


def test_a_budget_below_the_round_trip_sends_once_and_says_so_beside_larger_ones():
    points = expand(scenario({"snr_db": 6, "harq": ["none", {}], "latency_budget_ms": [4, 5]}))
    notes = {(p.transport.harq is None, p.transport.latency_budget_ms): p.transport for p in points}
    assert [key for key, transport in notes.items() if transport.note] == [(False, 4.0)]
    assert "round trip of 4 ms: nothing is sent again" in notes[False, 4.0].note


def test_a_transport_says_what_harq_does_in_one_cell():
    told = Transport(harq=Harq(combining="chase"))
    cell = '{"combining": "chase", "max_retransmissions": 3, "round_trip_ms": 4.0}'
    assert told.columns()["harq"] == cell
    assert Transport().columns()["harq"] is None


@pytest.mark.parametrize(
    "bad",
    [
        {"mcs_table": 4},
        {"block_length": 20},
        {"block_length": 6144.5},
        {"harq": "always"},
        {"latency_budget_ms": float("inf")},
    ],
)
def test_a_bad_transport_is_refused(bad):
    with pytest.raises(InputError, match=next(iter(bad))):
        scenario({"snr_db": 6} | bad)


def test_a_rate_of_erasures_that_its_bursts_cannot_have_is_refused():
    with pytest.raises(InputError, match=r"erasure_rate: found 0.8; allowed: at most 0.66"):
        expand(scenario({"snr_db": 6, "erasure_rate": 0.8, "erasure_burst": 2}))


def test_an_id_does_not_depend_on_its_neighbours():
    alone = expand(scenario({"snr_db": 6}))
    among = expand(scenario({"snr_db": [0, 6, 10]}, {"rates": [22, 27, 32]}))
    assert {p.point_id for p in alone} <= {p.point_id for p in among}


def test_an_id_changes_with_every_coordinate_but_the_place_in_the_file():
    point = expand(scenario({"snr_db": 6}))[0]
    assert replace(point, entry=7).point_id == point.point_id
    louder = replace(point.channel_point, snr_db=6.5)
    changes = {"channel_point": louder, "rate": 28, "seed": 2, "mcs": 4, "decoder": "sionna"}
    changes["transport"] = Transport(segmentation="shortened")
    for name, value in changes.items():
        assert replace(point, **{name: value}).point_id != point.point_id, name


def test_ids_are_the_same_in_every_run_and_version():
    awgn = expand(scenario({"snr_db": 6}, {"preset": "fast", "timeout_s": 60}))[0]
    fading = expand(scenario(RAYLEIGH | {"coherence_length": 16}, {"mcs": 9}))[-1]
    assert (awgn.point_id, fading.point_id) == ("d4f1b551c86fae4e", "eacb8f3e1b742997")
