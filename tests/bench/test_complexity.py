"""Parameters and MACs of the built models against the paper's Tables IV and V."""

import csv
import json
from collections import Counter

import pytest
import tensorflow as tf

from pvsc_link.bench import complexity
from pvsc_link.bench.complexity import count_macs
from pvsc_link.models.presets import PRESETS
from pvsc_link.types import InputError

#: Table V: parameters in millions, transmitter plus receiver in GMAC at 1080p
TABLE_V = {
    "pvsc_paper": (35.4, 797.7),
    "pvsc_paper_m_a": (30.4, 729.3),
    "pvsc_paper_m_b": (33.3, 784.1),
    "pvsc_paper_m_c": (32.5, 742.9),
    "pvsc_paper_m_d": (37.2, 797.7),
}
#: Table IV, as printed: MACs per pixel in millions
TABLE_IV = {"480p": 0.43, "720p": 0.41, "1080p": 0.41, "2K": 0.41}


@pytest.mark.slow
@pytest.mark.parametrize(
    "preset",
    [
        pytest.param(name, marks=[] if name == "pvsc_paper" else pytest.mark.slow)
        for name in TABLE_V
    ],
)
def test_paper_model_has_table_v_s_parameters_and_macs_within_one_percent(preset):
    model = complexity.model_of(PRESETS[preset])
    row = complexity.measure(model, complexity.TABLE_V, repeats=0)
    params_m, macs_g = TABLE_V[preset]
    assert row["params_m"] == pytest.approx(params_m, rel=0.01)
    assert row["macs_g"] == pytest.approx(macs_g, rel=0.01)


@pytest.mark.slow
def test_paper_model_has_table_iv_s_macs_per_pixel():
    model = complexity.model_of(PRESETS["pvsc_paper"])
    for label, per_pixel in TABLE_IV.items():
        row = complexity.measure(model, label, repeats=0)
        assert round(row["macs_m_per_pixel"], 2) == per_pixel


@pytest.mark.parametrize(
    "preset", ["pvsc_tiny_intra", "dvst_tiny", pytest.param("pvsc_tiny", marks=pytest.mark.slow)]
)
def test_tiny_models_stay_within_two_million_parameters_and_a_twentieth_mmac_per_pixel(preset):
    model = complexity.model_of(complexity.ALL_PRESETS[preset])
    row = complexity.measure(model, "480p", repeats=0)
    assert complexity.trainable_parameters(model) <= 2e6
    assert row["macs_m_per_pixel"] <= 0.05


def test_counter_agrees_with_arithmetic_on_known_operations():
    dense, depthwise = tf.ones((20, 30)), tf.ones((3, 3, 8, 1))
    kernel = tf.ones((3, 3, 8, 16))

    def work(images, vectors):
        with tf.name_scope("first"):
            images = tf.nn.depthwise_conv2d(images, depthwise, (1, 1, 1, 1), "SAME")
        with tf.name_scope("second"):
            images = tf.nn.conv2d(images, kernel, 2, "SAME")
            scores = tf.matmul(vectors, vectors, transpose_b=True)
        with tf.name_scope("second"):
            return images, scores, tf.reshape(vectors, (-1, 20)) @ dense

    specs = [tf.TensorSpec((1, 10, 12, 8)), tf.TensorSpec((2, 5, 20))]
    counts = count_macs(work, specs)
    assert counts["first"] == 10 * 12 * 8 * 9
    assert counts["second"] == 5 * 6 * 16 * 9 * 8 + 2 * 5 * 5 * 20 + 10 * 20 * 30


@pytest.mark.parametrize(
    "function",
    [lambda x: tf.einsum("ij,kj->ik", x, x), lambda x: tf.function(tf.transpose)(x)],
    ids=["einsum", "nested function"],
)
def test_counter_refuses_what_it_cannot_read(function):
    with pytest.raises(ValueError, match="cannot count"):
        count_macs(function, [tf.TensorSpec((3, 4))])


def test_command_prints_and_writes_counts_with_a_manifest(tmp_path, capsys):
    file = tmp_path / "tiny.csv"
    arguments = ["--preset", "pvsc_tiny", "--sizes", "480p", "--counts-only", "--csv", str(file)]
    assert complexity.main(arguments) == 0
    assert "macs_m_per_pixel" in capsys.readouterr().out
    (row,) = csv.DictReader(file.open())
    assert (row["preset"], row["width"], row["height"]) == ("pvsc_tiny", "854", "480")
    assert float(row["params_m"]) <= 2
    assert float(row["macs_m_per_pixel"]) <= 0.05
    assert float(row["macs_g"]) == pytest.approx(
        float(row["macs_tx_g"]) + float(row["macs_rx_g"]), rel=1e-4
    )
    modules = list(csv.DictReader((tmp_path / "tiny_modules.csv").open()))
    assert sum(float(m["params_m"]) for m in modules) == pytest.approx(
        float(row["params_m"]), rel=1e-4
    )
    manifest = json.loads((tmp_path / "tiny.manifest.json").read_text())
    assert "complexity --preset pvsc_tiny" in manifest["command"]


@pytest.mark.slow
def test_dvst_has_table_iv_s_parameters_and_macs_within_three_percent():
    model = complexity.model_of(complexity.ALL_PRESETS["dvst_paper"])
    row = complexity.measure(model, "1080p", repeats=0)
    assert (row["padded_width"], row["padded_height"]) == (1920, 1152)
    assert complexity.trainable_parameters(model) == pytest.approx(12.1e6, rel=0.03)
    assert row["params_m"] == pytest.approx(48.4, rel=0.03), "a model for each of four rates"
    assert row["macs_m_per_pixel"] == pytest.approx(2.77, rel=0.03)
    # Table IV's times, 351.8 and 122.1 ms: how the work is shared between the ends.
    assert row["macs_tx_g"] / row["macs_rx_g"] == pytest.approx(351.8 / 122.1, rel=0.1)
    modules = complexity.module_rows(model)
    assert {m["module"] for m in modules if m["macs_tx_g"] > 0} >= {"motion_stream", "compensation"}


def test_ratios_are_taken_at_equal_size_beside_those_of_the_paper():
    measured = dict.fromkeys(complexity._MEASURED, "")
    pvsc = {"preset": "pvsc_paper", "macs_tx_g": 4.0, "macs_rx_g": 2.0} | measured
    dvst = {"preset": "dvst_paper", "macs_tx_g": 36.0, "macs_rx_g": 9.0} | measured
    rows = [
        pvsc | {"label": "1080p", "tx_ms": 10.0, "peak_mib": 4.0},
        pvsc | {"label": "720p"},
        dvst | {"label": "1080p", "tx_ms": 70.0, "peak_mib": 6.0},
        dvst | {"label": "2K"},
    ]
    (ratios,) = complexity.ratio_rows(rows)
    assert (ratios["preset"], ratios["to"], ratios["label"]) == (
        "dvst_paper",
        "pvsc_paper",
        "1080p",
    )
    assert (ratios["macs_tx_g"], ratios["macs_rx_g"]) == (9.0, 4.5)
    assert (ratios["tx_ms"], ratios["peak_mib"], ratios["rx_ms"]) == (7.0, 1.5, "")
    assert ratios["paper_tx"] == pytest.approx(351.8 / 44.1)
    assert ratios["paper_rx"] == pytest.approx(122.1 / 27.0)
    other = complexity.ratio_rows([rows[0], rows[2] | {"preset": "dvst_tiny"}])
    assert other[0]["paper_tx"] == "", "the paper has no small model"


@pytest.mark.ci
def test_the_steps_of_a_frame_have_all_of_its_macs_and_of_its_time(micro, monkeypatch):
    monkeypatch.setitem(complexity.SIZES, "mini", (128, 64))
    model = complexity.model_of(PRESETS[micro])
    steps = complexity.profile(model, "mini", repeats=1)
    tx, rx = complexity.macs_by_module(model, 128, 64)
    for end, counts in (("tx", tx), ("rx", rx)):
        of_end = [row for row in steps if row["end"] == end]
        assert sum(row["share"] for row in of_end) == pytest.approx(1)
        assert sum(row["macs_g"] for row in of_end) == pytest.approx(counts.total() / 1e9)
    assert {row["step"] for row in steps if row["end"] == "rx"} >= {"contexts", "update", "show"}


@pytest.mark.ci
def test_times_of_both_ends_and_the_peak_of_memory_stand_in_the_row(micro, monkeypatch):
    monkeypatch.setitem(complexity.SIZES, "mini", (128, 64))
    row = complexity.measure(complexity.model_of(PRESETS[micro]), "mini", repeats=1)
    assert all(row[name] > 0 for name in complexity._MEASURED)


def test_gops_side_by_side_are_timed_in_one_call_whose_time_is_shared(micro, monkeypatch):
    monkeypatch.setitem(complexity.SIZES, "mini", (64, 64))
    monkeypatch.setattr(complexity, "macs_by_module", lambda *given: (Counter(), Counter()))
    model = complexity.model_of(PRESETS[micro])
    sent = []

    def timed(function, inputs, repeats, jit_compile):
        sent.append([spec.shape[0] for spec in inputs])
        tf.function(function).get_concrete_function(*inputs)  # the networks take these shapes
        return 30.0, 60.0

    monkeypatch.setattr(complexity, "time_function", timed)
    row = complexity.measure(model, "mini", repeats=1, batch=3)
    assert {size for sizes in sent for size in sizes} == {3}
    assert (row["batch"], row["tx_ms"], row["rx_cpu_ms"]) == (3, 10.0, 20.0)
    with pytest.raises(InputError, match="--batch"):
        complexity.main(["--preset", "pvsc_tiny", "--batch", "0"])


def test_sizes_are_labels_or_width_by_height():
    assert complexity.size_of("1080p") == (1920, 1080)
    assert complexity.size_of("416x240") == (416, 240)
    for wrong in ("1081p", "416", "0x240", "416x240x3"):
        with pytest.raises(InputError, match="416x240"):
            complexity.size_of(wrong)
