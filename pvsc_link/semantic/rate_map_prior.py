"""Prior of the rate map given z_hat alone, in integers: side format ``range`` (beyond the paper).

sigma depends on C_e, which differs between the ends by channel noise, so it cannot serve an
entropy coder. z_hat arrives error-free, and integer arithmetic on it gives the same tables on any
device: a linear score of (z, |z|) sorts each spatial unit into one of a few classes, and each
class has its own table of counts. Score and tables are statistics, fitted once after training.
"""

from typing import Any

import numpy as np
from keras import ops

from pvsc_link.semantic.configured_layer import ConfiguredLayer
from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.semantic.range_coding import quantise_pmf
from pvsc_link.types import InputError

NUM_CLASSES = 16
UNITS_PER_CELL = 16  # 4x4 units of 1/16 share one place of z_hat at 1/64
_SCALE = 256  # integer steps of the score per rate index
_RIDGE = 1e-2  # keeps channels of z that never move out of the fit


class RateMapPrior(ConfiguredLayer):
    """Integer tables of every unit's rate index; nothing in it is trained by gradients.

    Before ``fit`` there is one class, whose counts fall geometrically with the rate.

    Parameters: ``config`` : PvscConfig.
    """

    def __init__(self, config: PvscConfig, **kwargs: Any):
        super().__init__(config, **kwargs)
        self.trainable = False

    def build(self, input_shape: Any = None) -> None:
        cfg = self.config
        geometric = quantise_pmf(0.7 ** np.arange(len(cfg.rate_set)))
        self.score_weights = self._integers(
            "score_weights", (cfg.num_omega, UNITS_PER_CELL, 2 * cfg.channels_z + 1), 0
        )
        self.borders = self._integers("borders", (cfg.num_omega, NUM_CLASSES - 1), 0)
        self.counts = self._integers("counts", (cfg.num_omega, NUM_CLASSES, len(geometric)), 0)
        self.counts.assign(np.broadcast_to(geometric, self.counts.shape).astype(np.int32))

    def _integers(self, name: str, shape: tuple[int, ...], value: int) -> Any:
        start = {"dtype": "int32", "initializer": lambda s, dtype=None: ops.full(s, value, dtype)}
        return self.add_weight(name=name, shape=shape, trainable=False, **start)

    def tables(self, z_hat: np.ndarray, preset_index: int) -> np.ndarray:
        """Counts of every unit's rate index, exact on any device.

        Input: ``z_hat`` : [Hz, Wz, channels_z], integers. Output: [4 Hz, 4 Wz, num_rates], int64,
        each table summing to 2**16.
        """
        borders = ops.convert_to_numpy(self.borders)[preset_index]
        classes = np.searchsorted(borders, self._scores(z_hat, preset_index), side="right")
        # Equal borders, as before a fit, leave the classes between them empty.
        return ops.convert_to_numpy(self.counts)[preset_index].astype(np.int64)[classes]

    def _scores(self, z_hat: np.ndarray, preset_index: int) -> np.ndarray:
        weights = ops.convert_to_numpy(self.score_weights)[preset_index].astype(np.int64)
        return _to_units(_integer_features(z_hat) @ weights.T)

    def fit(self, z_hat: np.ndarray, rate_index: np.ndarray, preset_index: int) -> None:
        """Fit score and tables of one preset to coded frames: least squares, then histograms.

        Input: ``z_hat`` : [frames, Hz, Wz, channels_z], integers; ``rate_index`` : [frames, 4 Hz,
        4 Wz], integers. Raises ``InputError`` for maps that do not belong together.
        """
        frames, height, width = z_hat.shape[:3]
        if rate_index.shape != (frames, 4 * height, 4 * width):
            raise InputError(
                "rate maps do not belong to the hyper-latents",
                found=rate_index.shape,
                allowed=(frames, 4 * height, 4 * width),
                remedy="Pass the maps of the same frames.",
            )
        features = _integer_features(z_hat).reshape(-1, 2 * z_hat.shape[-1] + 1).astype(float)
        cells = rate_index.reshape(frames, height, 4, width, 4).transpose(0, 1, 3, 2, 4)
        weights = _ridge(features, cells.reshape(-1, UNITS_PER_CELL).astype(float))
        self._store(self.score_weights, preset_index, np.rint(weights.T * _SCALE))
        scores = np.stack([self._scores(z, preset_index) for z in z_hat])
        steps = np.arange(1, NUM_CLASSES) / NUM_CLASSES
        borders = np.floor(np.quantile(scores, steps))
        self._store(self.borders, preset_index, borders)
        classes = np.searchsorted(borders, scores, side="right")
        seen = np.ones((NUM_CLASSES, len(self.config.rate_set)))
        np.add.at(seen, (classes.ravel(), rate_index.ravel()), 1)
        self._store(self.counts, preset_index, quantise_pmf(seen))

    def _store(self, weight: Any, preset_index: int, values: np.ndarray) -> None:
        whole = ops.convert_to_numpy(weight).copy()
        limit = np.iinfo(np.int32).max // 2
        whole[preset_index] = np.clip(values, -limit, limit).astype(np.int32)
        weight.assign(whole)


def _integer_features(z_hat: np.ndarray) -> np.ndarray:
    z = np.asarray(z_hat).astype(np.int64)
    return np.concatenate([z, np.abs(z), np.ones_like(z[..., :1])], axis=-1)


def _to_units(cells: np.ndarray) -> np.ndarray:
    """[Hz, Wz, 16] to [4 Hz, 4 Wz]."""
    height, width, _ = cells.shape
    return cells.reshape(height, width, 4, 4).transpose(0, 2, 1, 3).reshape(4 * height, 4 * width)


def _ridge(features: np.ndarray, targets: np.ndarray) -> np.ndarray:
    gram = features.T @ features + _RIDGE * len(features) * np.eye(features.shape[1])
    return np.linalg.solve(gram, features.T @ targets)
