"""The families of models that can be trained: PVSC (with or without motion vectors) and DVST.

This is the only file of the room that tells the families apart; ``zoo.model_of`` builds the model
of a config. Every family has an I-frame model (``intra``) and a P-frame model (``inter``), whose
``forward`` returns the tensors that ``objective.Objective`` reads.
"""

from dataclasses import replace
from typing import Any

import numpy as np

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

    DVST codes its I frames with PVSC's I-frame model; a run trains the P frames of one rate.
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


def has_starts(config: Any) -> bool:
    """Whether the starts of ``starts/`` and ``release`` know the layers of this model."""
    return not isinstance(config, DvstConfig)


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
