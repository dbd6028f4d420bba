"""One phase of a run: models with their weights, the objective, optimisers and the compiled step.

Section III-D has three stages. Stage 1 trains the ideal branch (F_tx and F_rx are frozen and not
run), stage 2 trains F_tx and F_rx through the channel with all else fixed, stage 3 everything.
Between two phases only weights travel (``weights.WeightStore``).
"""

import contextlib
import errno
import json
import math
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.models import SUFFIX, Discriminator, model_of
from pvsc_link.storage import write_atomically
from pvsc_link.train.batches import BatchMaker, BatchShape, draw_frames, step_generator
from pvsc_link.train.config import Kind, PhaseConfig, TrainConfig
from pvsc_link.train.data import ClipCache
from pvsc_link.train.family import (
    coded_streams,
    configs_of,
    has_intra_start,
    nearest_rate,
    network_name,
    rate_of,
    with_rates,
)
from pvsc_link.train.objective import Objective, PerceptualLoss
from pvsc_link.train.starts.dvst import change_rate, start_dvst
from pvsc_link.train.starts.informed import measure_statistics, start_informed
from pvsc_link.train.starts.intra import copy_feature_coding, start_from_intra
from pvsc_link.train.starts.linear_coding import sent_frames, start_linear_coding
from pvsc_link.train.step import FlatAdam, make_step, num_devices
from pvsc_link.train.weights import SEPARATOR, WeightStore, representative_rates
from pvsc_link.types import InputError, noise_variance

#: Crops and largest size from which the informed start takes its statistics.
_STATISTICS_CROPS, _STATISTICS_SIZE = 256, 128
_FILE_BYTES_PER_WEIGHT = 8  # at most, with what HDF5 writes of every array
_START_CROPS = 192  # from which the other starts fit their linear maps
_STATISTICS_SALT = 10**6  # greater than any number of rollbacks


@contextlib.contextmanager
def enough_memory(entry: PhaseConfig) -> Iterator[None]:
    """What a backend raises within the block for want of memory, as an ``InputError``."""
    try:
        yield
    except Exception as error:
        exhausted = type(error).__name__ == "ResourceExhaustedError"  # TensorFlow's
        if exhausted or isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            found = str(error).splitlines()[0]
            raise too_little_memory(entry, found, "what the device has") from error
        raise


def too_little_memory(entry: PhaseConfig, found: str, allowed: str) -> InputError:
    """The error for a phase whose step needs more memory than there is."""
    options = [] if entry.rematerialise or entry.model == "intra" else ["rematerialise: true"]
    options += ["a larger accumulate", "precision: mixed_bfloat16", "a smaller crop"]
    return InputError(
        f"memory for a step of phase {entry.name}",
        found=found,
        allowed=allowed,
        remedy="Set " + " or ".join(options) + " in this phase, or take more devices.",
    )


class Phase:
    """A phase that is ready to train.

    Parameters
    ----------
    config, phase : TrainConfig and PhaseConfig
    store : WeightStore, read by the constructor and written by ``keep`` and ``finish``
    cache : ClipCache, from which starts take pictures

    Raises ``InputError`` for an unknown preset, a P-frame phase without an intra model, a start
    that the family of models lacks, and words of ``learn`` that fit no weight.
    """

    def __init__(
        self, config: TrainConfig, phase: PhaseConfig, store: WeightStore, cache: ClipCache
    ):
        self.config, self.phase, self.store = config, phase, store
        factors = tuple(config.intra_eta_factors or ())
        self._configs = configs_of(config.preset, len(config.omega), factors)
        self._check_starts()
        self._check_shapes()
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
            PerceptualLoss(phase.loss, phase.batch // phase.accumulate) if phase.loss.per else None,
            self.discriminator,
        )
        self.groups = [self._group(self._learned(), "model")]
        if self.discriminator is not None:
            self.groups.append(self._group(self.discriminator.trainable_variables, "adversary"))
        learned = [v for group in self.groups for v in group.variables]
        others = self._others(objective, learned)
        self._step = make_step(objective, learned, others, self._update, phase.accumulate)

    def memory(self, batch: dict[str, Any]) -> int | None:
        """Bytes that a step needs on each device by XLA's account; None under TensorFlow."""
        return self._step.memory(batch)

    def program(self, batch: dict[str, Any]) -> Any:
        """A step as a ``jax.core.ClosedJaxpr``, in which operations can be counted; else None."""
        return self._step.program(batch)

    def step(self, batch: dict[str, Any]) -> dict[str, np.ndarray]:
        """One step. Output: the terms of the loss, the gradient's ``norm``, and ``skipped``."""
        return self._step(batch)

    def state(self) -> dict[str, np.ndarray]:
        """Optimiser state by name, for a checkpoint."""
        return {f"state{SEPARATOR}{v.name}": np.array(v) for v in self._state_variables()}

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        """The inverse of ``state``; the weights come from the store."""
        for kind, network in self.networks().items():
            self.store.give(kind, network)
        for variable in self._state_variables():
            variable.assign(arrays[f"state{SEPARATOR}{variable.name}"])

    def batches(self, cache: ClipCache, first_step: int) -> BatchMaker:
        """Batches for this phase, whose first step is the run's step ``first_step``."""
        fixed = None if self.inter is None else self.intra.config
        return BatchMaker(self.config, self.phase, self.model.config, fixed, cache, first_step)

    def keep(self) -> None:
        """Put the present weights into the store."""
        for kind, network in self.networks().items():
            self.store.keep(kind, network)

    def finish(self) -> None:
        """Put the averaged weights into the store, from which the next phase starts."""
        for group in self.groups:
            group.settle()
        self.keep()

    def networks(self) -> dict[str, Any]:
        """The networks of this phase by the name under which the run keeps them."""
        every = {"intra": self.intra, "discriminator": self.discriminator}
        every[self._name("inter")] = self.inter
        return {name: network for name, network in every.items() if network is not None}

    @property
    def learns(self) -> str:
        """The name under which the run keeps the model that learns."""
        return self._name(self.phase.model)

    def _name(self, kind: Kind) -> str:
        return network_name(kind, self.phase.rate)

    def save_averaged(self, folder: Path) -> None:
        """Write the averaged weights as ``<name>.weights.h5`` and the config as ``<name>.json``.

        The names are ``intra`` and ``inter``, and of DVST ``inter_rate0`` and so on.
        Raises ``OSError`` where the disk has no room for the weights.
        """
        folder.mkdir(exist_ok=True)
        partial = folder / f"partial{SUFFIX}"
        partial.unlink(missing_ok=True)
        # HDF5 ends the whole process when the disk is full in the middle of a file.
        size = _FILE_BYTES_PER_WEIGHT * sum(math.prod(v.shape) for v in self.model.weights)
        if shutil.disk_usage(folder).free < size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        with self.groups[0].averaged():
            self.model.save_weights(partial)
        partial.replace(folder / f"{self.learns}{SUFFIX}")
        description = json.dumps(self.model.config.to_dict(), indent=1)
        write_atomically(folder / f"{self.learns}.json", description)

    def _state_variables(self) -> list[Any]:
        return [variable for group in self.groups for variable in group.state]

    def _group(self, variables: list[Any], name: str) -> FlatAdam:
        return FlatAdam(variables, name, self.config.learning_rate_factors)

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

    def _update(self, gradients: list[Any], learning_rate: Any) -> dict[str, Any]:
        results, start = [], 0
        for group in self.groups:
            part = gradients[start : start + len(group.variables)]
            results.append(group.apply(part, learning_rate))
            start += len(part)
        skipped = sum(result[1] for result in results)
        return {"norm": results[0][0], "skipped": skipped}

    def _check_starts(self) -> None:
        asked = ["intra_start"] if self.phase.intra_start else []
        if self.phase.coding_start == "intra":
            asked.append("coding_start: intra")
        if asked and not has_intra_start(self._configs[self.phase.model]):
            raise InputError(
                f"{asked[0]} of phase {self.phase.name}",
                found=f"preset {self.config.preset}",
                allowed="presets of PVSC",
                remedy="Leave it out, or write informed_start or coding_start: linear.",
            )

    def _check_shapes(self) -> None:
        phase, multiple = self.phase, self._configs[self.phase.model].padding_multiple
        if phase.crop % multiple:
            raise InputError(
                f"crop of phase {phase.name}",
                found=phase.crop,
                allowed=f"multiples of {multiple} for preset {self.config.preset}",
                remedy="Change crop.",
            )
        clips = phase.batch // phase.accumulate
        if clips % num_devices():
            raise InputError(
                f"batch of phase {phase.name} on {num_devices()} devices",
                found=f"{clips} clips" + (" per part" if phase.accumulate > 1 else ""),
                allowed=f"multiples of {num_devices()}",
                remedy="Change batch or accumulate, or take fewer devices (--devices).",
            )

    def _network(self, kind: Kind, cache: ClipCache) -> Any:
        """The model of ``kind`` with its weights: kept ones, or those of a start."""
        learns = kind == self.phase.model
        name = self._name(kind)
        model = model_of(self._model_config(kind), dtype=self.phase.precision)
        if self.store.give(name, model):
            return model
        if (other := nearest_rate(name, self.store.weights)) and self.store.give(other, model):
            own, known = (self.config.omega[rate_of(network)] for network in (name, other))
            change_rate(model, own, known)
            return model
        if not learns:
            raise InputError(
                f"phase {self.phase.name} without an intra model",
                found=sorted(self.store.weights),
                allowed="an intra phase before it, or initial_weights",
                remedy="Train the intra model first.",
            )
        if self.phase.informed_start:
            config, size = model.config, min(_STATISTICS_SIZE, self.phase.crop)
            pairs = self._pictures(cache, _STATISTICS_CROPS, size)
            if (rate := self.phase.rate) is not None:
                start_dvst(model, pairs, self.config.omega[rate])
                return model
            statistics = measure_statistics(pairs, config.channels_feature, config.channels_y)
            start_informed(model, statistics, self.config.omega_of(kind))
        elif self.phase.intra_start:
            start_from_intra(
                self.intra, model, self._pictures(cache, _START_CROPS, self.phase.crop)
            )
        return model

    def _start_coding(self, cache: ClipCache) -> None:
        if self.phase.coding_start == "intra":
            copy_feature_coding(self.intra, self.model)
        elif self.phase.coding_start == "linear":
            pairs = self._pictures(cache, _START_CROPS, self.phase.crop)
            coded = sent_frames(self.intra, self.inter, pairs, self.phase.rate)
            assert self.phase.channel is not None
            snr_db = float(np.mean(self.phase.channel.snr_db))
            for part in coded_streams(self.model, coded):
                start_linear_coding(*part, float(noise_variance(snr_db)))

    def _model_config(self, kind: Kind) -> Any:
        """The preset's config with the rate set of this phase."""
        config = self._configs[kind]
        name = self._name(kind)
        rates = current = self.store.rate_sets.get(name, config.rate_set)
        if kind == self.phase.model:  # the fixed intra model keeps the rates that it has
            if self.phase.rate_set == "overcomplete":  # {0, ..., C_y}, the largest rate
                rates = tuple(range(max(config.rate_set) + 1))
            else:
                rates = self._distilled(name, current, config.rate_set)
        return with_rates(config, rates)

    def _distilled(
        self, name: str, current: tuple[int, ...], of_preset: tuple[int, ...]
    ) -> tuple[int, ...]:
        if self.config.distilled_rates == "preset":
            return of_preset
        usage = self.store.usage.get(name)
        if usage is None or len(usage) != len(current):
            return current
        return representative_rates(usage, current, len(of_preset))

    def _pictures(self, cache: ClipCache, count: int, size: int) -> np.ndarray:
        """Pairs of successive frames that no step draws: [count, 2, size, size, 3], float32."""
        shape, seed = BatchShape(1, 2, size), self.config.seed
        draws = (step_generator(seed, _STATISTICS_SALT, i) for i in range(count))
        crops = [draw_frames(cache, self.config.data, shape, rng) for rng in draws]
        return np.concatenate(crops).astype(np.float32) / np.float32(255)

    def _discriminator(self) -> Any:
        filters = self.config.discriminator_filters
        network = Discriminator(
            filters,
            num_groups=min(16, filters // 4),
            dtype=self.phase.precision,
            name="discriminator",
        )
        network.build((None, None, None, 3))
        self.store.give("discriminator", network)
        return network
