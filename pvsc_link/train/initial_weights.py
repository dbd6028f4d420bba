"""Fine-tuning: the averaged weights of another run as the start of this one (section IV-A)."""

import json
from pathlib import Path

from pvsc_link.semantic.presets import PvscConfig
from pvsc_link.train.config import TrainConfig
from pvsc_link.train.distillation import build_model
from pvsc_link.train.stages import WeightStore
from pvsc_link.types import InputError


def load_initial_weights(folder: Path, config: TrainConfig, store: WeightStore) -> None:
    """Put ``intra.weights.h5`` and ``inter.weights.h5`` of ``folder`` into ``store``.

    Input: ``folder`` : ``weights/`` of a run, each file with its model's config beside it.
    Raises ``InputError`` if there is none, or if a model has other presets than ``config``.
    """
    found = sorted(folder.expanduser().glob("*.weights.h5"))
    if not found:
        raise InputError(
            "initial_weights",
            found=str(folder),
            allowed="the weights/ folder of a run",
            remedy="Correct initial_weights in the config.",
        )
    for path in found:
        kind = path.name.removesuffix(".weights.h5")
        described = PvscConfig.from_dict(json.loads((path.parent / f"{kind}.json").read_text()))
        if described.num_omega != len(config.omega):
            raise InputError(
                f"presets of {path}",
                found=described.num_omega,
                allowed=len(config.omega),
                remedy="Use the omega list that the weights were trained with.",
            )
        model = build_model(described)
        model.load_weights(path)
        store.keep(kind, model)
