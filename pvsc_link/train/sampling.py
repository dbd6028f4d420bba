"""Which clips a step sees, how they are cut, and which noise it meets: a function of the step.

Everything is drawn from ``numpy.random.default_rng([seed, salt, step])``, so that a resumed run
sees what the uninterrupted one would have seen, and nothing has to be saved.
"""

from dataclasses import dataclass

import numpy as np

from pvsc_link.train.clip_cache import CachedClip, ClipCache
from pvsc_link.train.config import DataConfig
from pvsc_link.train.synthetic_motion import animate
from pvsc_link.types import InputError


@dataclass(frozen=True)
class BatchShape:
    """Clips, frames and pixels of one step."""

    batch: int
    num_frames: int
    crop: int


def step_generator(seed: int, salt: int, step: int) -> np.random.Generator:
    """The only source of randomness of a step; ``salt`` changes after a rollback."""
    return np.random.default_rng([seed, salt, step])


def draw_frames(
    cache: ClipCache, config: DataConfig, shape: BatchShape, rng: np.random.Generator
) -> np.ndarray:
    """Training clips: uint8 RGB [batch, num_frames, crop, crop, 3]."""
    return np.stack([_draw_clip(cache, config, shape, rng) for _ in range(shape.batch)])


def _draw_clip(
    cache: ClipCache, config: DataConfig, shape: BatchShape, rng: np.random.Generator
) -> np.ndarray:
    if cache.stills and rng.random() < config.still_fraction:
        still, cover = (cache.frames(cache.stills[i])[0] for i in _two(len(cache.stills), rng))
        frames = animate(still, cover, shape.num_frames, shape.crop, rng)
    else:
        frames = _cut(cache, _fitting(cache.clips, shape, rng), config, shape, rng)
    if rng.random() < 0.5:
        frames = frames[:, :, ::-1]
    if rng.random() < 0.5:
        frames = frames[::-1]  # time runs backwards as plausibly as a mirror image
    return frames


def _two(count: int, rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, count, 2)


def _fitting(clips: list[CachedClip], shape: BatchShape, rng: np.random.Generator) -> CachedClip:
    """A clip long and large enough; short ones are passed over."""
    for i in rng.permutation(len(clips)):
        frames, height, width, _ = clips[i].shape
        if frames >= shape.num_frames and min(height, width) >= shape.crop:
            return clips[i]
    raise InputError(
        "training clips",
        found=f"none with {shape.num_frames} frames of {shape.crop} pixels",
        allowed="clips at least as long as the GOP and as large as the crop",
        remedy="Add data, or lower crop or gop in the config.",
    )


def _cut(
    cache: ClipCache,
    clip: CachedClip,
    config: DataConfig,
    shape: BatchShape,
    rng: np.random.Generator,
) -> np.ndarray:
    """Crop, speed (every n-th frame) and, at times, half the size."""
    frames = cache.frames(clip)
    longest = (len(frames) - 1) // max(1, shape.num_frames - 1)
    skip = int(rng.integers(1, min(config.max_skip, longest) + 1))
    start = int(rng.integers(0, len(frames) - (shape.num_frames - 1) * skip))
    halve = min(frames.shape[1:3]) >= 2 * shape.crop and rng.random() < config.shrink_fraction
    side = shape.crop * (2 if halve else 1)
    top = int(rng.integers(0, frames.shape[1] - side + 1))
    left = int(rng.integers(0, frames.shape[2] - side + 1))
    last = start + (shape.num_frames - 1) * skip + 1
    cut = frames[start:last:skip, top : top + side, left : left + side]
    return _halved(cut) if halve else np.array(cut)


def _halved(frames: np.ndarray) -> np.ndarray:
    """2x2 means, rounded."""
    wide = frames.astype(np.uint16)
    rows = wide[:, 0::2] + wide[:, 1::2]
    return ((rows[:, :, 0::2] + rows[:, :, 1::2] + 2) // 4).astype(np.uint8)
