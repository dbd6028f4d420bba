"""The three stages of section III-D: which models a phase needs, and which weights learn in it.

Stage 1 trains the ideal branch (F_tx and F_rx frozen and not run), stage 2 F_tx and F_rx through
the channel with all else fixed, stage 3 everything. Between two phases only weights travel, as
arrays by path; so a phase may prune the rate set, or start from another run.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pvsc_link.models.pvsc.config import PRESETS, PvscConfig, intra_of
from pvsc_link.models.pvsc.discriminator import Discriminator
from pvsc_link.train.batches import BatchShape, draw_frames, step_generator
from pvsc_link.train.config import PhaseConfig, TrainConfig
from pvsc_link.train.data import ClipCache
from pvsc_link.train.objective import Objective, PerceptualLoss
from pvsc_link.train.rate_sets import (
    build_model,
    load_by_path,
    overcomplete,
    representative_rates,
    weights_by_path,
)
from pvsc_link.train.starts.informed import measure_statistics, start_informed
from pvsc_link.train.starts.intra import copy_feature_coding, start_from_intra
from pvsc_link.train.starts.linear_coding import sent_units, start_linear_coding
from pvsc_link.train.step import FlatAdam, make_step
from pvsc_link.types import InputError, noise_variance

#: Crops and largest size from which the informed start takes its statistics.
_STATISTICS_CROPS, _STATISTICS_SIZE = 256, 128
_START_CROPS = 192  # from which starts fit their linear maps
_STATISTICS_SALT = 10**6  # beyond any number of rollbacks
_PATH_SEPARATOR = "|"


class WeightStore:
    """Weights of every network of a run between phases, and the rate sets they belong to."""

    def __init__(self) -> None:
        self.weights: dict[str, dict[str, np.ndarray]] = {}
        self.rate_sets: dict[str, tuple[int, ...]] = {}
        self.usage: dict[str, np.ndarray] = {}

    def keep(self, kind: str, network: Any) -> None:
        """Take the weights that ``network`` has now."""
        self.weights[kind] = weights_by_path(network)
        if hasattr(network, "config"):
            self.rate_sets[kind] = tuple(network.config.rate_set)

    def give(self, kind: str, network: Any) -> bool:
        """Put kept weights into ``network``; False if there are none."""
        if kind not in self.weights:
            return False
        target = network.config.rate_set if hasattr(network, "config") else ()
        load_by_path(network, self.weights[kind], self.rate_sets.get(kind, ()), target)
        return True

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything flat, for a checkpoint."""
        flat = {
            _PATH_SEPARATOR.join(("weights", kind, path)): value
            for kind, weights in self.weights.items()
            for path, value in weights.items()
        }
        usage = {_PATH_SEPARATOR.join(("usage", k)): v for k, v in self.usage.items()}
        return flat | usage

    def restore(self, arrays: dict[str, np.ndarray], rate_sets: dict[str, list[int]]) -> None:
        """The inverse of ``arrays``."""
        self.weights, self.usage = {}, {}
        self.rate_sets = {kind: tuple(rates) for kind, rates in rate_sets.items()}
        for name, value in arrays.items():
            head, *rest = name.split(_PATH_SEPARATOR, 2)
            if head == "weights":
                self.weights.setdefault(rest[0], {})[rest[1]] = value
            elif head == "usage":
                self.usage[rest[0]] = value


class Phase:
    """One phase made ready: models with their weights, objective, optimisers, compiled step.

    Parameters
    ----------
    config, phase : the run and the phase
    store : WeightStore, read now and written by ``finish``
    cache : ClipCache, for the informed start
    """

    def __init__(
        self, config: TrainConfig, phase: PhaseConfig, store: WeightStore, cache: ClipCache
    ):
        self.config, self.phase, self.store = config, phase, store
        self.intra = self._network("intra", cache)
        self.inter = self._network("inter", cache) if phase.model == "inter" else None
        self.model = self.intra if self.inter is None else self.inter
        self._start_coding(cache)
        self.model.select_stage(phase.stage)
        self.discriminator = self._discriminator() if phase.loss.adv else None
        objective = Objective(
            phase,
            config.omega_of(phase.model),
            self.model,
            None if self.inter is None else self.intra,
            PerceptualLoss(phase.loss, phase.batch) if phase.loss.per else None,
            self.discriminator,
        )
        self.groups = [self._group(self._learned(), "model")]
        if self.discriminator is not None:
            self.groups.append(self._group(self.discriminator.trainable_variables, "adversary"))
        learned = [v for group in self.groups for v in group.variables]
        self._step = make_step(objective, learned, self._others(objective, learned), self._update)

    def step(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """One step; the terms of the loss, the gradient's norm and whether it was skipped."""
        return self._step(batch)

    def state(self) -> dict[str, np.ndarray]:
        """Optimiser state by name, for a checkpoint."""
        return {f"state{_PATH_SEPARATOR}{v.name}": np.array(v) for v in self._state_variables()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of ``state``, and the weights out of the store."""
        for kind, network in self.networks().items():
            self.store.give(kind, network)
        for variable in self._state_variables():
            variable.assign(arrays[f"state{_PATH_SEPARATOR}{variable.name}"])

    def keep(self) -> None:
        """Weights as they are, into the store."""
        for kind, network in self.networks().items():
            self.store.keep(kind, network)

    def finish(self) -> None:
        """Averaged weights, into the store: what the next phase starts from."""
        for group in self.groups:
            group.settle()
        self.keep()

    def networks(self) -> dict[str, Any]:
        """The networks by kind."""
        every = {"intra": self.intra, "inter": self.inter, "discriminator": self.discriminator}
        return {kind: network for kind, network in every.items() if network is not None}

    def save_averaged(self, folder: Path) -> None:
        """Averaged weights of the model as ``<kind>.weights.h5`` with its config beside."""
        folder.mkdir(exist_ok=True)
        kind = "intra" if self.inter is None else "inter"
        partial = folder / f"{kind}.partial.weights.h5"
        with self.groups[0].averaged():
            self.model.save_weights(partial)
        partial.replace(folder / f"{kind}.weights.h5")
        description = json.dumps(self.model.config.to_dict(), indent=1)
        (folder / f"{kind}.json").write_text(description)

    def _state_variables(self) -> list[Any]:
        return [variable for group in self.groups for variable in group.state]

    def _group(self, variables: list[Any], name: str) -> FlatAdam:
        return FlatAdam(
            variables,
            name,
            beta_1=self.config.beta_1,
            beta_2=self.config.beta_2,
            clip_norm=self.config.clip_norm,
            ema_decay=self.config.ema_decay,
            factors=self.config.learning_rate_factors,
        )

    def _others(self, objective: Objective, learned: list[Any]) -> list[Any]:
        taken = {id(v) for v in learned}
        networks = list(self.networks().values())
        if objective.perceptual is not None:
            networks.append(objective.perceptual.lpips)
        variables = [v for network in networks for v in network.variables if id(v) not in taken]
        return variables + self._state_variables()

    def _learned(self) -> list[Any]:
        variables, words = self.model.trainable_variables, self.phase.learn
        chosen = [v for v in variables if not words or any(word in v.path for word in words)]
        if not chosen:
            raise InputError(
                f"learn of phase {self.phase.name}",
                found=words,
                allowed="words in the paths of weights of this stage",
                remedy=f"Name layers such as {sorted({v.path.split('/')[1] for v in variables})}.",
            )
        return chosen

    def _update(self, gradients: list[Any], batch: dict[str, Any]) -> dict[str, Any]:
        results, start = [], 0
        for group in self.groups:
            part = gradients[start : start + len(group.variables)]
            results.append(group.apply(part, batch["learning_rate"]))
            start += len(part)
        skipped = sum(result[1] for result in results)
        return {"norm": results[0][0], "skipped": skipped}

    def _network(self, kind: Literal["intra", "inter"], cache: ClipCache) -> Any:
        learns = kind == self.phase.model
        model = build_model(self._model_config(kind))
        if not self.store.give(kind, model):
            if learns and self.phase.informed_start:
                start_informed(
                    model, self._statistics(cache, model.config), self.config.omega_of(kind)
                )
            elif learns and self.phase.intra_start:
                pairs = self._pictures(cache, _START_CROPS, self.phase.crop)
                start_from_intra(self.intra, model, pairs)
            elif not learns:
                raise InputError(
                    f"phase {self.phase.name} without an intra model",
                    found=sorted(self.store.weights),
                    allowed="an intra phase before it, or initial_weights",
                    remedy="Train the intra model first.",
                )
        return model

    def _start_coding(self, cache: ClipCache) -> None:
        if self.phase.coding_start == "intra":
            copy_feature_coding(self.intra, self.model)
        elif self.phase.coding_start == "linear":
            pairs = self._pictures(cache, _START_CROPS, self.phase.crop)
            coded = sent_units(self.intra, self.inter, pairs)
            assert self.phase.channel is not None
            snr_db = float(np.mean(self.phase.channel.snr_db))
            start_linear_coding(self.model, *coded, float(noise_variance(snr_db)))

    def _model_config(self, kind: Literal["intra", "inter"]) -> PvscConfig:
        config = replace(preset_config(self.config), num_omega=len(self.config.omega))
        config = intra_of(config) if kind == "intra" else config
        config = replace(config, eta_factors=self.config.eta_factors_of(kind))
        if kind != self.phase.model:  # the fixed intra model stays as it was left
            return replace(config, rate_set=self.store.rate_sets.get(kind, config.rate_set))
        if self.phase.rate_set == "overcomplete":
            return overcomplete(config)
        return replace(config, rate_set=self._distilled(kind, config))

    def _distilled(self, kind: str, config: PvscConfig) -> tuple[int, ...]:
        current = self.store.rate_sets.get(kind)
        if self.config.distilled_rates == "preset" or current is None:
            return config.rate_set
        usage = self.store.usage.get(kind)
        if usage is None or len(usage) != len(current):
            return current
        return representative_rates(usage, current, len(config.rate_set))

    def _statistics(self, cache: ClipCache, config: PvscConfig) -> Any:
        size = min(_STATISTICS_SIZE, self.phase.crop)
        pairs = self._pictures(cache, _STATISTICS_CROPS, size)
        return measure_statistics(pairs, config.channels_feature, config.channels_y)

    def _pictures(self, cache: ClipCache, count: int, size: int) -> np.ndarray:
        """Pairs of successive frames that no step draws: [count, 2, size, size, 3], float32."""
        crops = [
            draw_frames(
                cache,
                self.config.data,
                BatchShape(1, 2, size),
                step_generator(self.config.seed, _STATISTICS_SALT, i),
            )
            for i in range(count)
        ]
        return np.concatenate(crops).astype(np.float32) / np.float32(255)

    def _discriminator(self) -> Any:
        filters = self.config.discriminator_filters
        network = Discriminator(filters, num_groups=min(16, filters // 4), name="discriminator")
        network.build((None, None, None, 3))
        self.store.give("discriminator", network)
        return network


def preset_config(config: TrainConfig) -> PvscConfig:
    """P-frame config of the preset; raises ``InputError`` for a name that does not exist."""
    names = [name for name, preset in PRESETS.items() if not preset.intra]
    if config.preset not in names:
        raise InputError("preset", found=config.preset, allowed=names, remedy="Choose one.")
    return PRESETS[config.preset]
