"""DVST trains by the same phases, batches and objective as PVSC: one P-frame model per rate."""

import numpy as np
import pytest

from pvsc_link.models.zoo import find_dvst_weights
from pvsc_link.schemes.semantic import DvstScheme
from pvsc_link.train.data import open_cache
from pvsc_link.train.family import nearest_rate
from pvsc_link.train.phase import Phase
from pvsc_link.train.release import release
from pvsc_link.train.starts.informed import quantisation_steps
from pvsc_link.train.trainer import Trainer
from pvsc_link.train.weights import WeightStore, load_initial_weights, weights_by_path
from pvsc_link.types import InputError

PHASE = {"model": "inter", "gop": [2], "quantiser": "ste", "rate": 1}
MOTION = {
    "learn": ["motion_"],
    "loss": {"rec": 0.0, "per": 0.0, "prediction": 1.0, "streams": ["motion"]},
}
JOINT = {"stage": 3, "channel": {"snr_db": [10.0]}}
CODING = {**JOINT, "stage": 2, "coding_start": "linear"}

pytestmark = pytest.mark.usefixtures("eager")


def weights_of(model):
    learnt = {v.path.removeprefix(f"{model.name}/") for v in model.trainable_variables}
    return {path: w for path, w in weights_by_path(model).items() if path in learnt}


def moved(before, after):
    return {path for path in before if not np.array_equal(before[path], after[path])}


@pytest.fixture(scope="module")
def dvst_run(micro_dvst, micro_run):
    def make(*phases, **top):
        return micro_run(*phases, preset=micro_dvst, **top)

    return make


@pytest.fixture(scope="module")
def prepared(dvst_run, stirred):
    """Config, clips, and a store with I frames and with P frames of rate 1 after its motion.

    The I-frame model is moved away from its start, whose frames have no structure to displace.
    """
    config = dvst_run({"model": "intra"}, PHASE | MOTION)
    cache, store = open_cache(config.data), WeightStore()
    first = Phase(config, config.phases[0], store, cache)
    stirred(first.intra)
    first.keep()
    phase = Phase(config, config.phases[1], store, cache)
    before = weights_of(phase.inter)
    terms = phase.step(phase.batches(cache, 0).make(0))
    phase.keep()
    return config, cache, store, moved(before, weights_of(phase.inter)), terms


def test_the_motion_learns_alone_from_the_prediction(prepared):
    *_, changed, terms = prepared
    assert {path.split("/")[0] for path in changed} == {
        "motion_estimator",
        "motion_encoder",
        "motion_stream",
        "motion_decoder",
    }
    assert terms["pred_ideal"] > 0
    assert np.isfinite(terms["loss"])


def test_the_rate_of_a_motion_phase_is_that_of_the_motion_alone(prepared, dvst_run):
    _, cache, store, *_ = prepared
    found = {}
    for name, streams in (("both", []), ("motion", ["motion"]), ("context", ["context"])):
        loss = MOTION["loss"] | {"streams": streams}
        changed = dvst_run(PHASE | {"loss": loss})
        phase = Phase(changed, changed.phases[0], store, cache)
        found[name] = phase.step(phase.batches(cache, 0).make(0))["rate"]
    assert found["motion"] + found["context"] == pytest.approx(found["both"], rel=1e-5)
    assert min(found.values()) > 0


def test_all_clips_of_a_batch_have_the_preset_of_the_rate(prepared):
    config, cache, store, *_ = prepared
    phase = Phase(config, config.phases[1], store, cache)
    assert (phase.batches(cache, 0).make(0)["omega_index"] == 1).all()


def test_a_rate_without_weights_starts_from_the_nearest_one(prepared, dvst_run):
    _, cache, store, *_ = prepared
    config = dvst_run(PHASE | {"rate": 0})
    phase = Phase(config, config.phases[0], store, cache)
    assert sorted(phase.networks()) == ["inter_rate0", "intra"]
    changed = moved(weights_of(phase.inter), store.weights["inter_rate1"])
    # The latent of the context has the steps of another omega (``starts.dvst.change_rate``).
    assert changed
    assert all("context_" in path for path in changed)
    assert all("motion" not in path for path in changed)
    assert len(changed) <= 8
    known, own = quantisation_steps([config.omega[1], config.omega[0]])
    (kernel,) = (path for path in changed if path.endswith("context_encoder/exit/kernel"))
    scaled, before = weights_of(phase.inter)[kernel], store.weights["inter_rate1"][kernel]
    np.testing.assert_allclose(scaled, float(known / own) * before, rtol=1e-5)
    assert known < own, "rate 0 is the coarser one"
    assert nearest_rate("inter_rate2", ["intra", "inter_rate0", "inter_rate3"]) == "inter_rate3"
    assert nearest_rate("inter_rate2", ["inter_rate1", "inter_rate3"]) == "inter_rate1"
    assert nearest_rate("inter_rate2", ["inter_rate2", "intra"]) is None
    assert nearest_rate("intra", ["inter_rate2"]) is None


@pytest.mark.slow
def test_stage_2_moves_feature_coding_and_stage_3_everything(prepared, dvst_run):
    _, cache, store, *_ = prepared
    config = dvst_run(PHASE | CODING, PHASE | JOINT)
    for entry in config.phases:
        phase = Phase(config, entry, store, cache)
        before = weights_of(phase.inter)
        phase.step(phase.batches(cache, 0).make(0))
        changed = moved(before, weights_of(phase.inter))
        coding = {path for path in changed if "/feature_" in path}
        assert coding
        assert (coding == changed) == (entry.stage == 2)


@pytest.mark.slow
def test_a_rate_trains_rematerialised_in_bfloat16_as_in_float32(prepared, dvst_run):
    _, cache, store, *_ = prepared
    losses = {}
    for precision in ("float32", "mixed_bfloat16"):
        keys = {"precision": precision, "rematerialise": True, "gop": [3]}
        config = dvst_run(PHASE | JOINT | keys)
        phase = Phase(config, config.phases[0], store, cache)
        terms = phase.step(phase.batches(cache, 0).make(0))
        assert terms["skipped"] == 0
        losses[precision] = terms["loss"]
    assert losses["mixed_bfloat16"] == pytest.approx(losses["float32"], rel=0.02)
    assert losses["mixed_bfloat16"] != losses["float32"]


@pytest.mark.slow
def test_a_run_of_two_rates_resumes_and_becomes_rows_that_are_ok(
    dvst_run, micro_dvst, tmp_path, monkeypatch
):
    sizes = {"_FIT_CLIPS": 3, "_FIT_FRAMES": 2, "_FIT_CROP": 64, "_FIT_PICTURES": 3}
    for name, value in sizes.items():
        monkeypatch.setattr(f"pvsc_link.train.release.{name}", value)
    steps = {"steps": 1}
    config = dvst_run(
        {"model": "intra", **steps}, PHASE | steps | {"rate": 0}, PHASE | steps | JOINT
    )
    run = tmp_path / "run"
    assert Trainer(config, run).run()
    assert Trainer(config, run).run(), "a finished run is left as it is"
    files = {path.name for path in (run / "weights").glob("*.weights.h5")}
    assert files == {f"{name}.weights.h5" for name in ("intra", "inter_rate0", "inter_rate1")}
    assert DvstScheme(micro_dvst, weights=str(run / "weights")).status == "ok"

    written = release([run], tmp_path / "shipped")
    assert [path.name for path in written] == [
        f"{micro_dvst}_{end}.weights.h5" for end in ("intra", "rate0", "rate1")
    ]
    monkeypatch.setattr("pvsc_link.models.zoo.PACKAGED", tmp_path / "shipped")
    scheme = DvstScheme(micro_dvst, side_format="range")
    assert (scheme.status, scheme.allowed_rates) == ("ok", (0, 1))
    assert find_dvst_weights(micro_dvst)[0].intra == written[0]

    store = WeightStore()
    load_initial_weights(micro_dvst, config, store)
    assert sorted(store.weights) == ["inter_rate0", "inter_rate1", "intra"]


def test_untrained_is_said_where_a_run_has_only_i_frames(micro_dvst, tmp_path):
    assert DvstScheme(micro_dvst).status == "untrained"
    (tmp_path / "intra.weights.h5").touch()
    with pytest.raises(InputError, match="inter_rate0"):
        DvstScheme(micro_dvst, weights=str(tmp_path))


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (PHASE | {"rate": None}, "rate of phase"),
        (PHASE | {"rate": 2}, "rate from 0 to 1"),
        (PHASE | {"refresh_every": [2]}, "rate of phase"),
        ({"model": "intra", "rate": 0}, "rate of phase"),
        ({"model": "intra", "loss": {"prediction": 1.0}}, "P-frame phases of DVST"),
    ],
)
def test_a_phase_that_does_not_fit_a_model_of_one_rate_is_refused(phase, said, dvst_run):
    with pytest.raises((InputError, ValueError), match=said):
        dvst_run(phase)


def test_rates_and_streams_are_no_keys_of_pvsc(micro_run):
    with pytest.raises((InputError, ValueError), match="all its rates in one"):
        micro_run({"model": "inter", "gop": [2], "rate": 0})
    with pytest.raises((InputError, ValueError), match="P-frame phases of DVST"):
        micro_run({"model": "inter", "gop": [2], "loss": {"streams": ["motion"]}})


@pytest.mark.parametrize("start", [{"intra_start": True}, JOINT | {"coding_start": "intra"}])
def test_starts_that_know_only_pvsc_are_refused(start, dvst_run):
    config = dvst_run(PHASE | start)
    with pytest.raises(InputError, match=next(reversed(start))):
        Phase(config, config.phases[0], WeightStore(), open_cache(config.data))
