"""Values of frames: computed once ever, whatever kills or shares the file."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

from pvsc_link.metrics.base import ClipMetric, Metric
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

    frames, frames_hat = clip(2, 0, 48), clip(2, 1, 48)
    other = {"ms_ssim", "clip_similarity", "fvd"}  # too small a clip, or another Python
    small = {name: metric for name, metric in METRICS.items() if name not in other}
    expected = {
        m.column: m.measure(frames[None] / np.float32(255), frames_hat[None] / np.float32(255))[0]
        for m in small.values()
    }
    for _ in range(2):
        found = FrameMetrics(tmp_path / "values.sqlite").evaluate(small, frames, frames_hat)
        assert set(found) == {metric.column for metric in small.values()}
        assert {"psnr_db", "lpips", "dists", "psnr_yuv_db", "xpsnr_db", "vmaf"} < set(found)
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


class CountingSteps(ClipMetric):
    """Change from frame to frame, shown over reference; counts its clips."""

    def __init__(self):
        self.references = self.comparisons = 0
        self.program = "1.0"

    def build(self):
        return self.program

    def _clip_reference(self, frames):
        self.references += 1
        return np.stack(list(frames))

    def _compare_clip(self, reference, frames_hat):
        self.comparisons += 1
        steps, steps_hat = (
            np.abs(np.diff(a, axis=0)) for a in (reference, np.stack(list(frames_hat)))
        )
        values = np.abs(steps_hat - steps).mean(axis=(1, 2, 3))
        return [values.mean() if len(values) else np.nan, *values]


@pytest.fixture
def steps():
    return CountingSteps()


@pytest.fixture
def cached_steps(tmp_path, steps):
    metric = MetricType("steps", "Steps", False, lambda: steps, of_clip=True)
    return FrameMetrics(tmp_path / "values.sqlite", metrics={"steps": metric})


def test_a_clip_is_measured_once_and_found_again(steps, cached_steps):
    frames, frames_hat = clip(4, 0), clip(4, 1)
    first = cached_steps.evaluate(["steps"], frames, frames_hat)["steps"]
    again = cached_steps.evaluate(["steps"], frames, frames_hat)["steps"]
    np.testing.assert_array_equal(first, again)
    direct = CountingSteps()(*(c[None] / np.float32(255) for c in (frames, frames_hat)))[0]
    np.testing.assert_array_equal(first, direct)
    assert (steps.references, steps.comparisons) == (1, 1)


@pytest.mark.parametrize("of_reference", [True, False])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_a_changed_neighbour_is_another_clip(steps, cached_steps, place, of_reference):
    frames, frames_hat = clip(4, 0), clip(4, 1)
    before = cached_steps.evaluate(["steps"], frames, frames_hat)["steps"]
    (frames if of_reference else frames_hat)[place] //= 2
    after = cached_steps.evaluate(["steps"], frames, frames_hat)["steps"]
    assert steps.comparisons == 2
    direct = CountingSteps()(*(c[None] / np.float32(255) for c in (frames, frames_hat)))[0]
    np.testing.assert_array_equal(after, direct)
    assert not np.array_equal(before, after)


def test_a_part_of_a_clip_is_measured_as_the_clip_that_it_is(steps, cached_steps):
    frames, frames_hat = clip(4, 0), clip(4, 1)
    cached_steps.evaluate(["steps"], frames, frames_hat)
    cached_steps.evaluate(["steps"], frames[1:], frames_hat[1:])
    cached_steps.evaluate(["steps"], frames[[1, 0, 2, 3]], frames_hat[[1, 0, 2, 3]])
    assert steps.comparisons == 3


def test_a_value_that_does_not_exist_stays_so_and_is_not_measured_again(steps, cached_steps):
    for _ in range(2):
        values = cached_steps.evaluate(["steps"], clip(1, 0), clip(1, 1))["steps"]
        assert values.dtype == np.float32
        assert np.isnan(values).all()
    assert steps.comparisons == 1


def test_another_build_of_the_program_measures_anew(steps, cached_steps):
    frames, frames_hat = clip(2, 0), clip(2, 1)
    cached_steps.evaluate(["steps"], frames, frames_hat)
    steps.program = "1.1"
    cached_steps.evaluate(["steps"], frames, frames_hat)
    assert steps.comparisons == 2


def test_the_reference_clip_serves_all_shown_versions(steps, cached_steps):
    for seed in (1, 2, 3):
        cached_steps.evaluate(["steps"], clip(4, 0), clip(4, seed))
    assert (steps.references, steps.comparisons) == (1, 3)


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
        assert database.execute("SELECT COUNT(*) FROM frame_value").fetchone() == (1,)


def test_a_file_that_is_no_database_names_the_remedy(tmp_path):
    (tmp_path / "values.sqlite").write_text("not a database, " * 100)
    with pytest.raises(InputError, match="Delete the file"):
        FrameMetrics(tmp_path / "values.sqlite")


def test_a_disk_that_is_or_becomes_full_costs_no_value(tmp_path, counting):
    frames, disk = [clip(1, seed) for seed in (0, 1, 2)], tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        cached = FrameMetrics(disk / "values.sqlite", metrics=described(counting))
        cached.evaluate(["counting"], frames[0], frames[1])
        with suppress(OSError), open(disk / "ballast", "wb", buffering=0) as file:
            while file.write(bytes(4096)):
                pass
        with pytest.warns(UserWarning, match="not kept"):
            cached.evaluate(["counting"], frames[0], frames[2])
        with pytest.warns(UserWarning, match="not kept"):
            absent = FrameMetrics(disk / "other.sqlite", metrics=described(counting))
        absent.evaluate(["counting"], frames[0], frames[2])
        assert counting.comparisons == 3
        cached.evaluate(["counting"], frames[0], frames[1])
        assert counting.comparisons == 3, "what was kept before serves"
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_disk_that_two_threads_find_full_at_once_costs_no_value(cached, monkeypatch):
    """The second one meets the fault when the first has turned to reading already."""
    frames, opened = clip(2, 0), FrameMetrics._opened
    together, turned, failed = threading.Barrier(2), threading.Event(), []
    go_on = FrameMetrics._go_on_read_only

    def failing(self):
        if threading.get_ident() in failed:
            return opened(self)
        failed.append(threading.get_ident())
        if together.wait(20):
            turned.wait(20)
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    def told(self, error):
        go_on(self, error)
        turned.set()

    monkeypatch.setattr(FrameMetrics, "_opened", failing)
    monkeypatch.setattr(FrameMetrics, "_go_on_read_only", told)

    def value(frame):
        return cached.evaluate(["counting"], frame[None], frame[None])["counting_value"].tolist()

    with ThreadPoolExecutor(2) as pool, pytest.warns(UserWarning, match="not kept"):
        values = list(pool.map(value, frames))
    assert values == [[0.0], [0.0]]


def changed(path, statement):
    with sqlite3.connect(path) as database:
        assert database.execute(statement).rowcount > 0


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE frame_value SET value = value * 1.5",
        "UPDATE frame_value SET value = NULL",
        "UPDATE frame_value SET value = 'much'",
        "UPDATE frame_value SET checksum = x'00'",
        "UPDATE frame_value SET metric = 'counting', reference = shown",
    ],
)
def test_a_damaged_row_is_measured_again_and_repaired(tmp_path, counting, cached, statement):
    frames, frames_hat = clip(1, 0), clip(1, 1)
    first = cached.evaluate(["counting"], frames, frames_hat)["counting_value"]
    changed(tmp_path / "values.sqlite", statement)
    if "reference" in statement:  # the row now stands under the key of another pair
        frames, first = frames_hat, [0]
    with pytest.warns(UserWarning, match="counting is damaged and measured again"):
        second = cached.evaluate(["counting"], frames, frames_hat)["counting_value"]
    np.testing.assert_array_equal(first, second)
    cached.evaluate(["counting"], frames, frames_hat)
    assert counting.comparisons == 2


def test_a_damaged_value_of_one_frame_measures_its_clip_again(tmp_path, steps, cached_steps):
    frames, frames_hat = clip(4, 0), clip(4, 1)
    first = cached_steps.evaluate(["steps"], frames, frames_hat)["steps"]
    lowest = "SELECT MIN(value) FROM frame_value"
    statement = f"UPDATE frame_value SET value = value + 1 WHERE value = ({lowest})"
    changed(tmp_path / "values.sqlite", statement)
    with pytest.warns(UserWarning, match="steps is damaged"):
        again = cached_steps.evaluate(["steps"], frames, frames_hat)["steps"]
    np.testing.assert_array_equal(first, again)
    assert steps.comparisons == 2


def test_rows_of_earlier_versions_without_a_checksum_are_found(tmp_path, counting, cached):
    frames, frames_hat = clip(2, 0), clip(2, 1)
    first = cached.evaluate(["counting"], frames, frames_hat)["counting_value"]
    path = tmp_path / "values.sqlite"
    columns = "metric, version, reference, shown, value"
    changed(path, f"INSERT INTO frame_metric SELECT {columns} FROM frame_value")
    changed(path, "DELETE FROM frame_value WHERE 1")
    again = cached.evaluate(["counting"], frames, frames_hat)["counting_value"]
    np.testing.assert_array_equal(first, again)
    assert counting.comparisons == 2


def test_a_file_with_a_damaged_page_names_the_remedy(tmp_path, cached):
    frames = clip(40, 0)
    cached.evaluate(["counting"], frames, clip(40, 1))
    path = tmp_path / "values.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(path.read_bytes())
    for page in range(1, len(content) // 4096):
        content[4096 * page : 4096 * page + 64] = b"\xff" * 64
    path.write_bytes(content)
    with pytest.raises(InputError, match="Delete the file"):
        cached.evaluate(["counting"], frames, clip(40, 1))


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


@pytest.mark.parametrize("in_threads", [False, True])
def test_a_metric_says_whether_threads_may_compare_frames_at_once(
    cached, counting, monkeypatch, in_threads
):
    """Two comparisons wait for each other, which only those that run at once survive."""
    together, compare = threading.Barrier(2), counting._compare
    met = []

    def waiting(reference, frame_hat):
        with suppress(threading.BrokenBarrierError):
            together.wait(0.3 if not in_threads else 20)
            met.append(True)
        return compare(reference, frame_hat)

    monkeypatch.setattr(Counting, "in_threads", in_threads)
    monkeypatch.setattr(counting, "_compare", waiting)
    frame, shown = clip(1, 0), [clip(1, 1), clip(1, 2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda one: cached.evaluate(["counting"], frame, one), shown))
    assert counting.comparisons == 2
    assert counting.references == 1
    assert len(met) == (2 if in_threads else 0)
