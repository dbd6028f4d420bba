"""``python -m pvsc_link.train.ablation scenarios/train_ablation.yaml``: one run per variant.

The file is a training file with ``variants``: what each changes, everything else being equal
(data, seed, steps). Run folders are ``<folder>/<variant>``; stopped and started again, it goes on.
``released/`` in each has the weights as they would be shipped, with the tables of the side
information fitted: what a scenario measures.
"""

import argparse
import logging
import sys
from pathlib import Path
from typing import Any

from pydantic import Field

from pvsc_link.options import StrictModel, validated
from pvsc_link.scenario.loader import read_yaml
from pvsc_link.train.config import TrainConfig
from pvsc_link.train.console import run_logged
from pvsc_link.types import InputError

LOG = logging.getLogger(__name__)
_EXAMPLE = "scenarios/train_ablation.yaml"


class Variant(StrictModel):
    """What one variant changes: the model, or terms of the loss of every phase."""

    preset: str | None = None
    loss: dict[str, Any] = {}


class AblationConfig(TrainConfig):
    """A training run that is made once per entry of ``variants``; their names are folders."""

    variants: dict[str, Variant] = Field(min_length=1)


def load_ablation_config(path: str | Path) -> AblationConfig:
    """Read and validate a training file with variants; raises as ``load_train_config``."""
    return validated(read_yaml(path), AblationConfig, Path(path).name, _EXAMPLE)


def runs_of(config: AblationConfig) -> dict[str, TrainConfig]:
    """The training run of every variant. Raises ``InputError`` or pydantic's error as a file."""
    runs = {}
    for name, variant in config.variants.items():
        fields = config.model_dump(exclude={"variants"}) | {"name": name}
        if variant.preset is not None:
            fields["preset"] = variant.preset
        for phase in fields["phases"]:
            phase["loss"] |= variant.loss
        runs[name] = validated(
            fields, TrainConfig, f"variant {name}", "scenarios/train_ablation.yaml"
        )
    return runs


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0 at the end, 2 for bad input, 3 if stopped."""
    parser = argparse.ArgumentParser(prog="python -m pvsc_link.train.ablation", description=__doc__)
    parser.add_argument("config", help="training file with variants")
    parser.add_argument("--folder", help="folder of the run folders (default: runs/<name>)")
    parser.add_argument("--only", nargs="+", help="names of variants (default: all)")
    parser.add_argument("--threads", type=int, help="cores to use (default: all)")
    given = parser.parse_args(arguments)
    return run_logged(lambda: _train(given))


def _train(given: argparse.Namespace) -> int:
    config = load_ablation_config(given.config)
    runs = runs_of(config)
    for name in given.only or ():
        if name not in runs:
            raise InputError("variant", found=name, allowed=list(runs), remedy="Name one of these.")
    from pvsc_link.models.zoo import RELEASED
    from pvsc_link.train.release import release
    from pvsc_link.train.step import make_repeatable
    from pvsc_link.train.trainer import Trainer

    make_repeatable(given.threads)
    folder = Path(given.folder) if given.folder else Path("runs") / config.name
    for name in given.only or runs:
        LOG.info("variant %s", name)
        if not Trainer(runs[name], folder / name).run():
            return 3
        release([folder / name], folder / name / RELEASED)
    return 0


if __name__ == "__main__":
    sys.exit(main())
