"""Models with their trained weights: from a preset, from the package, from a training run.

    intra, pvsc = load_models("pvsc_mc_small", find_weights("pvsc_mc_small"))
    model = model_of(PRESETS["pvsc_tiny"])                   # fresh weights
    save_weights(model, "inter.weights.h5")                  # the same file under every backend

In the package the files are ``<preset>[_<training>]_intra.weights.h5`` (I frames) and
``<preset>[_<training>].weights.h5`` (P frames); in the folder of a training run ``intra`` and
``inter``; of DVST one ``<preset>[_<training>]_rate0`` or ``inter_rate0`` and so on per rate. A
``.json`` beside a file is the model's config. A file may hold only what differs from another one
beside it (``save_difference``). ``weights/README.md`` is the model card. Keras is imported with the
first model that is built: what finds and identifies files does without.
"""

import functools
import json
import random
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from pvsc_link.models.dvst.config import DvstConfig
from pvsc_link.models.presets import DVST_PRESETS, PRESETS, config_of
from pvsc_link.models.pvsc.config import IntraConfig
from pvsc_link.models.pvsc_mc.config import PvscMcConfig
from pvsc_link.storage import digest, write_atomically
from pvsc_link.types import InputError

if TYPE_CHECKING:
    import keras

SUFFIX = ".weights.h5"
#: Weights that come with the package.
PACKAGED = Path(__file__).parent / "weights"
#: Folder in a training run with its weights as they would be shipped.
RELEASED = "released"
UNTRAINED = "untrained"
_SEED = 1


def model_of(config: Any, **kwargs: Any) -> Any:
    """The model of a config, with fresh weights; ``kwargs`` : of ``keras.Model``.

    Output: IntraModel, PvscModel, PvscMcModel or DvstModel.
    """
    from pvsc_link.models.dvst.model import DvstModel
    from pvsc_link.models.pvsc.model import IntraModel, PvscModel
    from pvsc_link.models.pvsc_mc.model import PvscMcModel

    if isinstance(config, DvstConfig):
        return DvstModel(config, **kwargs)
    if isinstance(config, IntraConfig):
        return IntraModel(config, **kwargs)
    kind = PvscMcModel if isinstance(config, PvscMcConfig) else PvscModel
    return kind(config, **kwargs)


def save_weights(model: "keras.Model", path: str | Path) -> None:
    """Write all weights of ``model`` to ``path``. Raises ``InputError`` for another suffix."""
    model.save_weights(_checked(path), overwrite=True)


def save_with_config(model: Any, path: str | Path) -> None:
    """``save_weights``, and the config beside it, as ``load_model`` reads them."""
    save_weights(model, path)
    described = json.dumps(model.config.to_dict(), indent=1)
    write_atomically(_config_file(Path(path)), described)


def load_weights(model: "keras.Model", path: str | Path) -> None:
    """Read all weights of ``model`` from ``path``, all or nothing.

    Raises ``InputError`` for a missing file, another suffix, weights of another preset, or
    weights that are not finite; the model then keeps the weights it had.
    """
    path = _checked(path)
    if not path.is_file():
        raise InputError(
            "weights file missing", found=str(path), allowed="an existing file", remedy="Train one."
        )
    before = model.get_weights()
    try:
        with _whole(path) as complete:
            model.load_weights(complete)
    except (ValueError, KeyError, OSError) as error:
        model.set_weights(before)
        raise _mismatch(model, path, str(error).splitlines()[0]) from error
    from keras import ops

    if not all(ops.convert_to_numpy(ops.all(ops.isfinite(w))) for w in model.trainable_weights):
        model.set_weights(before)
        raise _mismatch(model, path, "NaN or infinite weights")


#: Attributes of a file that holds differences: the file that it differs from, and the identity that
#: both files of the pair had while this one was whole.
_BASE, _IDENTITY = "base", "identity"


def save_difference(path: Path, base: Path, identity: str) -> bool:
    """Keep in ``path`` only the arrays that differ from ``base``, a file in the same folder.

    Parameters: ``identity`` : what ``WeightFiles.identity`` says of the pair of whole files; it
    stays. Output: whether it was done; not where more than half of the arrays differ.
    """
    with h5py.File(path) as whole, h5py.File(base) as other:
        names = _arrays(whole)
        if names != _arrays(other):
            return False
        differing = [name for name in names if not np.array_equal(whole[name], other[name])]
        if len(differing) > len(names) / 2:
            return False
        partial = path.with_name(f"partial_{path.name}")
        with h5py.File(partial, "w") as target:
            target.attrs.update({_BASE: base.name, _IDENTITY: identity})
            for name in differing:
                target.create_dataset(name, data=whole[name][()], compression="gzip")
    partial.replace(path)
    return True


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """The file itself; or for one that holds differences a complete copy in a temporary folder."""
    base = _attributes(path).get(_BASE)
    if base is None:
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path.with_name(str(base)), copy)
        with h5py.File(path) as differences, h5py.File(copy, "r+") as complete:
            for name in _arrays(differences):
                complete[name][...] = differences[name][()]
        yield copy


def _attributes(path: Path) -> dict[str, Any]:
    """Attributes of a weights file; of one that cannot be read: none, loading then says why."""
    try:
        with h5py.File(path) as file:
            return dict(file.attrs)
    except OSError:
        return {}


def _arrays(file: h5py.File) -> list[str]:
    names: list[str] = []

    def add(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            names.append(name)

    file.visititems(add)
    return names


def _mismatch(model: "keras.Model", path: Path, found: str) -> InputError:
    return InputError(
        f"weights in {path.name} do not fit the model",
        found=found,
        allowed=f"weights saved from {type(model).__name__} with preset {model.config.name}",
        remedy="Build the model with the preset that the file was saved with.",
    )


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.name.endswith(SUFFIX):
        raise InputError(
            "weights file name", found=path.name, allowed=f"*{SUFFIX}", remedy="Rename it."
        )
    return path


@dataclass(frozen=True)
class WeightFiles:
    """Where the weights of a pair of models are; ``None``: there are none."""

    intra: Path | None
    inter: Path | None

    @property
    def identity(self) -> str:
        """``untrained``, or 12 hex digits of the SHA-256 of both files and the configs beside them.

        A config belongs to it: another rate set or eta with the same weights is another model.
        """
        if self.intra is None or self.inter is None:
            return UNTRAINED
        parts = []
        for path in (self.intra, self.inter):
            if stated := _attributes(path).get(_IDENTITY):
                return str(stated)
            parts.append(path.read_bytes())
            if (config := _config_file(path)).is_file():
                parts.append(config.read_bytes())
        return digest(*parts)[:12]

    def __str__(self) -> str:
        """Where they are, for a manifest: files of the package from its folder on."""
        if self.intra is None or self.inter is None:
            return "from a fixed random start"
        root = Path(__file__).parents[2]
        return " and ".join(
            str(path.relative_to(root) if path.is_relative_to(PACKAGED) else path)
            for path in (self.intra, self.inter)
        )


def find_weights(
    preset: str, folder: str | None = None, training: str | None = None
) -> WeightFiles:
    """The files of a preset: in the package, or in the ``weights/`` folder of a training run.

    A training run names them ``intra`` and ``inter``. ``training`` : another training of the
    preset than PVSC's own, whose files in the package have it behind the preset's name; without
    it ``folder`` may name one of ``packaged_trainings``.
    Raises ``InputError`` for an unknown preset, and for a folder that lacks one of the two files.
    """
    check_preset(preset)
    if training is None and folder in packaged_trainings(preset):
        folder, training = None, folder
    name = f"{preset}_{training}" if training else preset
    place = PACKAGED if folder is None else Path(folder).expanduser()
    intra = first_file(place / f"{name}_intra{SUFFIX}", place / f"intra{SUFFIX}")
    inter = first_file(place / f"{name}{SUFFIX}", place / f"inter{SUFFIX}")
    if folder is not None and (intra is None or inter is None):
        raise InputError(
            "weights",
            found=folder,
            allowed=f"a folder with intra{SUFFIX} and inter{SUFFIX}, or in the package one of "
            f"{packaged_trainings(preset)}",
            remedy="Name the weights folder of a training run, or leave the key out.",
        )
    return WeightFiles(intra, inter) if intra and inter else WeightFiles(None, None)


#: The end of the name of a file with one rate of DVST.
_RATE = re.compile(r"(^|_)rate\d+$")


def packaged_trainings(preset: str) -> list[str]:
    """Trainings of a preset besides its own whose weights are in the package."""
    models = (path.name.removesuffix(SUFFIX) for path in PACKAGED.glob(f"{preset}_*{SUFFIX}"))
    endings = [name.removeprefix(f"{preset}_") for name in models]
    found = (_RATE.sub("", e) for e in endings if e.split("_")[-1] != "intra")
    return sorted({training for training in found if training})


def packaged_identities() -> dict[str, str]:
    """Identity of all weights in the package -> preset and training.

    It is ``WeightFiles.identity`` of a pair of files, and ``identity_of_rates`` of DVST.
    """
    found = {}
    for preset in DVST_PRESETS:
        for training in (None, *packaged_trainings(preset)):
            files = find_dvst_weights(preset, training=training)
            name = f"{preset}_{training}" if training else preset
            found[identity_of_rates(files)] = name
    found.pop(UNTRAINED, None)
    for intra in sorted(PACKAGED.glob(f"*_intra{SUFFIX}")):
        name = intra.name.removesuffix(f"_intra{SUFFIX}")
        if (inter := PACKAGED / f"{name}{SUFFIX}").is_file():
            found[WeightFiles(intra, inter).identity] = name
    return found


def run_label(folder: str | None) -> str:
    """Label of the weights of ``folder``, which is appended to the variant of a scheme.

    The name of the training run, or of a training in the package; empty for the preset's own.
    """
    if folder is None:
        return ""
    place = Path(folder).expanduser().resolve()
    within = place.name in ("weights", RELEASED)
    return f", weights {place.parent.name if within else place.name}"


def check_preset(preset: str) -> None:
    """Raises ``InputError`` unless ``preset`` is a P-frame preset whose I-frame preset exists."""
    allowed = [name for name, config in PRESETS.items() if not config.intra]
    if preset not in allowed:
        raise InputError("preset", found=preset, allowed=allowed, remedy="Name one of these.")


def check_dvst_preset(preset: str) -> None:
    """Raises ``InputError`` for a preset that ``DVST_PRESETS`` lacks."""
    if preset not in DVST_PRESETS:
        remedy = "Name one of these."
        raise InputError("preset", found=preset, allowed=list(DVST_PRESETS), remedy=remedy)


def find_dvst_weights(
    preset: str, folder: str | None = None, training: str | None = None
) -> dict[int, WeightFiles]:
    """The files of every rate that has both; of all rates, and none, where no rate has.

    ``folder`` and ``training`` : as ``find_weights``. I frames that are not there are those of the
    preset of PVSC that DVST takes its I frames from, if the package has its weights.
    Raises ``InputError`` for an unknown preset, and for a folder without a rate.
    """
    check_dvst_preset(preset)
    config = DVST_PRESETS[preset]
    if training is None and folder in packaged_trainings(preset):
        folder, training = None, folder
    name = f"{preset}_{training}" if training else preset
    place = PACKAGED if folder is None else Path(folder).expanduser()
    own = (place / f"{name}_intra{SUFFIX}", place / f"intra{SUFFIX}")
    intra = first_file(*own, PACKAGED / f"{config.intra_preset}{SUFFIX}")
    found = {}
    for rate in range(config.num_rates):
        names = (f"{name}_rate{rate}{SUFFIX}", f"inter_rate{rate}{SUFFIX}")
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
    return found or dict.fromkeys(range(config.num_rates), WeightFiles(None, None))


def identity_of_rates(files: dict[int, WeightFiles]) -> str:
    """``untrained``, or 12 hex digits of all weights of the rates of DVST."""
    if all(of_rate.identity == UNTRAINED for of_rate in files.values()):
        return UNTRAINED
    return digest(" ".join(f"{rate}:{of_rate.identity}" for rate, of_rate in files.items()))[:12]


def fresh_models(preset: str, files: WeightFiles) -> tuple[Any, Any]:
    """The I-frame and the P-frame model of a preset, or those of one rate of a DVST preset.

    Without files they have a fixed start. Raises ``InputError`` for weights that do not fit.
    """
    intra, inter = _presets_of(preset)
    return load_model(intra, files.intra), load_model(inter, files.inter)


def configs_of(preset: str, files: WeightFiles) -> tuple[Any, Any]:
    """The configs of what ``fresh_models`` gives; no model is built."""
    intra, inter = _presets_of(preset)
    return _config(intra, files.intra), _config(inter, files.inter)


def _presets_of(preset: str) -> tuple[Any, Any]:
    dvst = DVST_PRESETS.get(preset)
    intra = PRESETS[dvst.intra_preset if dvst else f"{preset}_intra"]
    return intra, dvst or PRESETS[preset]


@functools.lru_cache(maxsize=4)
def load_models(preset: str, files: WeightFiles) -> tuple[Any, Any]:
    """``fresh_models`` of PVSC, built once per process: nobody may change their weights."""
    return fresh_models(preset, files)


@functools.lru_cache(maxsize=8)
def load_dvst_models(preset: str, files: WeightFiles) -> tuple[Any, Any]:
    """``fresh_models`` of one rate of DVST, built once per process."""
    return fresh_models(preset, files)


def family_of(preset: str, files: WeightFiles) -> str:
    """``family`` of the P-frame config beside the weights, or of the preset without any."""
    return _config(PRESETS[preset], files.inter).family


def preset_of(preset: str, files: WeightFiles) -> str:
    """The preset that the weights were trained as, by the config beside them; else ``preset``."""
    known = DVST_PRESETS if preset in DVST_PRESETS else PRESETS
    name = _config(known[preset], files.inter).name
    return name if name in known else preset


def num_quality_presets(preset: str, files: WeightFiles) -> int:
    """Quality presets of the weights; without files, of the preset."""
    pairs = ((PRESETS[f"{preset}_intra"], files.intra), (PRESETS[preset], files.inter))
    return min(_config(config, path).num_omega for config, path in pairs)


def load_model(preset: Any, path: Path | None) -> Any:
    """One model with the weights of ``path``; without, from the fixed start.

    Parameters: ``preset`` : config of the model, unless ``path`` has another beside it, of this
    version or an older one. Raises ``InputError`` for weights that do not fit.
    """
    with _fixed_start():
        model = model_of(_config(preset, path))
    if path is not None:
        load_weights(model, path)
    return model


def read_config(path: Path) -> Any:
    """The config beside the weights ``path``.

    Raises ``OSError`` where there is none, and ``InputError`` for one that describes no model.
    """
    file = _config_file(path)
    try:
        given = json.loads(file.read_text(encoding="utf-8"))
        if not isinstance(given, dict):
            raise ValueError(f"a {type(given).__name__}, not a mapping")
        _check_sizes(given)
        return config_of(given)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(
            f"config beside the weights, {file}",
            found=str(error)[:300],
            allowed="the config that a training run wrote beside its weights",
            remedy="Copy the whole folder of the training run again.",
        ) from error


#: Largest number and longest list in a config: wider models would fill the memory.
_MOST, _LONGEST = 1_000_000_000, 10_000
_MOST_CHANNELS = 16_384


def _check_sizes(given: dict[str, Any]) -> None:
    """Raise ``ValueError`` for numbers that no model has."""
    for name, value in given.items():
        numbers = value if isinstance(value, list) else [value]
        if len(numbers) > _LONGEST:
            raise ValueError(f"{name} has {len(numbers)} values")
        most = _MOST_CHANNELS if "channels" in name or "depth" in name or "dim" in name else _MOST
        for number in numbers:
            if isinstance(number, int | float) and not abs(number) <= most:
                raise ValueError(f"{name} is {number!r:.40}")


def _config(preset: Any, path: Path | None) -> Any:
    """The preset; or what a training run wrote beside its weights, e.g. a distilled rate set."""
    return read_config(path) if path is not None and _config_file(path).is_file() else preset


def _config_file(path: Path) -> Path:
    return path.with_name(path.name.removesuffix(SUFFIX) + ".json")


#: Models are made one after another, because ``random.randint`` is one for all threads.
_ONE_AT_A_TIME = threading.RLock()


@contextmanager
def _fixed_start() -> Iterator[None]:
    """Initial weights that are the same in every process.

    Keras takes the seed of an initializer that has none from ``random.randint``. Meanwhile this
    function has numbers of its own for this thread: modules that are imported for the first time,
    and other threads, take numbers from Python's generator too.
    """
    own, thread, is_over = random.Random(_SEED), threading.get_ident(), threading.Event()
    with _ONE_AT_A_TIME:
        plain = random.randint

        def randint(a: int, b: int) -> int:
            is_own = threading.get_ident() == thread and not is_over.is_set()
            return own.randint(a, b) if is_own else plain(a, b)

        random.randint = randint  # type: ignore[assignment]
        try:
            yield
        finally:
            is_over.set()
            random.randint = plain  # type: ignore[method-assign]


def first_file(*paths: Path) -> Path | None:
    """The first of the paths that is a file."""
    return next((path for path in paths if path.is_file()), None)


#: Name of the arithmetic of a receiver that computes as its transmitter does.
SAME = "same"


@dataclass(frozen=True)
class Arithmetic:
    """How the receiver's networks compute, where it differs from the transmitter (Fig. 1).

    Two devices or libraries round differently. Here one machine plays both: the receiver computes
    at another precision, or compiled by XLA, which keeps float32 but adds in another order.

    ``dtype`` : Keras' dtype policy, None: the transmitter's; ``xla`` : compiled by XLA.
    """

    dtype: str | None = None
    xla: bool = False


ARITHMETICS: dict[str, Arithmetic] = {
    SAME: Arithmetic(),
    "xla": Arithmetic(xla=True),
    "bfloat16": Arithmetic("mixed_bfloat16"),
    "float16": Arithmetic("mixed_float16"),
}


def find_arithmetic(name: str) -> Arithmetic:
    """The arithmetic of a name. Raises ``InputError`` for one that ``ARITHMETICS`` lacks."""
    if name not in ARITHMETICS:
        raise InputError(
            "receiver_arithmetic",
            found=name,
            allowed=", ".join(ARITHMETICS),
            remedy="Leave the key out for a receiver that computes as the transmitter does.",
        )
    return ARITHMETICS[name]


def receiving(models: tuple[Any, Any], arithmetic: Arithmetic) -> tuple[Any, Any]:
    """The receiver's models: those given, or copies with equal weights at another precision.

    Input: ``models`` : that of I frames and that of P frames.
    """
    if arithmetic.dtype is None:
        return models
    intra, model = models
    return _copy(intra, arithmetic.dtype), _copy(model, arithmetic.dtype)


def _copy(model: Any, dtype: str) -> Any:
    copy = model_of(model.config, dtype=dtype)
    copy.set_weights(model.get_weights())
    return copy
