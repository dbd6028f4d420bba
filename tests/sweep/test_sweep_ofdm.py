"""A sweep over OFDM: a codec and PVSC at two points, pilots counted, estimation measured."""

import numpy as np
import pytest

from pvsc_link.link import get_channel_function, get_coded_link
from pvsc_link.sweep import __main__ as command
from pvsc_link.sweep.store import read_points

LINK = {
    "channel": "ofdm",
    "snr_db": 14,
    "speed_kmh": [3, 60],
    "delay_spread_ns": 50,
    "num_prb": 8,
    "num_rx": 2,
}


def test_a_codec_and_pvsc_over_two_speeds(own_caches, write_scenario, micro, tmp_path):
    scenario = write_scenario(
        media={"clips": ["carphone"], "gop": 2, "num_gops": 1},
        link=LINK,
        schemes=[
            {"scheme": "x264", "rates": [42], "mcs": 4},
            {"scheme": "pvsc-mc", "preset": micro, "rates": [0], "mcs": 4},
        ],
        anchor=None,
    )
    analog = get_channel_function("ofdm", "zf", False)
    bits = get_coded_link(4, "ofdm", equalizer="lmmse", csi_aware=True)
    # Tests that ran before in this process may have traced for other conditions.
    before = analog.trace_count, bits.trace_count
    assert command.main([str(scenario), "--out", str(tmp_path / "out")]) == 0
    points = read_points(tmp_path / "out" / "small")
    assert len(points) == 4
    assert set(points.speed_kmh) == {3.0, 60.0}
    assert set(points.channel_model) == {"tdl_c"}
    np.testing.assert_allclose(
        points.cbr, points.cbr_source + points.cbr_side + points.cbr_pilot, rtol=1e-9
    )
    # Two of fourteen OFDM symbols are pilots; each stream rounds up.
    np.testing.assert_allclose(points.cbr_pilot, (points.cbr - points.cbr_pilot) / 6, rtol=1e-3)
    # Least squares at 14 dB: about -14 dB in E|h|^2, better by the average over two pilots. The
    # symbols of a GOP meet one slot here, whose channel may be strong.
    assert points.csi_nmse_measured_db.between(-22, -10).all()
    assert points.snr_equalized_db.between(5, 20).all()
    assert analog.trace_count - before[0] <= 1
    assert bits.trace_count - before[1] <= 1


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"speed_kmh": 900}, "Doppler"),
        ({"pilots": "dmrs-4"}, "dmrs"),
        ({"num_tx": 2}, "num_tx"),
        ({"channel_model": "cir", "cir_file": "nowhere.npz"}, "nowhere.npz"),
    ],
)
def test_a_bad_condition_ends_with_status_2_and_writes_nothing(
    write_scenario, tmp_path, capsys, change, word
):
    scenario = write_scenario(link=LINK | change)
    assert command.main([str(scenario), "--out", str(tmp_path / "out")]) == 2
    assert word in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
