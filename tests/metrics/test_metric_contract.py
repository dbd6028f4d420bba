"""What every metric promises: one value per frame, refusal of bad frames, no retracing.

What the metrics by FFmpeg and tLP promise beyond that stands in ``test_clip_metrics.py``.
"""

import numpy as np
import pytest

from pvsc_link.metrics import METRICS
from pvsc_link.metrics.base import Metric
from pvsc_link.metrics.psnr import PSNR_CAP_DB
from pvsc_link.types import InputError

#: CLIP similarity and FVD need a Python of the user's own (``test_drivers.py``).
NEEDS_MORE = {"clip_similarity", "fvd"}
HERE = [name for name in METRICS if name not in NEEDS_MORE]
IDENTICAL = {
    **{"psnr": PSNR_CAP_DB, "psnr_yuv": PSNR_CAP_DB, "xpsnr": PSNR_CAP_DB},
    **{"lpips": 0.0, "dists": 0.0, "tlp": 0.0, "ssim": 1.0, "ms_ssim": 1.0},
}


def clip(batch=1, num_frames=1, height=32, width=48, seed=0):
    return np.random.default_rng(seed).random((batch, num_frames, height, width, 3), np.float32)


def large_clip(metric, batch=1, num_frames=2, seed=0):
    """A clip that the metric can measure: large enough, and of two frames for those that move."""
    height, width = max(32, metric.smallest_side), max(48, metric.smallest_side)
    return clip(batch, num_frames, height, width, seed)


@pytest.fixture(params=HERE)
def metric(request) -> Metric:
    return METRICS[request.param].measure


@pytest.mark.parametrize("entry", METRICS.values(), ids=list(METRICS))
def test_a_metric_says_alike_in_both_places_what_it_measures(entry):
    metric = entry.measure
    assert entry.of_clip == metric.of_clip
    assert entry.smallest_side == metric.smallest_side
    assert entry.fewest_frames == metric.fewest_frames
    assert entry.source
    assert entry.meaning


def test_labels_in_narrow_tables_tell_the_metrics_apart():
    assert len({metric.short_label for metric in METRICS.values()}) == len(METRICS)
    assert len({metric.column for metric in METRICS.values()}) == len(METRICS)


def test_every_metric_finds_here_what_it_needs(metric):
    metric.require()


@pytest.mark.parametrize("name", list(METRICS))
def test_every_metric_is_listed_under_its_own_name(name):
    assert METRICS[name].name == name


@pytest.mark.parametrize("name", HERE)
def test_the_smallest_side_of_a_metric_is_the_one_that_it_enforces(name):
    metric, side = METRICS[name].measure, METRICS[name].smallest_side
    smallest = clip(num_frames=2, height=side, width=side)
    assert np.isfinite(metric(smallest, smallest)).all()
    if side > 1:
        small = smallest[..., 1:, :, :]
        with pytest.raises(InputError, match=f"at least {side}"):
            metric(small, small)


def test_there_is_one_value_per_frame(metric):
    frames, frames_hat = large_clip(metric, 2, 3, seed=1), large_clip(metric, 2, 3, seed=2)
    values = metric(frames, frames_hat)
    assert values.shape == (2, 3)
    assert values.dtype == np.float32
    alone = metric(frames[1:], frames_hat[1:])
    np.testing.assert_allclose(values[1], alone[0], rtol=1e-6)


@pytest.mark.parametrize("name", [name for name in METRICS if not METRICS[name].of_clip])
def test_the_value_of_a_frame_is_independent_of_its_neighbours(name):
    metric = METRICS[name].measure
    frames, frames_hat = large_clip(metric, 2, 3, seed=1), large_clip(metric, 2, 3, seed=2)
    values = metric(frames, frames_hat)
    alone = metric(frames[1:, 2:], frames_hat[1:, 2:])
    assert values[1, 2] == pytest.approx(alone[0, 0], rel=1e-6)
    assert len(np.unique(values)) == 6


def test_reference_features_serve_several_comparisons(metric):
    frames = large_clip(metric, seed=3)
    reference = metric.reference(frames[0])
    for seed in (4, 5):
        frames_hat = large_clip(metric, seed=seed)
        both = metric.compare(reference, frames_hat[0]), metric(frames, frames_hat)[0]
        np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("name", list(IDENTICAL))
def test_identical_frames_are_perfect_and_the_value_is_finite(name):
    metric = METRICS[name].measure
    frames = large_clip(metric, seed=6)
    np.testing.assert_allclose(metric(frames, frames)[0], IDENTICAL[name], atol=1e-6)


def test_every_metric_but_vmaf_has_a_value_of_identical_frames():
    assert set(HERE) - set(IDENTICAL) == {"vmaf", "vmaf_neg"}


@pytest.mark.parametrize("name", HERE)
def test_more_noise_is_worse(name):
    metric = METRICS[name].measure
    frames = large_clip(metric, num_frames=1, seed=7).repeat(2, axis=1) * 0.2 + 0.4
    noise = np.random.default_rng(8).normal(size=frames.shape).astype(np.float32)
    values = [float(metric(frames, frames + s * noise)[0, 1]) for s in (0.005, 0.02, 0.06)]
    assert values == sorted(values, reverse=METRICS[name].higher_is_better)


def test_odd_sizes_and_the_smallest_size_are_measured(metric):
    side = max(16, metric.smallest_side)
    for height, width in ((side + 1, side + 15), (side, side)):
        pair = [clip(num_frames=2, height=height, width=width, seed=seed) for seed in (0, 1)]
        assert np.isfinite(metric(*pair)).all()


def with_nan(frames):
    frames = frames.copy()
    frames[0, 0, 3, 4, 1] = np.nan
    return frames


@pytest.mark.parametrize(
    "spoil",
    [
        with_nan,
        lambda frames: frames * 255,
        lambda frames: frames - 0.5,
        lambda frames: (frames * 255).astype(np.uint8),
        lambda frames: frames[0],
        lambda frames: frames[..., :1],
        lambda frames: frames[:, :0],
    ],
    ids=["nan", "0..255", "negative", "uint8", "no batch", "grey", "no frame"],
)
def test_frames_that_are_no_rgb_in_unit_range_are_refused(metric, spoil):
    frames = large_clip(metric)
    with pytest.raises(InputError):
        metric(frames, spoil(frames))
    with pytest.raises(InputError):
        metric(spoil(frames), frames)


def test_frames_of_different_size_or_number_are_refused(metric):
    with pytest.raises(InputError, match="differ in shape"):
        metric(large_clip(metric), large_clip(metric, num_frames=1))
    with pytest.raises(InputError, match="number of frames"):
        metric.compare(metric.reference(large_clip(metric)[0]), large_clip(metric, num_frames=1)[0])


@pytest.mark.parametrize("name", ["lpips", "dists"])
def test_another_frame_of_the_same_size_does_not_retrace(name, monkeypatch):
    metric = type(METRICS[name].measure)()
    layer, traced = metric.layer, []
    original = layer.distance

    def distance(self, features, features_hat):
        traced.append(features[0].shape)
        return original(self, features, features_hat)

    monkeypatch.setattr(layer, "distance", distance)
    metric(clip(seed=1), clip(seed=2))
    first = len(traced)
    metric(clip(2, 3, seed=3), clip(2, 3, seed=4))
    assert first > 0
    assert len(traced) == first


def test_psnr_is_that_of_the_mean_squared_error_over_all_colours():
    frames = np.full((1, 1, 16, 16, 3), 0.5, np.float32)
    frames_hat = frames.copy()
    frames_hat[..., 0] += 0.1  # MSE = 0.01 / 3
    assert METRICS["psnr"].measure(frames, frames_hat)[0, 0] == pytest.approx(24.7712, abs=1e-3)


def test_metrics_ignore_a_global_half_precision_policy():
    import keras

    frames, frames_hat = clip(seed=1), clip(seed=2)
    expected = METRICS["lpips"].measure(frames, frames_hat)
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        value = type(METRICS["lpips"].measure)()(frames, frames_hat)
    finally:
        keras.config.set_dtype_policy(previous)
    np.testing.assert_allclose(value, expected, atol=1e-6)
