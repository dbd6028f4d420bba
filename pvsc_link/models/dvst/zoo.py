"""The models of a DVST preset with their trained weights: one of P frames for every rate.

In a folder of weights ``inter_rate0.weights.h5`` and so on, beside ``intra.weights.h5``; in the
package ``<preset>_rate0.weights.h5``. Where a folder has no model of I frames, that of PVSC serves.
"""

import functools
from pathlib import Path

from pvsc_link.models.dvst.config import DVST_PRESETS
from pvsc_link.models.dvst.model import DvstModel
from pvsc_link.models.pvsc.config import PRESETS
from pvsc_link.models.pvsc.model import IntraModel
from pvsc_link.models.zoo import PACKAGED, SUFFIX, WeightFiles, first_file, load_model
from pvsc_link.types import InputError

_NONE = WeightFiles(None, None)


def check_dvst_preset(preset: str) -> None:
    """Raises ``InputError`` for a preset that ``DVST_PRESETS`` lacks."""
    if preset not in DVST_PRESETS:
        remedy = "Name one of these."
        raise InputError("preset", found=preset, allowed=list(DVST_PRESETS), remedy=remedy)


def find_dvst_weights(preset: str, folder: str | None = None) -> dict[int, WeightFiles]:
    """The files of every rate that has both; of all rates, and none, where no rate has.

    Raises ``InputError`` for an unknown preset, and for a folder without a rate.
    """
    check_dvst_preset(preset)
    config = DVST_PRESETS[preset]
    place = PACKAGED if folder is None else Path(folder).expanduser()
    intra = first_file(place / f"intra{SUFFIX}", PACKAGED / f"{config.intra_preset}{SUFFIX}")
    found = {}
    for rate in range(config.num_rates):
        names = (f"{preset}_rate{rate}{SUFFIX}", f"inter_rate{rate}{SUFFIX}")
        inter = first_file(*(place / name for name in names))
        if intra and inter:
            found[rate] = WeightFiles(intra, inter)
    if folder is not None and not found:
        raise InputError(
            "weights",
            found=folder,
            allowed=f"a folder with intra{SUFFIX} and inter_rate0{SUFFIX} or other rates",
            remedy="Put the weights of one training run per rate there, or leave the key out.",
        )
    return found or dict.fromkeys(range(config.num_rates), _NONE)


@functools.lru_cache(maxsize=8)
def load_dvst_models(preset: str, files: WeightFiles) -> tuple[IntraModel, DvstModel]:
    """The models of one rate, built once per process; without files from a fixed start.

    Raises ``InputError`` for weights that do not fit.
    """
    config = DVST_PRESETS[preset]
    intra = load_model(IntraModel, PRESETS[config.intra_preset], files.intra)
    return intra, load_model(DvstModel, config, files.inter)
