"""PSNR-YUV, SSIM, MS-SSIM, VMAF, XPSNR, tLP: official values, and what clips bring along."""

import json
import os
import stat
import subprocess
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest
from made_up_pairs import digest, made_up_clips

from pvsc_link.metrics import METRICS, FrameMetrics, ffmpeg
from pvsc_link.metrics.external import run_measuring
from pvsc_link.metrics.psnr import yuv420_planes
from pvsc_link.types import CodecFailure, InputError

GOLDENS = json.loads((Path(__file__).parent / "clip_goldens.json").read_text())
#: Largest difference to the official value; another FFmpeg may bring another libvmaf.
SAME_FFMPEG = GOLDENS["ffmpeg"] == METRICS["vmaf"].measure.build()
TOLERANCE = {
    **{"psnr_yuv": 1e-5, "ssim": 1e-6, "ms_ssim": 1e-6, "tlp": 2e-6},
    **{"vmaf": 1e-4 if SAME_FFMPEG else 0.5, "vmaf_neg": 1e-4 if SAME_FFMPEG else 0.5},
    "xpsnr": 1e-4 if SAME_FFMPEG else 1e-2,
}


def in_unit_range(clip):
    return clip[None].astype(np.float32) / np.float32(255)


def made_up(name):
    return [in_unit_range(clip) for clip in made_up_clips()[name]]


@pytest.mark.parametrize("metric", list(TOLERANCE))
@pytest.mark.parametrize("name", list(GOLDENS["clips"]))
def test_made_up_clips_have_the_values_of_the_official_implementations(name, metric):
    """``official_clip_values.py`` wrote what is expected, without this package."""
    pair, expected = made_up_clips()[name], GOLDENS["clips"][name]
    assert digest(pair) == expected["pixels"], "these are other clips than the official code saw"
    values = METRICS[metric].measure(*map(in_unit_range, pair))[0]
    if metric == "tlp":  # the golden has a value per pair
        expected_values = [np.mean(expected[metric]), *expected[metric]]
    else:
        expected_values = expected[metric]
    np.testing.assert_allclose(values, expected_values, rtol=1e-6, atol=TOLERANCE[metric])


def test_every_made_up_clip_has_a_golden():
    assert list(made_up_clips()) == list(GOLDENS["clips"])


def test_176x144_is_too_small_for_ms_ssim():
    assert METRICS["ms_ssim"].smallest_side == 161
    small = np.zeros((1, 1, 144, 176, 3), np.float32)
    with pytest.raises(InputError, match="at least 161"):
        METRICS["ms_ssim"].measure(small, small)


@pytest.mark.parametrize("name", ["vmaf", "vmaf_neg", "xpsnr"])
def test_reference_and_shown_clip_are_not_exchanged(name):
    frames, frames_hat = made_up("moving_blur")
    metric = METRICS[name].measure
    assert abs(metric(frames, frames_hat) - metric(frames_hat, frames)).mean() > 0.5


@pytest.mark.parametrize("name", ["vmaf", "vmaf_neg"])
def test_vmaf_of_identical_moving_frames_is_nearly_100(name):
    frames, _ = made_up("moving_grain")
    values = METRICS[name].measure(frames, frames)
    assert values.min() > 97
    assert values.max() <= 100


def test_more_contrast_is_rewarded_by_vmaf_and_not_without_enhancement_gain():
    _, blurred = made_up("moving_blur")
    soft = 0.25 + 0.5 * blurred
    more = 0.25 + 0.55 * blurred
    gain = METRICS["vmaf"].measure(soft, more) - METRICS["vmaf_neg"].measure(soft, more)
    assert gain.mean() > 1, gain


def test_a_frozen_video_has_a_tlp_and_an_exact_copy_of_the_motion_has_none():
    metric = METRICS["tlp"].measure
    frames, frozen = made_up("moving_frozen")
    assert metric(frames, frozen).min() > 0.01
    mirrored = frames[..., ::-1, :]
    assert metric(frames, mirrored).max() < metric(frames, frozen).min()


def test_the_first_frame_of_tlp_has_the_mean_of_the_pairs():
    values = METRICS["tlp"].measure(*made_up("moving_grain"))[0]
    assert values[0] == pytest.approx(values[1:].mean(), rel=1e-6)
    assert values.mean() == pytest.approx(values[1:].mean(), rel=1e-6)


def test_one_frame_has_a_vmaf_and_an_xpsnr_and_no_tlp():
    frames, frames_hat = (clip[:, :1] for clip in made_up("moving_grain"))
    for name in ("vmaf", "vmaf_neg", "xpsnr"):
        assert np.isfinite(METRICS[name].measure(frames, frames_hat)).all()
    assert np.isnan(METRICS["tlp"].measure(frames, frames_hat)).all()


@pytest.mark.parametrize("name", ["vmaf", "xpsnr"])
def test_a_clip_of_another_size_is_refused(name):
    metric = METRICS[name].measure
    frames, frames_hat = made_up("moving_grain")
    with pytest.raises(InputError, match="differ in size"):
        metric.compare(metric.reference(frames[0]), frames_hat[0][:, :-2])


def count_runs(monkeypatch):
    """The list that every run of FFmpeg adds its command to."""
    commands = []

    def counted(command, *rest):
        commands.append(command)
        return run_measuring(command, *rest)

    monkeypatch.setattr(ffmpeg, "run_measuring", counted)
    return commands


def test_vmaf_and_vmaf_neg_together_are_one_run_with_the_values_of_two(tmp_path, monkeypatch):
    pair, commands = made_up_clips()["moving_blur"], count_runs(monkeypatch)
    together = FrameMetrics(tmp_path / "a.sqlite").evaluate(["vmaf", "psnr", "vmaf_neg"], *pair)
    assert len(commands) == 1
    alone = FrameMetrics(tmp_path / "b.sqlite")
    for name in ("vmaf", "vmaf_neg"):
        values = alone.evaluate([name], *pair)[name]
        np.testing.assert_allclose(together[name], values, rtol=0, atol=1e-6)
    assert len(commands) == 3
    assert abs(together["vmaf"] - together["vmaf_neg"]).max() > 0.1
    assert list(together) == ["vmaf", "psnr_db", "vmaf_neg"]


def test_of_vmaf_and_vmaf_neg_only_what_is_missing_is_run(tmp_path, monkeypatch):
    pair, commands = made_up_clips()["moving_blur"], count_runs(monkeypatch)
    cached = FrameMetrics(tmp_path / "a.sqlite")
    cached.evaluate(["vmaf_neg"], *pair)
    cached.evaluate(["vmaf_neg", "vmaf"], *pair)
    cached.evaluate(["vmaf_neg", "vmaf"], *pair)
    assert len(commands) == 2
    assert "vmaf_v0.6.1neg" not in str(commands[1])


def filter_by_hand(folder, pair, fps):
    """Values of the filter xpsnr, called directly on the planes at a frame rate."""
    for name, clip in zip(("frames", "frames_hat"), pair, strict=True):
        planes = [
            plane.ravel() for frame in in_unit_range(clip)[0] for plane in yuv420_planes(frame)
        ]
        np.concatenate(planes).tofile(folder / f"{name}.yuv")
    height, width = pair[0].shape[1:3]
    raw = f"-f rawvideo -pix_fmt yuv420p -s {width}x{height} -r {fps} -i"
    words = f"-v error {raw} frames.yuv {raw} frames_hat.yuv -lavfi xpsnr=f=log -f null -"
    subprocess.run([imageio_ffmpeg.get_ffmpeg_exe(), *words.split()], cwd=folder, check=True)
    lines = [line for line in (folder / "log").read_text().splitlines() if line.startswith("n:")]
    return [float(line.split()[4]) for line in lines]


@pytest.mark.parametrize("fps", [24, 31.97, 32, 50, 59.94])
def test_xpsnr_is_that_of_the_filter_at_the_frame_rate_of_the_clip(tmp_path, fps):
    pair = made_up_clips()["moving_blur"]
    values = FrameMetrics(tmp_path / "a.sqlite").evaluate(["xpsnr"], *pair, fps=fps)["xpsnr_db"]
    np.testing.assert_allclose(values, filter_by_hand(tmp_path, pair, fps), rtol=0, atol=1e-4)
    of_25 = METRICS["xpsnr"].measure(*map(in_unit_range, pair))[0]
    assert np.array_equal(values, of_25) == (fps < 32)


def test_values_at_another_frame_rate_are_measured_only_where_it_matters(tmp_path, monkeypatch):
    pair, commands = made_up_clips()["moving_blur"], count_runs(monkeypatch)
    cached = FrameMetrics(tmp_path / "a.sqlite")
    for fps, runs in ((None, 1), (30, 1), (50, 2), (60, 2), (25, 2)):
        cached.evaluate(["xpsnr"], *pair, fps=fps)
        assert len(commands) == runs
    cached.evaluate(["vmaf"], *pair, fps=25)
    cached.evaluate(["vmaf"], *pair, fps=50)
    assert len(commands) == 3


def test_a_negative_similarity_counts_as_none_in_ms_ssim():
    """A picture of noise and its negative: covariances are negative."""
    noise = np.random.default_rng(0).random((1, 1, 161, 161, 3), np.float32)
    assert METRICS["ms_ssim"].measure(noise, 1 - noise)[0, 0] == 0.0
    assert METRICS["ssim"].measure(noise, 1 - noise)[0, 0] < -0.5


def test_psnr_yuv_weights_luma_six_times():
    frames = np.full((1, 1, 16, 16, 3), 128, np.float32) / 255
    brighter = np.full((1, 1, 16, 16, 3), 133, np.float32) / 255  # 4 steps of luma, no chroma
    luma = 20 * np.log10(255 / 4)
    expected = (6 * luma + 100 + 100) / 8
    assert METRICS["psnr_yuv"].measure(frames, brighter)[0, 0] == pytest.approx(expected, abs=1e-4)


def made_program(folder, text):
    path = folder / "ffmpeg"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


needs_a_shell = pytest.mark.skipif(os.name != "posix", reason="stands in for FFmpeg by a script")


@needs_a_shell
def test_a_ffmpeg_without_the_filter_is_named_with_the_remedy(tmp_path, monkeypatch):
    listed = 'echo " TS psnr  VV->V  Calculate the PSNR"\n'
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", made_program(tmp_path, listed))
    for name, filter_name in (("vmaf", "libvmaf"), ("xpsnr", "xpsnr")):
        with pytest.raises(InputError, match=f"without the filter {filter_name}.*imageio-ffmpeg"):
            METRICS[name].measure.require()
        with pytest.raises(InputError, match=filter_name):
            METRICS[name].measure(*made_up("moving_grain"))


def test_no_ffmpeg_at_all_is_named_with_the_remedy(monkeypatch):
    def absent():
        raise RuntimeError("No ffmpeg exe could be found.")

    monkeypatch.setattr(imageio_ffmpeg, "get_ffmpeg_exe", absent)
    with pytest.raises(InputError, match="IMAGEIO_FFMPEG_EXE"):
        METRICS["vmaf"].measure.require()


@needs_a_shell
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('echo "out of memory" >&2; exit 3', "exit code 3: out of memory"),
        ("exit 0", "wrote no log"),
        ("echo nonsense > log", "cannot be read"),
        ("echo '{\"frames\": []}' > log", "0 values of 4 frames"),
    ],
    ids=["fails", "no log", "damaged log", "short log"],
)
def test_a_filter_that_fails_becomes_a_status_with_its_words(tmp_path, monkeypatch, text, said):
    listed = 'case "$*" in *-filters*) echo " .. libvmaf VV->V VMAF"; exit 0;; esac\n'
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", made_program(tmp_path, listed + text + "\n"))
    with pytest.raises(CodecFailure, match=said) as raised:
        METRICS["vmaf"].measure(*made_up("moving_grain"))
    assert raised.value.status == "codec_error"


@needs_a_shell
def test_a_filter_that_hangs_becomes_a_status(tmp_path, monkeypatch):
    listed = 'case "$*" in *-filters*) echo " .. libvmaf VV->V VMAF"; exit 0;; esac\n'
    program = made_program(tmp_path, listed + "exec sleep 20\n")
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", program)
    monkeypatch.setattr(ffmpeg, "_TIMEOUT_S", 0.2)
    with pytest.raises(CodecFailure, match="codec_timeout"):
        METRICS["vmaf"].measure(*made_up("moving_grain"))


def test_the_temporary_files_are_removed(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    METRICS["xpsnr"].measure(*made_up("moving_grain"))
    assert list(tmp_path.iterdir()) == []
