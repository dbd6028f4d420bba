"""What a run reports on the way is what its models do."""

import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from pvsc_link.media.clips import load_clip
from pvsc_link.models.entropy.side_information import encode_rate_map
from pvsc_link.models.presets import intra_of
from pvsc_link.models.zoo import model_of
from pvsc_link.train.config import EvaluationConfig, channel_config
from pvsc_link.train.evaluation import (
    EVALUATION_COLUMNS,
    LOSS_COLUMNS,
    Evaluator,
    EventFiles,
    Means,
    Table,
    early_warnings,
    write_picture,
    write_plot,
)

OMEGA = [0.1, 0.8]


pytestmark = pytest.mark.usefixtures("eager")


def test_rows_cover_every_clip_preset_and_kind_with_the_psnr_of_the_frames(micro_preset):
    settings = EvaluationConfig(clips=["carphone"], num_frames=3, crop=64)
    intra, inter = model_of(intra_of(micro_preset)), model_of(micro_preset)
    link = channel_config({"channel": "rayleigh", "snr_db": [6.0], "csi_nmse_db": [-10.0]})
    evaluator, kept = Evaluator(settings, (OMEGA, [0.3, 0.9]), intra, inter, link), []
    code = evaluator._code
    evaluator._code = lambda *given: kept.append(code(*given)) or kept[-1]
    results = list(evaluator.rows())
    places = [(row["omega"], row["frame_kind"]) for row, _, _ in results]
    assert places == [(0.1, "I"), (0.3, "P"), (0.8, "I"), (0.9, "P")]
    frames = load_clip("carphone", 0, 3).frames[1:, 40:104, 56:120] / np.float32(255)
    for (row, _, _), (decoded, _) in zip(results[1::2], kept, strict=True):
        of_frames = -10 * np.log10(np.square(decoded[1:] - frames).mean(axis=(1, 2, 3)))
        assert row["psnr_db"] == pytest.approx(of_frames.mean(), abs=1e-4)
        assert np.ptp(of_frames) > 0.02
    frame = load_clip("carphone", 0, 3).frames[2, 40:104, 56:120] / np.float32(255)
    np.testing.assert_allclose(results[0][1], frame, atol=1e-6)
    for row, _, shown in results:
        assert set(EVALUATION_COLUMNS) - {"step", "phase"} == set(row)
        assert 0 < row["lpips"] < 2
        assert row["bpp_y"] > 0
        assert row["bpp_k"] >= 8 * 57 / 64**2, "a PNG has 57 bytes besides its data"
        assert shown.shape == (64, 64, 3)


def test_the_first_condition_and_the_equalizer_of_the_run_are_measured(micro_preset):
    settings = EvaluationConfig(clips=["carphone"], num_frames=1, crop=64)
    intra = model_of(intra_of(micro_preset))
    shown = {}
    for equalizer in ("zf", "biased_lmmse"):
        keys = {"channel": "rayleigh", "equalizer": equalizer, "snr_db": [6.0, 60.0]}
        evaluator = Evaluator(settings, (OMEGA[:1], OMEGA[:1]), intra, None, channel_config(keys))
        (drawn,) = evaluator._draw(np.zeros((1, 64, 64, 3)))
        assert drawn["snr_db"] == [6.0]
        ((_, _, shown[equalizer]),) = evaluator.rows()
    assert np.abs(shown["zf"] - shown["biased_lmmse"]).max() > 0


def test_an_intra_row_is_the_psnr_of_its_picture(micro_preset):
    settings = EvaluationConfig(clips=["carphone"], num_frames=1, crop=64)
    intra = model_of(intra_of(micro_preset))
    (row, original, shown), *_ = Evaluator(
        settings, (OMEGA[:1], OMEGA[:1]), intra, None, None
    ).rows()
    assert row["psnr_db"] == pytest.approx(
        -10 * np.log10(np.mean((original - shown) ** 2)), abs=1e-3
    )


def test_bits_of_the_rate_map_are_those_of_its_png(micro_preset):
    settings = EvaluationConfig(clips=["carphone"], num_frames=1, crop=64)
    intra = model_of(intra_of(micro_preset))
    evaluator = Evaluator(settings, (OMEGA[:1], OMEGA[:1]), intra, None, None)
    ((row, original, _),) = evaluator.rows()
    output = intra.forward(original[None], np.array([0], np.int32))
    index = np.asarray(output["rate_index"])[0]
    png = encode_rate_map(index, len(intra.config.rate_set), "png")
    assert row["bpp_k"] == pytest.approx(8 * len(png) / 64**2, abs=1e-6)


SOUND = {"loss": 1.0, "skipped": 0.0, "sent": 0.3, "spread": 1.2}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"skipped": 0.02}, ["not_finite"]),
        ({"loss": float("nan")}, ["not_finite"]),
        ({"sent": 0.0, "spread": 0.0}, ["few_symbols", "constant_map"]),
        ({"sent": 1.0, "spread": 0.0}, ["constant_map"]),
    ],
)
def test_a_row_warns_of_what_goes_wrong(changes, words):
    assert early_warnings(SOUND | changes) == words


def scalars(folder):
    """(tag, step, value) of every number in event files: a TFRecord of Event messages each."""
    found = []
    for file in folder.glob("events.out.tfevents.*"):
        for record in tf.data.TFRecordDataset(str(file)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                assert value.metadata.plugin_data.plugin_name in ("scalars", "")
                found.append(
                    (value.tag, event.step, round(float(tf.make_ndarray(value.tensor)), 4))
                )
    return sorted(found)


def test_event_files_say_what_the_tables_say_also_after_a_rollback(tmp_path):
    losses = Table(tmp_path / "history.csv", LOSS_COLUMNS)
    points = Table(tmp_path / "evaluation.csv", EVALUATION_COLUMNS)
    events = EventFiles(tmp_path / "events", losses, points)
    point = {"step": 100, "phase": "a", "omega_index": 1, "omega": 2.0, "clip": "x/bikes.mp4"}
    events.start()
    for step in (50, 100, 150):
        row = {"step": step, "phase": "a", "loss": step / 10, "warnings": "constant_map"}
        losses.append([row])
        events.add(row)
    events.add(point | {"frame_kind": "P", "psnr_db": 30.0})
    points.append([point | {"frame_kind": "P", "psnr_db": 30.0}])
    events.close()
    shown = [("evaluation/bikes_P_preset1/psnr_db", 100, 30.0)]
    shown += [("loss/loss", step, step / 10) for step in (100, 150, 50)]
    assert scalars(tmp_path / "events") == sorted(shown)
    losses.forget_after(100)
    events.start()
    events.close()
    assert scalars(tmp_path / "events") == sorted(set(shown) - {("loss/loss", 150, 15.0)})


def test_no_event_files_where_no_writer_is_installed(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("keras.backend.backend", lambda: "jax")
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    events = EventFiles(tmp_path / "events")
    with caplog.at_level("INFO"):
        events.start()
    events.add({"step": 50, "loss": 1.0})
    assert "tensorboardX" in caplog.text
    assert not (tmp_path / "events").exists()


def test_a_table_forgets_what_will_be_made_again_and_a_line_cut_short(tmp_path):
    table = Table(tmp_path / "history.csv", LOSS_COLUMNS)
    table.append([{"step": s, "phase": "a", "loss": s / 10} for s in (50, 100, 150)])
    with table.path.open("a") as file:
        file.write("20")
    table.forget_after(100)
    assert [row["step"] for row in table.read()] == ["50", "100"]


def test_means_are_taken_over_the_steps_since_the_last_row():
    means = Means()
    for value in (1.0, 3.0):
        means.add({"loss": np.float32(value), "usage": np.ones(3)})
    assert means.take() == {"loss": 2.0}
    means.add({"loss": np.float32(5.0)})
    assert means.take() == {"loss": 5.0}


def test_plot_and_pictures_are_images(tmp_path):
    losses = Table(tmp_path / "history.csv", LOSS_COLUMNS)
    losses.append([{"step": s, "phase": "a", "loss": 1 / s, "rec_ideal": 0.1} for s in (1, 2)])
    points = Table(tmp_path / "evaluation.csv", EVALUATION_COLUMNS)
    point = {"step": 1, "omega": 0.1, "frame_kind": "I", "psnr_db": 30, "lpips": 0.2}
    points.append([point])
    write_plot(losses, points, tmp_path / "curves.png")
    assert Image.open(tmp_path / "curves.png").size[0] > 500
    write_picture(tmp_path / "pictures" / "a.png", [np.zeros((8, 8, 3)), np.ones((8, 8, 3))])
    side = np.asarray(Image.open(tmp_path / "pictures" / "a.png"))
    assert side.shape == (8, 16, 3)
    assert (side[:, 8:] == 255).all()
