"""Section III-D: in each stage exactly the right weights move, and what is switched off is off."""

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from pvsc_link.models.zoo import model_of
from pvsc_link.train.data import open_cache
from pvsc_link.train.family import configs_of
from pvsc_link.train.objective import Objective
from pvsc_link.train.phase import Phase
from pvsc_link.train.weights import WeightStore
from pvsc_link.types import InputError

pytestmark = pytest.mark.usefixtures("eager")
AWGN = {"channel": "awgn", "snr_db": [10.0]}
RAYLEIGH = {"channel": "rayleigh", "snr_db": [6.0], "csi_nmse_db": [-10.0]}


def prepared(config, store=None):
    """The first phase of a config with its batches; an intra model is at hand for P phases."""
    store = store or WeightStore()
    entry, cache = config.phases[0], open_cache(config.data)
    if entry.model == "inter" and "intra" not in store.weights:
        store.keep("intra", model_of(configs_of(config.preset, len(config.omega))["intra"]))
    phase = Phase(config, entry, store, cache)
    return phase, phase.batches(cache, 0)


def moved_layers(phase, batch):
    """Names of the top layers of each network whose weights a step changed, and the terms."""
    before = {k: [np.array(v) for v in n.weights] for k, n in phase.networks().items()}
    terms = phase.step(batch)
    moved = set()
    for kind, network in phase.networks().items():
        for old, variable in zip(before[kind], network.weights, strict=True):
            if not np.array_equal(old, np.array(variable)):
                path = variable.path.removeprefix(f"{network.name}/")
                moved.add(f"{kind}.{path.split('/')[0]}")
    return moved, terms


CODING = {"feature_encoder", "feature_decoder", "q_tx", "q_rx"}


def test_stage_1_moves_the_ideal_branch_and_never_the_feature_coding(micro_run):
    config = micro_run({"model": "intra", "loss": {"per": 0.0, "adv": 0.1}})
    phase, maker = prepared(config)
    moved, terms = moved_layers(phase, maker.make(0))
    assert not {f"intra.{name}" for name in CODING} & moved
    assert {"intra.feature_extractor", "intra.frame_generator", "intra.hyper_decoder"} <= moved
    assert any(name.startswith("discriminator.") for name in moved)
    assert "rec_tx" not in terms


def test_stage_2_moves_the_feature_coding_alone_and_the_intra_model_not_at_all(micro_run):
    config = micro_run(
        {"model": "inter", "stage": 2, "gop": [3], "quantiser": "ste", "channel": RAYLEIGH}
        | {"rate_set": "overcomplete", "loss": {"per": 0.0, "latent": 1.0}}
    )
    phase, maker = prepared(config)
    moved, terms = moved_layers(phase, maker.make(0))
    # Fresh P models may round every feature to zero: then nothing tells q_tx where to go.
    assert moved | {"inter.q_tx"} == {f"inter.{name}" for name in CODING}
    assert "rec_ideal" not in terms
    assert len(phase.model.config.rate_set) == 9
    units = 2 * 4 * 4  # clips, units: of the P frames on average
    assert float(np.sum(terms["usage"])) == pytest.approx(units)


def test_stage_3_moves_everything_and_starts_from_the_stage_before(micro_run):
    second = micro_run(
        {"model": "intra", "stage": 2, "quantiser": "ste", "channel": AWGN}
        | {"rate_set": "overcomplete"}
    )
    phase, maker = prepared(second)
    phase.step(maker.make(0))
    phase.finish()
    third = micro_run({"model": "intra", "stage": 3, "quantiser": "ste", "channel": AWGN})
    joint, maker = prepared(third, phase.store)
    assert joint.model.config.rate_set == (0, 2, 4, 8)
    kernel = joint.model.feature_encoder.to_features.kernel
    np.testing.assert_array_equal(kernel, phase.model.feature_encoder.to_features.kernel)
    moved, terms = moved_layers(joint, maker.make(0))
    assert {f"intra.{name}" for name in (*CODING, "feature_extractor", "z_prior")} <= moved
    assert {"rec_ideal", "rec_tx", "rec_rx"} <= set(terms)


def test_a_term_of_weight_zero_is_not_computed_and_the_loss_is_the_sum_of_the_others(micro_run):
    config = micro_run({"model": "intra", "loss": {"per": 0.0, "side_eta": 0.0}, "batch": 1})
    phase, maker = prepared(config)
    batch = maker.make(0)
    terms = phase.step(batch)
    assert not {"per_ideal", "adv_ideal", "discriminator"} & set(terms)
    omega = config.omega[int(batch["omega_index"][0, 0])]
    expected = 3 * omega * float(terms["rec_ideal"]) + float(terms["rate"])
    assert float(terms["loss"]) == pytest.approx(expected, rel=1e-5)


def test_reconstructions_weigh_as_the_phase_says_and_others_are_not_computed(micro_run):
    config = micro_run(
        {"model": "intra", "stage": 3, "quantiser": "ste", "channel": AWGN, "batch": 1}
        | {"loss": {"per": 0.0, "branches": {"tx": 0.5, "rx": 2.0}}}
    ).model_copy(update={"intra_omega": [0.4, 7.0]})
    phase, maker = prepared(config)
    batch = maker.make(0)
    terms = phase.step(batch)
    assert "rec_ideal" not in terms
    omega = config.intra_omega[int(batch["omega_index"][0, 0])]
    distortion = 0.5 * float(terms["rec_tx"]) + 2.0 * float(terms["rec_rx"])
    expected = omega * distortion + float(terms["rate"])
    assert float(terms["loss"]) == pytest.approx(expected, rel=1e-5)


def test_the_loss_is_its_terms_by_their_weights_and_ramps(micro_run):
    """Eq. 27 at lambda_rec 2, lambda_per 0.5, lambda_adv 0.1; the last two grow over some steps."""
    loss = {"rec": 2.0, "per": 0.5, "adv": 0.1, "per_crop": 16, "per_ramp": 3, "adv_ramp": 1}
    config = micro_run({"model": "intra", "batch": 1, "steps": 10, "loss": loss})
    phase, maker = prepared(config)
    for step, per, adv in ((0, 0.5 / 4, 0.1 / 2), (9, 0.5, 0.1)):
        batch = maker.make(step)
        terms = {key: float(value) for key, value in phase.step(batch).items()}
        omega = config.omega[int(batch["omega_index"][0, 0])]
        distortion = omega * (2.0 * terms["rec_ideal"] + per * terms["per_ideal"])
        adversarial = adv * terms["adv_ideal"]
        assert min(terms["rec_ideal"], terms["per_ideal"], abs(terms["adv_ideal"])) > 1e-3
        expected = terms["rate"] + 3 * (distortion + adversarial) + terms["discriminator"]
        assert terms["loss"] == pytest.approx(expected, rel=1e-5)


def test_generator_and_discriminator_learn_each_from_its_own_part_of_the_loss(micro_run):
    """At lambda_adv 0 and 1: neither loss reaches the other network."""

    def slopes(weight, **loss):
        config = micro_run({"model": "intra", "batch": 1, "loss": {"rec": 0.0, "per": 0.0, **loss}})
        with_adversary = phase.discriminator if "adv" in loss else None
        objective = Objective(
            config.phases[0], config.omega, phase.model, discriminator=with_adversary
        )
        with tf.GradientTape() as tape:
            loss_value, _, _ = objective({**maker.make(0), "adv_weight": np.float32(weight)})
        values = [[v.value for v in group.variables] for group in phase.groups]
        found = tape.gradient(loss_value, values, unconnected_gradients="zero")
        return [np.concatenate([np.ravel(g) for g in of_group]) for of_group in found]

    config = micro_run({"model": "intra", "batch": 1, "loss": {"rec": 0.0, "per": 0.0, "adv": 1.0}})
    phase, maker = prepared(config)
    rate_alone, nothing = slopes(0.0)
    generator, alone = slopes(0.0, adv=1.0)
    taught, beside = slopes(1.0, adv=1.0)
    assert not nothing.any()
    np.testing.assert_allclose(generator, rate_alone, atol=1e-7)
    assert np.abs(alone).max() > 1e-4
    assert np.abs(taught - generator).max() > 1e-6
    np.testing.assert_allclose(beside, alone, atol=1e-7)


def test_bits_of_z_weigh_as_much_as_the_side_link_makes_them(micro_run):
    every = []
    for side_eta in (None, 1.2):
        config = micro_run({"model": "intra", "loss": {"per": 0.0, "side_eta": side_eta}})
        phase, maker = prepared(config)
        every.append(phase.step(maker.make(0)))
    bits = float(every[0]["bpp_z"])
    eta = phase.model.config.eta
    assert bits > 0
    more = float(every[1]["rate"]) - float(every[0]["rate"])
    assert more == pytest.approx((1.2 - eta) * bits, rel=1e-3)


def test_a_few_steps_lower_the_loss_of_the_same_batch(micro_run):
    config = micro_run({"model": "intra", "informed_start": True, "quantiser": "ste"})
    phase, maker = prepared(config)
    batch = maker.make(0)
    losses = [float(phase.step(batch)["loss"]) for _ in range(8)]
    assert losses[-1] < 0.97 * losses[0]


def test_p_frames_without_an_intra_model_are_refused(micro_run):
    config = micro_run({"model": "inter", "gop": [2]})
    with pytest.raises(InputError, match="intra"):
        Phase(config, config.phases[0], WeightStore(), open_cache(config.data))


def test_an_unknown_preset_is_refused(micro_run):
    with pytest.raises(ValueError, match="preset: found 'pvsc_huge'"):
        micro_run({"model": "intra"}, preset="pvsc_huge")


def test_averaged_weights_on_disk_load_into_a_fresh_model(micro_run, tmp_path):
    phase, maker = prepared(micro_run({"model": "intra"}))
    for step in range(3):
        phase.step(maker.make(step))
    phase.save_averaged(tmp_path / "weights")
    other = model_of(phase.model.config)
    other.load_weights(tmp_path / "weights" / "intra.weights.h5")
    with phase.groups[0].averaged():
        for a, b in zip(phase.model.weights, other.weights, strict=True):
            np.testing.assert_array_equal(ops.convert_to_numpy(a), ops.convert_to_numpy(b))
