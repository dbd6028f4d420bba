"""Which clips a step sees, how they are cut, and which noise it meets: a function of the step.

Everything is drawn from ``numpy.random.default_rng([seed, salt, step])``, so that a resumed run
sees what the uninterrupted one would have seen, and nothing has to be saved.

The batch of a step: pictures, quality presets, noise and channel draws, from the step alone.

Batches made ahead in one thread, so that decoding and cutting never hold up a step.
"""

import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc_mc.motion import vectors
from pvsc_link.models.stream import preset_at
from pvsc_link.train import channel
from pvsc_link.train.config import (
    DataConfig,
    PhaseConfig,
    TrainConfig,
    gop_at,
    learning_rate_at,
    ramp,
)
from pvsc_link.train.data import CachedClip, ClipCache, animate
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


class BatchMaker:
    """Batches of one phase, as numpy arrays.

    Parameters
    ----------
    config, phase : the run and the phase
    model : PvscConfig of the model that learns; ``intra`` : of the fixed intra model, or None
    cache : ClipCache
    first_step : int, number of the phase's first step in the run (part of the seed)
    """

    def __init__(
        self,
        config: TrainConfig,
        phase: PhaseConfig,
        model: PvscConfig,
        intra: PvscConfig | None,
        cache: ClipCache,
        first_step: int,
    ):
        self.config, self.phase, self.cache = config, phase, cache
        self.model, self.intra, self.first_step = model, intra, first_step

    def make(self, step: int, salt: int = 0) -> dict[str, Any]:
        """Batch of step ``step`` of the phase.

        Output: ``frames`` : [batch, T, crop, crop, 3], uint8, T = lead_in + gop; ``omega_index`` :
        [batch, T], int32; ``noise_y``, ``noise_z`` : [batch, T, ...], float32, uniform in
        [-0.5, 0.5); ``rows``, ``place`` : [gop, ...], int32, the part that LPIPS sees, of the last
        gop frames; ``draws`` (``channel.draw``) with a
        channel; ``motion`` : [batch, T, crop / 16, crop / 16, 2], int32, of frame t from frame
        t - 1, where the model compensates it; ``per_weight``,
        ``adv_weight``, ``learning_rate`` : scalars, float32.
        """
        phase = self.phase
        rng = step_generator(self.config.seed, salt, self.first_step + step)
        gop, loss = gop_at(phase, step), phase.loss
        before, refresh_every = (_one_of(c, rng) for c in (phase.lead_in, phase.refresh_every))
        shape = BatchShape(phase.batch, before + gop, phase.crop)
        batch: dict[str, Any] = {
            "frames": draw_frames(self.cache, self.config.data, shape, rng),
            "omega_index": self._presets(shape, refresh_every, rng),
            **self._noise(shape, rng),
            **self._perceptual_place(gop, rng),
            "per_weight": np.float32(ramp(loss.per, loss.per_ramp, step)),
            "adv_weight": np.float32(ramp(loss.adv, loss.adv_ramp, step)),
            "learning_rate": np.float32(learning_rate_at(phase, step)),
        }
        if phase.channel is not None:
            batch |= self._draws(shape, rng)
        if self.model.motion_compensation:
            batch["motion"] = self._motion(batch["frames"], batch["omega_index"])
        return batch

    def _presets(
        self, shape: BatchShape, refresh_every: int, rng: np.random.Generator
    ) -> np.ndarray:
        """Quality preset of every frame: each clip's own, finer where a P frame refreshes."""
        count = len(self.config.omega)
        of_clips = rng.integers(0, count, shape.batch, np.int32)
        places = range(shape.num_frames)
        presets = [[preset_at(i, t, refresh_every, count) for t in places] for i in of_clips]
        return np.array(presets, np.int32)

    def _motion(self, frames: np.ndarray, omega_index: np.ndarray) -> np.ndarray:
        """Vectors between the pictures as they are: on the link the reference is a decoded one."""
        floats = frames.astype(np.float32) / np.float32(255)
        motion = [
            vectors(self.model, floats[:, t], floats[:, t + 1], omega_index[:, t + 1])
            for t in range(frames.shape[1] - 1)
        ]
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

    def _perceptual_place(self, gop: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        phase, loss = self.phase, self.phase.loss
        count = max(1, round(loss.per_share * phase.batch))
        rows = [rng.permutation(phase.batch)[:count] for _ in range(gop)]
        room = phase.crop - (loss.per_crop or phase.crop)
        place = rng.integers(0, room + 1, (gop, 2))
        return {"rows": np.array(rows, np.int32), "place": place.astype(np.int32)}

    def _draws(self, shape: BatchShape, rng: np.random.Generator) -> dict[str, Any]:
        assert self.phase.channel is not None
        units = shape.crop // 16
        grid = (shape.batch, shape.num_frames, units, units)
        longest = (max(self.model.rate_set) + 1) // 2
        draws = channel.draw(self.phase.channel, (*grid, longest), rng)
        if self.intra is None:
            return {"draws": draws}
        # The I frame may have other rates; its condition is the clip's.
        first = (shape.batch, 1, units, units, (max(self.intra.rate_set) + 1) // 2)
        own = channel.draw(self.phase.channel, first, rng)
        conditions = ("noise_power", "csi_nmse")
        intra = {k: v[:, 0] for k, v in own.items() if k not in conditions}
        return {"draws": draws, "intra_draws": intra}


def _one_of(numbers: list[int], rng: np.random.Generator) -> int:
    return int(rng.choice(numbers)) if len(numbers) > 1 else numbers[0]


class Prefetcher:
    """Calls ``make(step)`` for successive steps in a thread, ``depth`` batches ahead.

    Parameters
    ----------
    make : step -> batch; an exception in it is raised by ``next``
    first, last : steps first, ..., last - 1
    """

    def __init__(self, make: Callable[[int], Any], first: int, last: int, depth: int = 4):
        self._queue: queue.Queue = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, args=(make, first, last), daemon=True)
        self._thread.start()

    def next(self) -> Any:
        """The next batch, waiting for it if need be."""
        batch = self._queue.get()
        if isinstance(batch, BaseException):
            raise batch
        return batch

    def close(self) -> None:
        """Stop the thread and drop what it made."""
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _work(self, make: Callable[[int], Any], first: int, last: int) -> None:
        for step in range(first, last):
            if self._stop.is_set():
                return
            try:
                batch = make(step)
            except BaseException as error:
                self._queue.put(error)
                return
            self._queue.put(batch)
