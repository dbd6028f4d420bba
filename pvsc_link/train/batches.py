"""The batch of a step: pictures, quality presets, quantisation noise, and seeds of the channel.

Everything is drawn from ``numpy.random.default_rng([seed, salt, step])``, the channel's seeds
follow from the same numbers and the frame (``channel.frame_seeds``). A resumed run therefore
sees what an uninterrupted one would have seen, and nothing about the data has to be saved. A
thread makes batches ahead, so that cutting clips holds up no step.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree

from pvsc_link.models import preset_at
from pvsc_link.train.channel import StepChannel, frame_seeds
from pvsc_link.train.config import (
    DataConfig,
    PhaseConfig,
    TrainConfig,
    gop_at,
    learning_rate_at,
    num_perceptual,
    ramp,
)
from pvsc_link.train.data import ClipCache, animate
from pvsc_link.train.family import motion_vectors
from pvsc_link.types import InputError

#: Share of the clips, among those large enough, that are shown at half the size.
_SHRINK_FRACTION = 0.25


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
        two = rng.integers(0, len(cache.stills), 2)
        still, cover = (cache.frames(cache.stills[i])[0] for i in two)
        frames = animate(still, cover, shape.num_frames, shape.crop, rng)
    else:
        frames = _cut(cache, _fitting(cache, config, shape, rng), config, shape, rng)
    if rng.random() < 0.5:
        frames = frames[:, :, ::-1]
    if rng.random() < 0.5:
        frames = frames[::-1]  # time runs backwards
    return frames


def _fitting(
    cache: ClipCache, config: DataConfig, shape: BatchShape, rng: np.random.Generator
) -> Any:
    """One of the clips that are long and large enough."""
    for i in _order(cache, config, rng):
        frames, height, width, _ = cache.frames(cache.clips[i]).shape
        if frames >= shape.num_frames and min(height, width) >= shape.crop:
            return cache.clips[i]
    raise InputError(
        "training clips",
        found=f"none with {shape.num_frames} frames of {shape.crop} pixels",
        allowed="clips at least as long as the GOP and as large as the crop",
        remedy="Add data, or lower crop or gop in the config.",
    )


def _order(cache: ClipCache, config: DataConfig, rng: np.random.Generator) -> np.ndarray:
    """Numbers of all clips in a random order, those of a drawn entry of ``data.clips`` first."""
    order = rng.permutation(len(cache.clips))
    if not config.clip_weights:
        return order
    weights = np.array(config.clip_weights)
    drawn = rng.choice(len(weights), p=weights / weights.sum())
    return order[np.argsort(cache.roots[order] != drawn, kind="stable")]


def _cut(
    cache: ClipCache,
    clip: Any,
    config: DataConfig,
    shape: BatchShape,
    rng: np.random.Generator,
) -> np.ndarray:
    """A crop of every n-th frame, of some clips at half the size."""
    frames = cache.frames(clip)
    longest = (len(frames) - 1) // max(1, shape.num_frames - 1)
    skip = int(rng.integers(1, min(config.max_skip, longest) + 1))
    start = int(rng.integers(0, len(frames) - (shape.num_frames - 1) * skip))
    halve = min(frames.shape[1:3]) >= 2 * shape.crop and rng.random() < _SHRINK_FRACTION
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


class BatchMaker:
    """Batches of one phase, as numpy arrays.

    Parameters
    ----------
    config, phase : the run and the phase
    model : config of the model that learns; ``intra`` : of the fixed intra model, or None
    cache : ClipCache
    first_step : int, number of the phase's first step in the run (part of the seed)
    """

    def __init__(
        self,
        config: TrainConfig,
        phase: PhaseConfig,
        model: Any,
        intra: Any,
        cache: ClipCache,
        first_step: int,
    ):
        self.config, self.phase, self.cache = config, phase, cache
        self.model, self.intra, self.first_step = model, intra, first_step
        self.channel = None if phase.channel is None else StepChannel(phase.channel)

    def make(self, step: int, salt: int = 0) -> dict[str, Any]:
        """Batch of step ``step`` of the phase, with T = lead_in + gop frames per clip.

        With ``accumulate`` above 1 every entry but the learning rate has one axis more in front,
        over the parts of the batch, and ``batch`` stands for the clips of a part.

        Output
        ------
        frames : [batch, T, crop, crop, 3], uint8
        omega_index : [batch, T], int32, quality presets
        noise_y, noise_z : [batch, T, ...], float32, uniform in [-0.5, 0.5)
        rows, place : [gop, ...], int32, clips and corner of what LPIPS sees of the last frames
        channel : with a channel, the output of ``StepChannel.draw``
        motion : [batch, T, crop / 16, crop / 16, 2], int32, vectors from frame t - 1 to frame t,
            for a model that sends vectors
        per_weight, adv_weight, learning_rate : scalars, float32
        """
        phase, rng = self.phase, step_generator(self.config.seed, salt, self.first_step + step)
        before, refresh_every = (_one_of(c, rng) for c in (phase.lead_in, phase.refresh_every))
        shape = BatchShape(
            phase.batch // phase.accumulate, before + gop_at(phase, step), phase.crop
        )
        places: list[tuple[int, ...]] = [(self.config.seed, salt, self.first_step + step)]
        places += [(*places[0], part) for part in range(1, phase.accumulate)]
        parts = [self._part(step, shape, refresh_every, rng, place) for place in places]
        batch = parts[0]
        if len(parts) > 1:
            batch = tree.map_structure(lambda *entries: np.stack(entries), *parts)
        return batch | {"learning_rate": np.float32(learning_rate_at(phase, step))}

    def _part(
        self,
        step: int,
        shape: BatchShape,
        refresh_every: int,
        rng: np.random.Generator,
        place: tuple[int, ...],
    ) -> dict[str, Any]:
        gop, loss = gop_at(self.phase, step), self.phase.loss
        batch: dict[str, Any] = {
            "frames": draw_frames(self.cache, self.config.data, shape, rng),
            "omega_index": self._presets(shape, refresh_every, rng),
            **self._noise(shape, rng),
            **self._perceptual_place(gop, shape.batch, rng),
            "per_weight": np.float32(ramp(loss.per, loss.per_ramp, step)),
            "adv_weight": np.float32(ramp(loss.adv, loss.adv_ramp, step)),
        }
        if self.channel is not None:
            seeds = frame_seeds(place, shape.num_frames)
            batch["channel"] = self.channel.draw(rng, seeds, shape.batch)
        motion = self._motion(batch["frames"], batch["omega_index"])
        return batch if motion is None else batch | {"motion": motion}

    def _presets(
        self, shape: BatchShape, refresh_every: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Quality preset of every frame: that of its clip, or a finer one in a refresh frame.

        With DVST, whose models have one rate, all frames have the preset of that number.
        """
        count, rate = len(self.config.omega), self.phase.rate
        if rate is not None:
            return np.full((shape.batch, shape.num_frames), rate, np.int32)
        of_clips = rng.integers(0, count, shape.batch, np.int32)
        places = range(shape.num_frames)
        presets = [[preset_at(i, t, refresh_every, count) for t in places] for i in of_clips]
        return np.array(presets, np.int32)

    def _motion(self, frames: np.ndarray, omega_index: np.ndarray) -> np.ndarray | None:
        """Vectors between the original pictures; on the link the reference is a decoded one."""
        floats = frames.astype(np.float32) / np.float32(255)
        motion = [
            motion_vectors(self.model, floats[:, t], floats[:, t + 1], omega_index[:, t + 1])
            for t in range(frames.shape[1] - 1)
        ]
        if not motion or motion[0] is None:
            return None
        return np.stack([np.zeros_like(motion[0]), *motion], axis=1)

    def _noise(self, shape: BatchShape, rng: np.random.Generator) -> dict[str, np.ndarray]:
        def uniform(step: int, channels: int) -> np.ndarray:
            size = shape.crop // step
            drawn = rng.random((shape.batch, shape.num_frames, size, size, channels), np.float32)
            return drawn - np.float32(0.5)

        return {
            "noise_y": uniform(16, self.model.channels_y),
            "noise_z": uniform(64, self.model.channels_z),
        }

    def _perceptual_place(
        self, gop: int, batch: int, rng: np.random.Generator
    ) -> dict[str, np.ndarray]:
        phase, loss = self.phase, self.phase.loss
        count = num_perceptual(loss, batch)
        rows = [rng.permutation(batch)[:count] for _ in range(gop)]
        room = phase.crop - (loss.per_crop or phase.crop)
        place = rng.integers(0, room + 1, (gop, 2))
        return {"rows": np.array(rows, np.int32), "place": place.astype(np.int32)}


def _one_of(numbers: list[int], rng: np.random.Generator) -> int:
    return int(rng.choice(numbers)) if len(numbers) > 1 else numbers[0]


def made_ahead(
    make: Callable[[int], Any], first: int, last: int, depth: int = 4, threads: int = 1
) -> Generator[Any, None, None]:
    """``make(first)`` to ``make(last - 1)`` in order, made by threads some batches ahead.

    Parameters: ``depth`` : most batches that wait for their step, if twice ``threads`` is less.

    An exception in ``make`` is raised in its turn. Close the iterator to stop the thread.
    """
    depth = max(depth, 2 * threads if threads > 1 else 0)
    pool, waiting = ThreadPoolExecutor(threads), deque[Future]()
    try:
        for step in range(first, last):
            waiting.append(pool.submit(make, step))
            if len(waiting) > depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
