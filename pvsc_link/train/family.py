"""The families of models that can be trained: PVSC (with or without motion vectors) and DVST.

This is the only file of the room that tells the families apart; ``zoo.model_of`` builds the model
of a config. Every family has an I-frame model (``intra``) and a P-frame model (``inter``), whose
``forward`` returns the tensors that ``objective.Objective`` reads. DVST has one P-frame model per
rate, which a run keeps as ``inter_rate0`` and so on; that of rate n goes with the quality preset n
of the I-frame model.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
from keras import ops

from pvsc_link.models import (
    DVST_PRESETS,
    PRESETS,
    DvstConfig,
    IntraConfig,
    PvscConfig,
    PvscMcConfig,
    intra_of,
    search,
    with_eta_factors,
)
from pvsc_link.types import InputError


def configs_of(
    preset: str, num_omega: int, intra_eta_factors: tuple[float, ...] = ()
) -> dict[str, Any]:
    """Configs of ``intra`` and ``inter`` for a run with ``num_omega`` quality presets.

    DVST codes its I frames with PVSC's I-frame model, and each of its rates is a P-frame model of
    this one config.
    Raises ``InputError`` for a preset that no family has, and for factors of eta in
    a preset whose I frames have one eta.
    """
    pvsc = {name: config for name, config in PRESETS.items() if isinstance(config, PvscConfig)}
    inter: Any
    if preset in pvsc:
        inter = replace(pvsc[preset], num_omega=num_omega)
        intra = intra_of(inter)
    elif preset in DVST_PRESETS:
        inter = DVST_PRESETS[preset]
        of_preset = PRESETS[inter.intra_preset]
        assert isinstance(of_preset, IntraConfig)
        intra = replace(of_preset, num_omega=num_omega)
    else:
        allowed = [*pvsc, *DVST_PRESETS]
        raise InputError("preset", found=preset, allowed=allowed, remedy="Choose one of these.")
    return {"intra": with_eta_factors(intra, intra_eta_factors), "inter": inter}


def has_intra_start(config: Any) -> bool:
    """Whether a fresh model of this config can start from the intra model."""
    return not isinstance(config, DvstConfig)


def has_rates(model: Any) -> bool:
    """Whether a P-frame model, or None, is one of several rates of DVST."""
    return model is not None and isinstance(model.config, DvstConfig)


def endings(preset: str) -> dict[str, str]:
    """Every model that a run of a preset can have, and what its file's name has behind the preset.

    For instance ``inter_rate2``, whose weights in the package are ``dvst_tiny_rate2.weights.h5``.
    """
    dvst = DVST_PRESETS.get(preset)
    if dvst is None:
        return {"intra": "_intra", "inter": ""}
    of_rates = {network_name("inter", rate): f"_rate{rate}" for rate in range(dvst.num_rates)}
    return {"intra": "_intra", **of_rates}


def network_name(kind: str, rate: int | None) -> str:
    """The name under which a run keeps a model: its kind, and of DVST's P frames also the rate."""
    return f"inter_rate{rate}" if kind == "inter" and rate is not None else kind


def rate_of(name: str) -> int:
    """The rate of a P-frame model of DVST by its ``network_name``."""
    return int(name.removeprefix("inter_rate"))


def nearest_rate(name: str, known: Collection[str]) -> str | None:
    """The P-frame model of DVST in ``known`` from which one without weights starts: next in rate.

    Of two the coarser one. None where there is no other, and for a model that has no rate.
    """
    if "_rate" not in name:
        return None
    rates = [rate_of(other) for other in known if "_rate" in other]
    own = rate_of(name)
    others = sorted((r for r in rates if r != own), key=lambda r: (abs(r - own), r))
    return network_name("inter", others[0]) if others else None


def coded_streams(model: Any, coded: tuple[Any, Any, Any]) -> list[tuple[Any, Any, Any, Any]]:
    """The parts of a model that have an F_tx and an F_rx of their own, each with what it sends.

    Input: ``coded`` : ``(y_bar, rate_index, omega_index)`` of frames, [frames, Hy, Wy, C_y],
    [frames, Hy, Wy] and [frames]; of DVST with both streams in each (``models.dvst.model``).
    Output: (layer, y_bar [units, C], rate_index [units], omega_index [units]) of every part.
    """
    y_bar, rate_index, omega_index = coded
    parts = [(model, y_bar, rate_index)]
    if isinstance(model.config, DvstConfig):
        features = np.split(y_bar, [model.config.motion.channels_y], axis=-1)
        maps = np.split(rate_index, 2, axis=1)
        streams = (model.motion_stream, model.context_stream)
        parts = list(zip(streams, features, maps, strict=True))
    return [
        (
            layer,
            features.reshape(-1, features.shape[-1]),
            rates.ravel(),
            np.broadcast_to(omega_index[:, None, None], rates.shape).ravel(),
        )
        for layer, features, rates in parts
    ]


def rate_terms(model: Any, output: dict[str, Any], streams: Collection[str]) -> tuple[Any, Any]:
    """Reals of every unit, and bits of z, that the rate loss counts.

    Parameters: ``streams`` : of DVST, some of ``motion`` and ``context``; empty: all.
    Output: ``rate_reals`` : [batch, units, Wy]; ``num_bits_z`` : [batch].
    """
    if not streams:
        return output["rate_reals"], output["num_bits_z"]
    names = ("motion", "context")
    reals = ops.split(output["rate_reals"], 2, axis=1)
    bits = model.num_bits_z_of_streams(output["z_hat"])
    chosen = [i for i, name in enumerate(names) if name in streams]
    return ops.concatenate([reals[i] for i in chosen], axis=1), sum(bits[i] for i in chosen)


def with_rates(config: Any, rate_set: tuple[int, ...]) -> Any:
    """The config with another rate set (reals per spatial unit, increasing from 0)."""
    if isinstance(config, DvstConfig):
        motion, context = (replace(s, rate_set=rate_set) for s in (config.motion, config.context))
        return replace(config, motion=motion, context=context)
    return replace(config, rate_set=rate_set)


def with_quality_presets(config: Any, number: int) -> Any:
    """The config with another number of quality presets and one eta for all of them.

    A P-frame model of DVST has a single rate, so its config stays.
    """
    if isinstance(config, DvstConfig):
        return config
    without = {"eta_factors": ()} if hasattr(config, "eta_factors") else {}
    return replace(config, num_omega=number, **without)


def motion_vectors(config: Any, reference: Any, frames: Any, omega_index: Any) -> Any:
    """Vectors that a transmitter of the P-frame model sends; None for a model without vectors.

    Input: ``reference``, ``frames`` : [batch, height, width, 3], float32, the previous picture and
    the one to be coded; ``omega_index`` : [batch], quality presets.
    Output: [batch, height / 16, width / 16, 2], int32, rows and columns in quarters of a pixel.
    """
    if not isinstance(config, PvscMcConfig):
        return None
    return search(config, reference, frames, np.asarray(omega_index))
