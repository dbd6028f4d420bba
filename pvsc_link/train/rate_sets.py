"""Rate-set distillation of section III-D: which rates stay, and weights cut down to them."""

from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.pvsc.model import IntraModel, PvscModel


def overcomplete(config: PvscConfig) -> PvscConfig:
    """The config with every rate {0, ..., C_y}, as stages 2 and 3 start."""
    return replace(config, rate_set=tuple(range(config.channels_y + 1)))


def representative_rates(
    usage: np.ndarray, rate_set: tuple[int, ...], num_rates: int = 16
) -> tuple[int, ...]:
    """Rates that are left when the least used one is pruned again and again.

    A pruned rate's units go to the nearest rate that is left (eq. 14), which therefore counts
    them from then on. Rate 0 and the largest rate always stay: they bound what can be sent.

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


def build_model(config: PvscConfig) -> Any:
    """IntraModel or PvscModel, as the config says."""
    return IntraModel(config) if config.intra else PvscModel(config)


def weights_by_path(model: Any) -> dict[str, np.ndarray]:
    """Every weight under its path without the model's own (numbered) name."""
    return {_path(v, model): ops.convert_to_numpy(v) for v in model.weights}


def load_by_path(
    model: Any,
    weights: dict[str, np.ndarray],
    rate_set: tuple[int, ...],
    target_rates: tuple[int, ...],
) -> list[str]:
    """Give ``model`` the ``weights`` of the same architecture with another rate set.

    FC layers and embeddings of rates in both sets are carried over; those of rates that only
    the model has keep their initial values, as has any weight of another shape (the model may
    know more presets, for instance).

    Parameters: ``rate_set`` : of the model the weights are from; ``target_rates`` : of ``model``.
    Output: paths of the weights that kept their initial value in whole or in part.
    """
    fresh = []
    for variable in model.weights:
        path = _path(variable, model)
        value = weights.get(path)
        if value is not None and value.shape != tuple(variable.shape):
            value = _cut(path, value, rate_set, ops.convert_to_numpy(variable), target_rates)
            fresh.append(path)
        if value is None or value.shape != tuple(variable.shape):
            fresh.append(path)
            continue
        variable.assign(value)
    return sorted(set(fresh))


def _path(variable: Any, model: Any) -> str:
    return str(variable.path).removeprefix(f"{model.name}/")


def _cut(
    path: str,
    value: np.ndarray,
    rate_set: tuple[int, ...],
    initial: np.ndarray,
    target_rates: tuple[int, ...],
) -> np.ndarray:
    """Rows of the rates that both sets have, the initial ones elsewhere."""
    if path.endswith(("rate_embedding", "from_reals/bias")):
        rows_of = _one_row_each
    elif path.endswith(("_reals/kernel", "to_reals/bias")):
        rows_of = _one_row_per_real
    else:
        return value
    source, target = rows_of(rate_set), rows_of(target_rates)
    result = np.array(initial)
    for rate in set(source) & set(target):
        result[target[rate]] = value[source[rate]]
    return result


def _one_row_each(rate_set: tuple[int, ...]) -> dict[int, Any]:
    return {rate: i for i, rate in enumerate(rate_set)}


def _one_row_per_real(rate_set: tuple[int, ...]) -> dict[int, Any]:
    ends = np.cumsum(rate_set)
    return {r: slice(int(e) - r, int(e)) for r, e in zip(rate_set, ends, strict=True)}
