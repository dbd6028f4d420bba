"""A training file is read as written, or refused with the word that is wrong."""

from pathlib import Path

import pytest
import yaml

from pvsc_link.link.registry import CHANNELS, ChannelType
from pvsc_link.models.presets import DVST_PRESETS, PRESETS
from pvsc_link.options import StrictModel, validated
from pvsc_link.train.config import (
    PAPER_OMEGA,
    PhaseConfig,
    TrainConfig,
    gop_at,
    learning_rate_at,
    load_train_config,
    ramp,
)
from pvsc_link.train.step import BETA_1, BETA_2
from pvsc_link.types import InputError

SCENARIOS = Path(__file__).parents[2] / "scenarios"
PHASE = {"name": "a", "model": "intra", "stage": 1, "steps": 100, "quantiser": "noise"}


def phase(**changes):
    return PhaseConfig.model_validate(PHASE | changes)


FILES = sorted(SCENARIOS.glob("train_*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_every_shipped_training_file_opens_with_its_command_and_is_valid(path):
    assert f"python -m pvsc_link.train scenarios/{path.name}" in path.read_text().split("name:")[0]
    config = load_train_config(path)
    assert config.name == path.stem
    assert config.preset in {**PRESETS, **DVST_PRESETS}
    for variant in yaml.safe_load(path.read_text()).get("variants", {}):
        assert load_train_config(path, [variant]).name == f"{path.stem}_{variant}"


def test_the_papers_settings_are_in_the_papers_file():
    config = load_train_config(SCENARIOS / "train_paper.yaml")
    assert config.omega == list(PAPER_OMEGA)
    assert (BETA_1, BETA_2) == (0.9, 0.999)
    for entry in config.phases:
        assert entry.batch == 8
        assert entry.crop == 256
        assert entry.learning_rate == (1e-5 if entry.stage == 3 else 1e-4)
        assert (entry.loss.rec, entry.loss.per) == (1.0, 0.8)
        assert entry.loss.adv in (0.0, 0.1)
    for kind in ("intra", "inter"):
        own = [entry for entry in config.phases if entry.model == kind]
        assert [e.stage for e in own] == sorted(e.stage for e in own)
        assert [e.quantiser for e in own][:2] == ["noise", "ste"]
        assert own[1].loss.adv == 0.1
        assert [e.rate_set for e in own][-2:] == ["overcomplete", "distilled"]


def test_the_papers_other_models_differ_from_the_first_in_what_their_table_says():
    path = SCENARIOS / "train_paper.yaml"
    plain = load_train_config(path)
    for variant, terms in (("l1", {(0.0, 0.0)}), ("l1_lpips", {(0.8, 0.0)})):
        phases = load_train_config(path, [variant]).phases
        assert {(p.loss.per, p.loss.adv) for p in phases} == terms
        same = [
            p.model_copy(update={"loss": q.loss}) for p, q in zip(phases, plain.phases, strict=True)
        ]
        assert same == plain.phases
    for letter in "abcd":
        config = load_train_config(path, [f"m_{letter}"])
        assert config.preset == f"pvsc_paper_m_{letter}"
        assert config.phases == plain.phases


def test_variants_of_the_channel_and_of_the_loss_go_together():
    path = SCENARIOS / "train_paper_channels.yaml"
    config = load_train_config(path, ["rayleigh_nmse_10", "l1"])
    assert config.name == "train_paper_channels_rayleigh_nmse_10_l1"
    assert config.initial_weights == "runs/train_paper_l1/weights"
    for phase in config.phases:
        channel = phase.channel
        assert (channel.channel, channel.equalizer) == ("rayleigh", "zf")
        assert (channel.snr_db, channel.csi_nmse_db) == ([6.0], [-10.0])
        assert (phase.loss.rec, phase.loss.per, phase.loss.adv) == (1.0, 0.0, 0.0)
        assert phase.learning_rate == 1e-5


def file_with_variants(tmp_path, **variants):
    path = tmp_path / "a.yaml"
    phases = [PHASE, PHASE | {"name": "b", "loss": {"per": 0.5, "rec": 2.0}}]
    fields = {"name": "a", "preset": "pvsc_tiny", "data": {}, "phases": phases}
    path.write_text(yaml.safe_dump({**fields, "variants": variants}))
    return path


def test_a_variant_of_a_file_without_variants_is_refused(tmp_path):
    with pytest.raises(InputError, match="the file has no key variants"):
        load_train_config(file_with_variants(tmp_path), ["l1"])


def test_a_variant_changes_the_keys_it_names_and_leaves_the_rest(tmp_path):
    path = file_with_variants(
        tmp_path,
        one={"phases": {"all": {"loss": {"per": 0.1}}, "b": {"steps": 7}}},
        two={"phases": [PHASE | {"steps": 9}], "name": "other"},
    )
    plain, one = load_train_config(path), load_train_config(path, ["one"])
    assert [(p.loss.per, p.loss.rec, p.steps) for p in one.phases] == [
        (0.1, 1.0, 100),
        (0.1, 2.0, 7),
    ]
    assert (plain.phases[1].loss.per, plain.variants, one.variants) == (0.5, {}, {})
    both = load_train_config(path, ["one", "two"])
    assert (both.name, [p.steps for p in both.phases]) == ("other", [9])


@pytest.mark.parametrize(
    ("chosen", "said"), [("ome", "one"), ("phase", "all, a, b"), ("key", "steps")]
)
def test_a_variant_that_does_not_fit_the_file_is_refused(chosen, said, tmp_path):
    path = file_with_variants(
        tmp_path,
        one={},
        phase={"phases": {"c": {"steps": 7}}},
        key={"phases": {"all": {"step": 7}}},
    )
    with pytest.raises(InputError) as caught:
        load_train_config(path, [chosen])
    assert said in str(caught.value).replace("'", "").replace("[", "")


def test_an_unknown_key_is_refused_with_the_nearest_name(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("name: a\npreset: pvsc_tiny\ndata: {clip: [x]}\nphases: []\n")
    with pytest.raises(InputError) as caught:
        load_train_config(path)
    assert "clips" in caught.value.remedy


@pytest.mark.parametrize(
    "changes",
    [
        {"stage": 2},
        {"channel": {"snr_db": [10]}},
        {"gop": [2]},
        {"model": "inter"},
        {"model": "inter", "gop": [1, 2]},
        {"crop": 100},
        {"crop": 64, "loss": {"per_crop": 128}},
        {"loss": {"branches": {"rx": 1.0}}},
        {"loss": {"branches": {}}},
    ],
    ids=str,
)
def test_a_phase_that_contradicts_itself_is_refused(changes):
    with pytest.raises((InputError, ValueError)):
        phase(**changes)


CODING = {"stage": 2, "quantiser": "ste"}


@pytest.mark.parametrize(
    ("channel", "words"),
    [
        ({"channel": "raileigh"}, "rayleigh"),
        ({"channel": "awgn", "csi_nmse_db": [-10]}, "csi_nmse_db"),
        ({"channel": "ofdm", "cir_file": "absent.npz"}, "cir_file"),
        ({"channel": "awgn", "coherence_length": [4]}, "coherence_length"),
        ({"channel": "rayleigh", "equalizer": "mmse"}, "lmmse"),
        ({"channel": "rayleigh", "csi_nmse": [-10]}, "csi_nmse_db"),
        ({"channel": "rayleigh", "coherence_length": [1, 0]}, "coherence_length"),
        ({"channel": "rayleigh", "snr_db": []}, "snr_db"),
        ({"channel": "rayleigh", "csi_aware": [True]}, "csi_aware"),
    ],
    ids=str,
)
def test_a_channel_that_the_link_would_not_take_is_refused_with_the_wrong_word(channel, words):
    with pytest.raises(InputError, match=words):
        validated(PHASE | CODING | {"channel": channel}, PhaseConfig, "a.yaml", "another")


def test_a_channel_block_takes_the_condition_of_its_channel_as_scalars_or_lists():
    channel = phase(
        **CODING, channel={"channel": "rayleigh", "csi_nmse_db": -20, "coherence_length": [1, 8]}
    ).channel
    assert (channel.csi_nmse_db, channel.coherence_length) == ([-20.0], [1, 8])
    assert (channel.first.csi_nmse_db, channel.first.coherence_length) == ([-20.0], [1])


def test_impairments_of_the_link_are_keys_of_the_channel_block():
    channel = phase(**CODING, channel={"clip_papr_db": [3, 6], "phase_noise": 1e-4}).channel
    assert channel.impairments == ["clip_papr_db", "phase_noise"]
    for wrong in ({"clip_papr_db": [None, 6]}, {"clip_papr_db": -1}, {"clip_papr": 6}):
        with pytest.raises((InputError, ValueError), match="clip_papr"):
            phase(**CODING, channel=wrong)


def test_perfect_knowledge_may_be_stated_where_nothing_is_estimated():
    channel = phase(**CODING, channel={"channel": "awgn", "csi_nmse_db": [None]}).channel
    assert channel == phase(**CODING, channel={"channel": "awgn"}).channel


def test_a_value_that_shapes_the_graph_cannot_change_from_step_to_step(monkeypatch):
    class Antennas(StrictModel):
        num_rx: int = 1

    kind = ChannelType("own", "Own", Antennas, "nowhere:at_all", static=frozenset({"num_rx"}))
    monkeypatch.setitem(CHANNELS, "own", kind)
    assert phase(**CODING, channel={"channel": "own", "num_rx": 2}).channel.num_rx == [2]
    with pytest.raises(ValueError, match="num_rx"):
        phase(**CODING, channel={"channel": "own", "num_rx": [1, 2]})


def test_two_phases_with_one_name_are_refused():
    with pytest.raises(InputError, match="one name"):
        validated(
            {"name": "a", "preset": "pvsc_tiny", "data": {}, "phases": [PHASE, PHASE]},
            TrainConfig,
            "a.yaml",
            "another",
        )


def test_the_gop_grows_in_equal_parts():
    growing = phase(model="inter", gop=[2, 3, 5, 7])
    assert [gop_at(growing, s) for s in (0, 24, 25, 50, 75, 99)] == [2, 2, 3, 5, 7, 7]


def test_the_learning_rate_warms_up_and_falls_to_its_end():
    falling = phase(learning_rate=1e-3, final_learning_rate=1e-5, warm_up=10)
    rates = [learning_rate_at(falling, step) for step in range(100)]
    assert rates[0] == pytest.approx(1e-4)
    assert max(rates) == pytest.approx(1e-3)
    assert rates[9] == rates[10] == pytest.approx(1e-3), "the fall begins behind the warm-up"
    assert rates[55] == pytest.approx((1e-3 + 1e-5) / 2), "half way behind the warm-up"
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(1e-5, rel=0.1)
    assert learning_rate_at(phase(learning_rate=1e-4), 99) == 1e-4


def test_a_ramp_ends_at_the_full_weight():
    values = [ramp(0.8, 10, step) for step in range(12)]
    assert values == sorted(values)
    assert 0 < values[0] < 0.1
    assert values[10] == values[11] == 0.8
    assert ramp(0.8, 0, 0) == 0.8


def test_i_frames_may_have_weights_of_their_own():
    fields = {"name": "a", "preset": "pvsc_tiny", "data": {}, "phases": [PHASE], "omega": [1, 2]}
    plain = validated(fields, TrainConfig, "a.yaml", "another")
    assert plain.omega_of("intra") == plain.omega_of("inter") == [1, 2]
    own = validated({**fields, "intra_omega": [3, 6]}, TrainConfig, "a.yaml", "another")
    assert (own.omega_of("intra"), own.omega_of("inter")) == ([3, 6], [1, 2])
    with pytest.raises(InputError, match="intra_omega"):
        validated({**fields, "intra_omega": [3]}, TrainConfig, "a.yaml", "another")


def test_quality_presets_of_i_frames_may_have_their_own_eta():
    fields = {"name": "a", "preset": "pvsc_tiny", "data": {}, "phases": [PHASE], "omega": [1, 2]}
    plain = validated(fields, TrainConfig, "a.yaml", "another")
    assert plain.intra_eta_factors is None
    own = validated({**fields, "intra_eta_factors": [1, 2.5]}, TrainConfig, "a.yaml", "another")
    assert own.intra_eta_factors == [1, 2.5]
    with pytest.raises(InputError, match="number of entries in intra_eta_factors"):
        validated({**fields, "intra_eta_factors": [3]}, TrainConfig, "a.yaml", "another")
