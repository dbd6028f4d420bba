"""lvc in a scenario: variants, weights and the receiver's arithmetic are part of a point."""

import json

import pytest

from pvsc_link.models import zoo as pretrained
from pvsc_link.models.zoo import UNTRAINED
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.sweep.plan import build
from pvsc_link.sweep.rows import failed_row
from pvsc_link.types import CodecFailure, InputError


def plan(*entries):
    return build(
        parse_scenario(
            {
                "name": "learned",
                "media": {"clips": ["carphone"], "gop": 2, "num_gops": 1},
                "link": {"snr_db": 6},
                "schemes": [{"scheme": "lvc", "rates": [1], **entry} for entry in entries],
            }
        )
    )


@pytest.fixture(autouse=True)
def no_weights(monkeypatch, tmp_path):
    monkeypatch.setattr(pretrained, "PACKAGED", tmp_path)
    return tmp_path


def test_both_variants_are_points_of_their_own_and_untrained():
    points = plan({"variant": ["lvc-l1", "lvc-perceptual"]}).points
    assert [point.variant for point in points] == ["lvc-l1", "lvc-perceptual"]
    assert all(json.loads(point.options)["weights"] == UNTRAINED for point in points)
    assert len({point.point_id for point in points}) == 2


def test_other_weights_of_any_variant_are_other_points(no_weights):
    variants = {"variant": ["lvc-l1", "lvc-perceptual"]}
    before = [point.point_id for point in plan(variants).points]
    for kind in ("", "_intra"):
        path = no_weights / f"pvsc_mc_small_lvc_perceptual{kind}.weights.h5"
        path.write_bytes(b"some weights")
    after = [point.point_id for point in plan(variants).points]
    assert not set(before) & set(after)


def test_all_quality_presets_are_its_rates():
    assert [point.rate for point in plan({"rates": "all"}).points] == [0, 1, 2, 3, 4]


def test_a_receivers_arithmetic_has_a_column_where_the_scenario_names_it():
    failure = CodecFailure("codec_error", "for its row")
    plain, rounded = plan({}, {"receiver_arithmetic": "bfloat16"}).points
    assert failed_row(rounded, failure)["receiver_arithmetic"] == "bfloat16"
    assert rounded.variant == "lvc-l1, receiver bfloat16"
    assert "receiver_arithmetic" not in failed_row(plain, failure)


def test_an_arithmetic_that_does_not_exist_is_told_at_load():
    with pytest.raises(InputError, match="receiver_arithmetic"):
        plan({"receiver_arithmetic": "float12"})
