"""The batch of a step: pictures, quality presets, noise and channel draws, from the step alone."""

from typing import Any

import numpy as np

from pvsc_link.semantic.motion_search import vectors
from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.semantic.refresh import preset_at
from pvsc_link.train import channel
from pvsc_link.train.clip_cache import ClipCache
from pvsc_link.train.config import PhaseConfig, TrainConfig
from pvsc_link.train.curriculum import gop_at, learning_rate_at, ramp
from pvsc_link.train.sampling import BatchShape, draw_frames, step_generator


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
