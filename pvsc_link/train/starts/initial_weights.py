"""Fine-tuning: the averaged weights of another run as the start of this one (section IV-A)."""

import json
from pathlib import Path

from pvsc_link.models.pvsc.config import PRESETS, PvscConfig
from pvsc_link.models.zoo import SUFFIX, find_weights
from pvsc_link.train.config import TrainConfig
from pvsc_link.train.phase import WeightStore
from pvsc_link.train.rate_sets import build_model
from pvsc_link.types import InputError


def load_initial_weights(place: str, config: TrainConfig, store: WeightStore) -> None:
    """Put the intra and the inter weights of ``place`` into ``store``.

    Input: ``place`` : folder ``weights/`` of a run, each file with its model's config beside it;
    or the name of a preset whose weights are in the package. Weights with one of
    ``config.initial_except`` in their paths are left out.
    Raises ``InputError`` if there are none, if a model has other presets than ``config``, or if
    one of those words is in no path.
    """
    left_out: set[str] = set()
    for kind, path in _files(place).items():
        beside = path.with_name(path.name.removesuffix(SUFFIX) + ".json")
        described = PvscConfig.from_dict(json.loads(beside.read_text(encoding="utf-8")))
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
        for name in list(store.weights[kind]):
            words = [word for word in config.initial_except if word in name]
            left_out.update(words)
            if words:
                del store.weights[kind][name]
    for word in set(config.initial_except) - left_out:
        raise InputError(
            "initial_except",
            found=word,
            allowed="words in the paths of weights, such as feature_encoder or q_tx",
            remedy="Correct it in the config.",
        )


def _files(place: str) -> dict[str, Path]:
    if place in PRESETS and not PRESETS[place].intra:
        packaged = find_weights(place)
        found = {"intra": packaged.intra, "inter": packaged.inter}
    else:
        paths = Path(place).expanduser().glob(f"*{SUFFIX}")
        found = {path.name.removesuffix(SUFFIX): path for path in sorted(paths)}
    files = {kind: path for kind, path in found.items() if path is not None}
    if not files:
        raise InputError(
            "initial_weights",
            found=place,
            allowed="the weights/ folder of a run, or a preset with weights in the package",
            remedy="Correct initial_weights in the config.",
        )
    return files
