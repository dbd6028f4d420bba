"""Values of frames: computed once ever, whatever kills or shares the file."""

import os
import signal
import sqlite3
import subprocess
import sys

import numpy as np
import pytest

from pvsc_link.metrics.base import Metric
from pvsc_link.metrics.frame_cache import FrameMetrics
from pvsc_link.metrics.registry import MetricType
from pvsc_link.types import InputError


class Counting(Metric):
    """Mean absolute difference that counts its work."""

    version = 1

    def __init__(self):
        self.references = self.comparisons = 0
        self.die_at = None

    def _reference(self, frame):
        self.references += 1
        return frame

    def _compare(self, reference, frame_hat):
        self.comparisons += 1
        if self.comparisons == self.die_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return float(np.abs(reference - frame_hat).mean())


def described(counting):
    """A registry with this one metric."""
    metric = MetricType("counting", "Counting", False, lambda: counting, column="counting_value")
    return {"counting": metric}


def clip(num_frames, seed, size=16):
    shape = (num_frames, size, size, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


@pytest.fixture
def counting():
    return Counting()


@pytest.fixture
def cached(tmp_path, counting):
    return FrameMetrics(tmp_path / "values.sqlite", metrics=described(counting))


def test_the_real_metrics_give_the_same_values_through_the_cache(tmp_path):
    from pvsc_link.metrics import METRICS

    frames, frames_hat = clip(2, 0, 32), clip(2, 1, 32)
    expected = {
        m.column: m.measure(frames[None] / np.float32(255), frames_hat[None] / np.float32(255))[0]
        for m in METRICS.values()
    }
    for _ in range(2):
        found = FrameMetrics(tmp_path / "values.sqlite").evaluate(METRICS, frames, frames_hat)
        assert set(found) == {"psnr_db", "lpips", "dists"}
        for column, values in found.items():
            assert values.dtype == np.float32
            np.testing.assert_array_equal(values, expected[column])


def test_a_pair_is_measured_once_ever(tmp_path, counting, cached):
    frames, frames_hat = clip(3, 0), clip(3, 1)
    first = cached.evaluate(["counting"], frames, frames_hat)["counting_value"]
    again = FrameMetrics(tmp_path / "values.sqlite", metrics=described(counting))
    second = again.evaluate(["counting"], frames, frames_hat)["counting_value"]
    np.testing.assert_array_equal(first, second)
    assert counting.comparisons == 3
    assert not np.array_equal(first[::-1], first)


def test_one_changed_sample_is_measured_anew(counting, cached):
    frames, frames_hat = clip(1, 0), clip(1, 1)
    cached.evaluate(["counting"], frames, frames_hat)
    frames_hat[0, 5, 6, 1] ^= 1
    cached.evaluate(["counting"], frames, frames_hat)
    assert counting.comparisons == 2


def test_a_frozen_frame_is_told_from_a_frame_of_another_shape(counting, cached):
    frames = clip(1, 0)
    reshaped = frames.reshape(1, 8, 32, 3).repeat(2, axis=1)
    cached.evaluate(["counting"], frames, frames)
    cached.evaluate(["counting"], reshaped, reshaped)
    assert counting.comparisons == 2


def test_a_new_version_of_a_metric_forgets_the_old_values(counting, cached):
    frames, frames_hat = clip(1, 0), clip(1, 1)
    cached.evaluate(["counting"], frames, frames_hat)
    counting.version = 2
    cached.evaluate(["counting"], frames, frames_hat)
    assert counting.comparisons == 2


def test_reference_features_are_computed_once_per_frame(counting, cached):
    for seed in (1, 2, 3):
        cached.evaluate(["counting"], clip(4, 0), clip(4, seed))
    assert (counting.references, counting.comparisons) == (4, 12)


def test_reference_features_are_bounded_in_bytes(tmp_path, counting):
    two_frames = 2 * 16 * 16 * 3 * 4
    cached = FrameMetrics(
        tmp_path / "v.sqlite", metrics=described(counting), reference_bytes=two_frames
    )
    frames = clip(3, 0)
    for seed in (1, 2):
        cached.evaluate(["counting"], frames, clip(3, seed))
        assert cached._references._num_bytes <= two_frames
    assert counting.references == 6  # least recently used: three frames do not fit two places
    cached.evaluate(["counting"], frames[1:], clip(2, 5))
    assert counting.references == 6


def run_process(path, seed, die_at=None):
    folder = os.path.dirname(__file__)
    code = f"""
import sys; sys.path.insert(0, {folder!r})
from test_frame_cache import Counting, clip, described
from pvsc_link.metrics.frame_cache import FrameMetrics
counting = Counting()
counting.die_at = {die_at}
cached = FrameMetrics({str(path)!r}, metrics=described(counting))
cached.evaluate(["counting"], clip(40, 0), clip(40, {seed}))
"""
    return subprocess.Popen([sys.executable, "-c", code])


def test_a_kill_loses_nothing_but_the_value_in_progress(tmp_path, counting):
    path = tmp_path / "values.sqlite"
    assert run_process(path, 1, die_at=11).wait() == -signal.SIGKILL
    cached = FrameMetrics(path, metrics=described(counting))
    values = cached.evaluate(["counting"], clip(40, 0), clip(40, 1))["counting_value"]
    assert counting.comparisons == 30
    direct = Counting()(clip(40, 0)[None] / np.float32(255), clip(40, 1)[None] / np.float32(255))
    np.testing.assert_array_equal(values, direct[0])


def test_processes_share_one_file(tmp_path, counting):
    path = tmp_path / "values.sqlite"
    assert [p.wait() for p in [run_process(path, seed) for seed in (1, 2)]] == [0, 0]
    cached = FrameMetrics(path, metrics=described(counting))
    for seed in (1, 2):
        cached.evaluate(["counting"], clip(40, 0), clip(40, seed))
    assert counting.comparisons == 0


def test_without_a_path_the_values_lie_in_the_cache_folder(tmp_path, monkeypatch, counting):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path / "new" / "folder"))
    FrameMetrics(metrics=described(counting)).evaluate(["counting"], clip(1, 0), clip(1, 1))
    file = tmp_path / "new" / "folder" / "frame_metrics.sqlite"
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT COUNT(*) FROM frame_metric").fetchone() == (1,)


def test_a_file_that_is_no_database_names_the_remedy(tmp_path):
    (tmp_path / "values.sqlite").write_text("not a database, " * 100)
    with pytest.raises(InputError, match="Delete the file"):
        FrameMetrics(tmp_path / "values.sqlite")


@pytest.mark.parametrize(
    "spoil",
    [lambda f: f / np.float32(255), lambda f: f[0], lambda f: f[:1], lambda f: f[..., :1]],
    ids=["float", "no time axis", "fewer frames", "grey"],
)
def test_frames_that_are_no_8_bit_video_are_refused(cached, spoil):
    with pytest.raises(InputError):
        cached.evaluate(["counting"], clip(2, 0), spoil(clip(2, 1)))


def test_an_unknown_metric_is_refused_with_the_known_ones(cached):
    with pytest.raises(InputError, match="allowed: counting"):
        cached.evaluate(["vmaf"], clip(1, 0), clip(1, 1))
