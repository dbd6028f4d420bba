"""Weights between the phases of a run and between runs, and the rate set that they belong to.

Weights travel as arrays by path. So a phase can prune the rate set (rate-set distillation,
section III-D) and a run can start from another one (fine-tuning, section IV-A).
"""

from pathlib import Path
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models import (
    DVST_PRESETS,
    PRESETS,
    SUFFIX,
    find_dvst_weights,
    find_weights,
    load_weights,
    model_of,
    read_config,
)
from pvsc_link.train.config import TrainConfig
from pvsc_link.train.family import (
    configs_of,
    endings,
    has_rates,
    network_name,
    with_quality_presets,
)
from pvsc_link.types import InputError

#: Between the parts of a name in a checkpoint.
SEPARATOR = "|"


def representative_rates(
    usage: np.ndarray, rate_set: tuple[int, ...], num_rates: int = 16
) -> tuple[int, ...]:
    """The rates that are left when the least used one is pruned again and again.

    The units of a pruned rate take the nearest rate that is left (eq. 14), which counts them from
    then on. Rate 0 and the largest rate always stay: they bound what can be sent.

    Input: ``usage`` : [len(rate_set)], how often each rate was chosen.
    Output: ``num_rates`` increasing rates (all of them if there are fewer).
    """
    kept, counts = list(rate_set), [float(c) for c in usage]
    while len(kept) > num_rates:
        i = 1 + int(np.argmin(counts[1:-1]))
        lower, upper = kept[i] - kept[i - 1], kept[i + 1] - kept[i]
        counts[i + (1 if upper <= lower else -1)] += counts[i]
        del kept[i], counts[i]
    return tuple(kept)


def weights_by_path(model: Any) -> dict[str, np.ndarray]:
    """Every weight under its path without the model's own (numbered) name."""
    return {_path(v, model): ops.convert_to_numpy(v) for v in model.weights}


def load_by_path(
    model: Any,
    weights: dict[str, np.ndarray],
    rate_set: tuple[int, ...],
    target_rates: tuple[int, ...],
) -> None:
    """Give ``model`` the ``weights`` of the same architecture with another rate set.

    Fully connected layers and embeddings of the rates in both sets are carried over. A rate that
    only the model has starts as the next larger one of the source, cut to its first reals. Any
    other weight of another shape keeps its initial value (the model may know more quality presets,
    for instance).

    Parameters: ``rate_set`` : of the model the weights are from; ``target_rates`` : of ``model``.
    """
    for variable in model.weights:
        path = _path(variable, model)
        value = weights.get(path)
        if value is not None and value.shape != tuple(variable.shape):
            value = _cut(path, value, rate_set, ops.convert_to_numpy(variable), target_rates)
        if value is not None and value.shape == tuple(variable.shape):
            variable.assign(value)


def _path(variable: Any, model: Any) -> str:
    return str(variable.path).removeprefix(f"{model.name}/")


def _cut(
    path: str,
    value: np.ndarray,
    rate_set: tuple[int, ...],
    initial: np.ndarray,
    target_rates: tuple[int, ...],
) -> np.ndarray:
    """Rows of the rates of both sets; else those of the next larger rate, where there is one."""
    per_rate = ("rate_embedding", "rate_scale", "from_reals/bias", "noise_input/offset")
    if path.endswith(per_rate):
        rows_of = _one_row_each
    elif path.endswith(("_reals/kernel", "to_reals/bias", "noise_input/exponent")):
        rows_of = _one_row_per_real
    else:
        return value
    source, target = rows_of(rate_set), rows_of(target_rates)
    result = np.array(initial)
    for rate in target:
        larger = [other for other in source if other >= rate]
        if rate in source:
            result[target[rate]] = value[source[rate]]
        elif rate > 0 and larger:
            rows = value[source[min(larger)]]
            result[target[rate]] = rows[:rate] if rows_of is _one_row_per_real else rows
    return result


def _one_row_each(rate_set: tuple[int, ...]) -> dict[int, Any]:
    return {rate: i for i, rate in enumerate(rate_set)}


def _one_row_per_real(rate_set: tuple[int, ...]) -> dict[int, Any]:
    ends = np.cumsum(rate_set)
    return {r: slice(int(e) - r, int(e)) for r, e in zip(rate_set, ends, strict=True)}


class WeightStore:
    """Weights of every network of a run between phases, with rate sets and usage of the rates.

    The networks are ``intra``, ``inter`` (of DVST ``inter_rate0`` and so on) and ``discriminator``.
    """

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
        """Weights and usage as one flat dict, for a checkpoint."""
        flat = {
            SEPARATOR.join(("weights", kind, path)): value
            for kind, weights in self.weights.items()
            for path, value in weights.items()
        }
        return flat | {SEPARATOR.join(("usage", k)): v for k, v in self.usage.items()}

    def restore(self, arrays: dict[str, np.ndarray], rate_sets: dict[str, list[int]]) -> None:
        """The inverse of ``arrays``."""
        self.weights, self.usage = {}, {}
        self.rate_sets = {kind: tuple(rates) for kind, rates in rate_sets.items()}
        for name, value in arrays.items():
            head, *rest = name.split(SEPARATOR, 2)
            if head == "weights":
                self.weights.setdefault(rest[0], {})[rest[1]] = value
            elif head == "usage":
                self.usage[rest[0]] = value


def read_model(path: Path) -> Any:
    """The model whose weights a run wrote to ``path``, from the config that lies beside them.

    Raises ``InputError`` for weights that do not fit.
    """
    model = model_of(read_config(path))
    load_weights(model, path)
    return model


def load_initial_weights(place: str, config: TrainConfig, store: WeightStore) -> None:
    """Put the models that ``config.initial_models`` names from ``place`` into ``store``.

    Input: ``place`` : folder ``weights/`` of a run, each file with its model's config beside it;
    or the name of a preset whose weights are in the package. Weights with one of
    ``config.initial_except`` in their paths are left out; of those with a row per quality preset
    the rows ``config.initial_presets`` are taken.
    Raises ``InputError`` if there are none, if a model has other sizes or quality presets than
    ``config`` asks for, or if a word of ``initial_except`` is in no path.
    """
    left_out: set[str] = set()
    for name, path in _files(place, config).items():
        model = read_model(path)
        _check_sizes(name, model, path, config)
        if not has_rates(model):
            _check_presets(model, path, config)
        store.keep(name, model)
        weights = store.weights[name]
        if config.initial_presets is not None:
            for variable in _by_preset(model):
                weights[variable] = weights[variable][config.initial_presets]
        for variable in list(weights):
            words = [word for word in config.initial_except if word in variable]
            left_out.update(words)
            if words:
                del weights[variable]
    for word in set(config.initial_except) - left_out:
        raise InputError(
            "initial_except",
            found=word,
            allowed="words in the paths of weights, such as feature_encoder or q_tx",
            remedy="Correct it in the config.",
        )


#: Beginnings of the keys of a model's config that say how large its layers are.
_SIZES = (
    *("channels_", "depth_", "embed_dim", "flow_", "kernel_up", "mlp_ratio", "num_heads"),
    *("num_levels", "num_vit", "window_size"),
)


def _check_sizes(name: str, model: Any, path: Path, config: TrainConfig) -> None:
    """Raises ``InputError`` if layers of ``model`` are larger or smaller than those of the run.

    Their weights would not fit, and start afresh without a word.
    """
    wanted = configs_of(config.preset, len(config.omega))[name.partition("_")[0]]
    of_weights, of_run = (_sizes(c.to_dict()) for c in (model.config, wanted))
    keys = [key for key in of_weights if of_weights[key] != of_run.get(key, of_weights[key])]
    if keys:
        raise InputError(
            f"sizes of {path}, weights of preset {model.config.name}",
            found={key: of_weights[key] for key in keys},
            allowed={key: of_run[key] for key in keys},
            remedy=f"The run is of preset {config.preset}: take weights of it, or correct preset.",
        )


def _sizes(fields: dict[str, Any], place: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in fields.items():
        if isinstance(value, dict):
            found |= _sizes(value, f"{place}{key}.")
        elif key.startswith(_SIZES):
            found[place + key] = value
    return found


def _check_presets(model: Any, path: Path, config: TrainConfig) -> None:
    """Raises ``InputError`` unless the quality presets of ``model`` give those of the run."""
    has, chosen = model.config.num_omega, config.initial_presets
    if chosen is None and has != len(config.omega):
        raise InputError(
            f"presets of {path}",
            found=has,
            allowed=len(config.omega),
            remedy="Use the omega list that the weights were trained with, or choose some of their "
            "quality presets with initial_presets.",
        )
    if chosen is not None and max(chosen) >= has:
        raise InputError(
            "initial_presets",
            found=chosen,
            allowed=f"quality presets 0 to {has - 1} of {path}",
            remedy="Correct it in the config.",
        )


def _by_preset(model: Any) -> list[str]:
    """Paths of the weights that have a row per quality preset.

    They are those whose shape changes in a model with one more quality preset.
    """
    larger = model_of(with_quality_presets(model.config, model.config.num_omega + 1))
    shapes = {_path(v, larger): tuple(v.shape) for v in larger.weights}
    return [path for path, value in weights_by_path(model).items() if shapes[path] != value.shape]


def packaged_files(preset: str, training: str | None = None) -> dict[str, Path | None]:
    """The weights of a preset in the package, by the names of ``family.endings``."""
    if preset not in DVST_PRESETS:
        pair = find_weights(preset, training=training)
        return {"intra": pair.intra, "inter": pair.inter}
    rates = find_dvst_weights(preset, training=training)
    found = {network_name("inter", rate): pair.inter for rate, pair in rates.items()}
    return {"intra": next(iter(rates.values())).intra, **found}


def _files(place: str, config: TrainConfig) -> dict[str, Path]:
    """The files of those models of the run that ``initial_models`` asks for."""
    kinds = config.initial_models
    found: dict[str, Path | None]
    if place in DVST_PRESETS or (place in PRESETS and not PRESETS[place].intra):
        found = packaged_files(place)
    else:
        folder = Path(place).expanduser()
        found = {name: folder / f"{name}{SUFFIX}" for name in endings(config.preset)}
    files = {
        name: path
        for name, path in found.items()
        if name.partition("_")[0] in kinds and path is not None and path.is_file()
    }
    if not files:
        raise InputError(
            "initial_weights",
            found=place,
            allowed="the weights/ folder of a run, or a preset with weights in the package, with "
            f"one of the models {', '.join(kinds)}",
            remedy="Correct initial_weights in the config.",
        )
    return files
