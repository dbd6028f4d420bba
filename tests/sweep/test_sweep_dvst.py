"""DVST in a sweep: rows beside PVSC's, marked untrained."""

import numpy as np
import pytest

from pvsc_link.models.zoo import load_dvst_models, load_models
from pvsc_link.sweep import __main__ as command
from pvsc_link.sweep.store import read_points


@pytest.mark.slow
def test_dvst_stands_beside_pvsc(own_caches, write_scenario, micro, micro_dvst, tmp_path):
    for load in (load_models, load_dvst_models):
        load.cache_clear()  # another test may have changed the weights of models in there
    scenario = write_scenario(
        media={"clips": ["carphone"], "gop": 2, "num_gops": 1},
        link={"channel": "awgn", "snr_db": 10},
        schemes=[
            {"scheme": "dvst", "preset": micro_dvst, "rates": [0, 2], "mcs": 2},
            {"scheme": "pvsc-mc", "preset": micro, "rates": [0], "mcs": 2},
        ],
        anchor=None,
    )
    assert command.main([str(scenario), "--out", str(tmp_path / "out")]) == 0
    points = read_points(tmp_path / "out" / "small")
    ours = points[points.scheme == "dvst"]
    assert ours.rate.tolist() == [0, 2]
    assert set(ours.variant) == {micro_dvst}
    assert set(ours.status) == {"untrained"}
    np.testing.assert_allclose(ours.cbr, ours.cbr_y + ours.cbr_intra + ours.cbr_z + ours.cbr_k)
    assert np.isfinite(ours.psnr_db).all()
    # The same I frame by the same model, whatever the scheme of the P frames is called.
    (theirs,) = points[points.scheme == "pvsc-mc"].cbr_intra
    np.testing.assert_allclose(ours.cbr_intra, theirs)


@pytest.mark.parametrize(
    ("entry", "said"),
    [({"preset": "pvsc_tiny"}, "dvst_tiny"), ({"rates": [4]}, "rate"), ({"binary": "x"}, "binary")],
)
def test_what_dvst_does_not_have_is_told_at_load(entry, said, write_scenario, tmp_path, capsys):
    scenario = write_scenario(schemes=[{"scheme": "dvst", **entry}], anchor=None)
    assert command.main([str(scenario), "--out", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
