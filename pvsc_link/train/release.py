"""Make weights that can be shipped out of the weights of training runs.

python -m pvsc_link.train.release runs/train_small

Where several runs have a model, its weights become their mean ("model soup", Wortsman et al., ICML
2022); with ``--packaged`` the mean includes the weights of that name in the package. The weights
are rounded to half precision, so that what is measured afterwards is what ships. The integer
tables of the side information are fitted to training clips. Both models get the names under which
a scenario finds them.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from keras import ops

from pvsc_link.models import (
    PACKAGED,
    SUFFIX,
    PvscMcConfig,
    WeightFiles,
    save_difference,
    save_weights,
)
from pvsc_link.storage import write_atomically
from pvsc_link.train.batches import BatchShape, draw_frames, step_generator
from pvsc_link.train.config import TrainConfig, load_run_config
from pvsc_link.train.data import open_cache
from pvsc_link.train.family import endings, has_rates, motion_vectors, network_name
from pvsc_link.train.weights import packaged_files, read_model
from pvsc_link.types import InputError

#: Clips, frames and pixels to which the tables of the side information are fitted for each quality
#: preset, and pictures for the tables of z_hat of I frames.
_FIT_CLIPS, _FIT_FRAMES, _FIT_CROP, _FIT_PICTURES = 32, 3, 192, 256
_FIT_SALT = 10**6 + 1  # no training step draws with it
#: Fields of a config that may differ between models whose weights are averaged.
_WITHOUT_WEIGHTS = ("motion_penalty",)


def release(
    runs: Sequence[Path], folder: Path, training: str | None = None, packaged: bool = False
) -> list[Path]:
    """Write ``<preset>[_<training>]_intra`` and ``<preset>[_<training>]``, weights and config.

    Of DVST the P models are ``<preset>[_<training>]_rate0`` and so on, of those rates that a run
    has. Each rate may come from a run of its own, if all take their I model from the same one.

    Parameters
    ----------
    runs : folders of training runs, with ``config.yaml`` and files in ``weights/``; each model is
        the mean of those runs that have it. Data, seed and preset's name come from the first.
    folder : where the files go
    training : name of a training that is not the preset's own, such as ``rayleigh``
    packaged : bool, whether the mean includes the weights of that name in the package

    Output: the weight files, that of the I model first. Raises ``InputError`` if no run has an
    I model or none has a P model, and if models of different configs would be averaged.
    """
    config = load_run_config(runs[0])
    ends = endings(config.preset)
    sources = {name: _of_runs(runs, name) for name in ends}
    if packaged:
        for name, path in packaged_files(config.preset, training).items():
            sources[name] += [path] if path is not None else []
    _check_complete(sources, runs)
    models = {name: _mean_model(paths) for name, paths in sources.items() if paths}
    for model in models.values():
        _round_to_half(model)
    fit_tables(models, config)
    folder.mkdir(parents=True, exist_ok=True)
    place = f"{config.preset}_{training}" if training else config.preset
    written = []
    for name, model in models.items():
        path = folder / f"{place}{ends[name]}{SUFFIX}"
        save_weights(model, path)
        _store_as_half(path)
        described = json.dumps(model.config.to_dict(), indent=1)
        write_atomically(folder / f"{place}{ends[name]}.json", described)
        written.append(path)
    if training and "inter" in models:  # the identity of DVST's rates needs whole files
        identity = WeightFiles(*written).identity
        for path, end in zip(written, ends.values(), strict=True):
            base = folder / f"{config.preset}{end}{SUFFIX}"
            if base.is_file():
                save_difference(path, base, identity)
    return written


def fit_tables(models: dict[str, Any], config: TrainConfig) -> None:
    """Fit the tables of the side information of all models to clips of the training data.

    These are the tables of the rate maps (format ``range``), of z_hat given its neighbours, and of
    the motion vectors of P frames.

    Parameters: ``models`` : by name (``family.endings``); ``config`` : of the run, for its data and
    its seed. If F_tx and F_rx have learnt (stage 2 or 3), P frames follow the transmitter's own
    reconstruction, else the ideal branch, because an untrained F_rx shows noise.
    """

    def drawn(number: int, num_frames: int) -> np.ndarray:
        shape = BatchShape(number, num_frames, _FIT_CROP)
        rng = step_generator(config.seed, _FIT_SALT, num_frames)
        frames = draw_frames(open_cache(config.data), config.data, shape, rng)
        return frames.astype(np.float32) / np.float32(255)

    clips, pictures = drawn(_FIT_CLIPS, _FIT_FRAMES), drawn(_FIT_PICTURES, 1)[:, 0]
    channel = _noiseless if max(phase.stage for phase in config.phases) > 1 else None
    motions: list[np.ndarray] = []
    intra = models["intra"]
    for preset in range(intra.config.num_omega):
        inter: Any = models.get("inter", models.get(network_name("inter", preset)))
        extension = inter is not None and isinstance(inter.config, PvscMcConfig)
        first, *others = _code(intra, inter, clips, preset, channel)
        if has_rates(inter):
            z_hat, index = (np.concatenate([o[k] for o in others]) for k in ("z_hat", "rate_index"))
            inter.rate_map_prior.fit(np.rint(z_hat), index, inter.config.row(preset))
            others = []
        for model, coded in ((intra, [first]), (inter, others)):
            if not coded:
                continue
            maps = [(o["z_hat"], o["num_bits_y"]) for o in coded]
            z_hat, num_bits = (np.concatenate(arrays) for arrays in zip(*maps, strict=True))
            wanted = float(ops.convert_to_numpy(model.eta_of([preset]))[0, 0, 0]) * num_bits
            z_hat = np.rint(z_hat)
            model.rate_map_prior.fit_to_wanted(z_hat, wanted, preset)
            if model is intra:
                z_hat = np.concatenate([z_hat, _hyper_latents(intra, pictures, preset)])
            if extension:  # the paper's prior of z is factorised
                model.hyper_context.fit(z_hat, preset, model.z_prior.pmf_table(preset))
        motions += [motion for o in others if o["motion"] is not None for motion in o["motion"]]
    if motions:
        inter.motion_prior.fit(motions)


def _code(
    intra: Any, inter: Any, clips: np.ndarray, preset: int, channel: Any
) -> list[dict[str, Any]]:
    """z_hat, rate map, bits of y and motion vectors of every frame, as the transmitter makes them.

    Without ``inter``, of the I frames alone.
    """
    omega_index = ops.full((len(clips),), preset, "int32")
    outputs = [intra.forward(clips[:, 0], omega_index, channel=channel)]
    end = "ideal" if channel is None else "tx"
    shown = ops.clip(outputs[0][f"frame_{end}"], 0.0, 1.0)
    if inter is not None:
        buffers = inter.start_buffers(shown, None if channel is None else shown)
    for t in range(1, 1 if inter is None else clips.shape[1]):
        presets, frame = [preset] * len(clips), clips[:, t]
        motion = motion_vectors(inter.config, buffers["feature_tx"], frame, presets)
        vectors = {} if motion is None else {"motion": motion}
        sent = inter.forward(frame, buffers, omega_index, channel=channel, **vectors)
        outputs.append({**sent, "motion": motion})
        buffers = sent["buffers"]
    return [
        {"motion": o.get("motion")}
        | {k: ops.convert_to_numpy(o[k]) for k in ("z_hat", "rate_index", "num_bits_y")}
        for o in outputs
    ]


def _hyper_latents(intra: Any, pictures: np.ndarray, preset: int) -> np.ndarray:
    """z_hat of I frames: [pictures, Hz, Wz, channels_z], whole numbers."""
    found = []
    for few in np.array_split(pictures, max(1, len(pictures) // _FIT_CLIPS)):
        omega_index = ops.full((len(few),), preset, "int32")
        y = intra.feature_extractor(few, omega_index)
        found.append(np.rint(ops.convert_to_numpy(intra.hyper_latent(y, omega_index)[0])))
    return np.concatenate(found)


def _noiseless(symbols: Any, rate_index: Any) -> Any:
    return symbols


def _of_runs(runs: Sequence[Path], name: str) -> list[Path]:
    """Weight files of one model in those runs that have it."""
    folders = [run / "weights" for run in runs]
    return [f / f"{name}{SUFFIX}" for f in folders if (f / f"{name}.json").is_file()]


def _check_complete(sources: dict[str, list[Path]], runs: Sequence[Path]) -> None:
    """Raises ``InputError`` unless there are an I model and a P model."""
    for kind in ("intra", "inter"):
        if any(paths for name, paths in sources.items() if name.partition("_")[0] == kind):
            continue
        raise InputError(
            f"{kind} model of a run",
            found=f"no weights/{kind}*.json in {', '.join(map(str, runs))}",
            allowed="a run whose phases trained an intra and an inter model",
            remedy="Train the missing one, or name the run that did as well.",
        )


def _mean_model(paths: Sequence[Path]) -> Any:
    """The model of the first file, with the mean of the weights of all."""
    model, *others = [read_model(path) for path in paths]
    same = {f: getattr(model.config, f) for f in _WITHOUT_WEIGHTS if hasattr(model.config, f)}
    for path, other in zip(paths[1:], others, strict=True):
        if replace(other.config, **same) != model.config:
            raise InputError(
                "models whose mean is wanted",
                found=f"the config of {path} differs from that of {paths[0]}",
                allowed="weights of the same model, one trained from the other",
                remedy="Release them one by one.",
            )
    for variables in zip(*(m.trainable_variables for m in (model, *others)), strict=True):
        variables[0].assign(np.mean([np.asarray(v, np.float32) for v in variables], axis=0))
    return model


def _round_to_half(model: Any) -> None:
    """Round every weight to the nearest half-precision number."""
    for variable in model.trainable_variables:
        value = np.asarray(variable, np.float32)
        rounded = value.astype(np.float16).astype(np.float32)
        if not np.isfinite(rounded).all():
            raise InputError(
                f"weight {variable.path}",
                found=f"{np.abs(value).max():g}",
                allowed="finite values below 65504",
                remedy="Train further, or from an earlier checkpoint.",
            )
        variable.assign(rounded)


def _store_as_half(path: Path) -> None:
    """Rewrite a weights file with float16 instead of float32, and integer tables compressed."""
    partial = path.with_name(f"partial_{path.name}")
    with h5py.File(path) as source, h5py.File(partial, "w") as target:

        def copy(name: str, item: Any) -> None:
            if isinstance(item, h5py.Group):
                group = target.require_group(name)
                group.attrs.update(item.attrs)
                return
            value = item[()]
            half = value.astype(np.float16) if value.dtype == np.float32 else value
            # Only integers are compressed: float16 weights would hardly get smaller.
            packed = {"compression": "gzip"} if value.dtype.kind == "i" else {}
            target.create_dataset(name, data=half, **packed)

        target.attrs.update(source.attrs)
        source.visititems(copy)
    partial.replace(path)


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns the exit status: 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m pvsc_link.train.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of training runs")
    parser.add_argument("--training", help="name of a training other than the preset's own")
    parser.add_argument(
        "--packaged", action="store_true", help="mean of the runs and of the package's weights"
    )
    parser.add_argument(
        "--folder", type=Path, default=PACKAGED, help="where the files go (default: the package)"
    )
    given = parser.parse_args(arguments)
    try:
        for path in release(given.runs, given.folder, given.training, given.packaged):
            print(f"{path} ({path.stat().st_size / 1e6:.1f} MB)")
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
