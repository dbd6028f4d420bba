"""Metrics that another program computes, in a process and an environment of its own.

``ExternalMetric`` runs a command of the user's. ``DriverMetric`` runs a script of this package
(``drivers/``) in the user's own Python with PyTorch and weights: CLIP similarity and FVD.
"""

import functools
import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from pydantic import ConfigDict

from pvsc_link.metrics.base import FVD_FEWEST_FRAMES, ClipMetric
from pvsc_link.options import StrictModel
from pvsc_link.own_python import (
    SETTINGS_FILE,
    environment_of_other_python,
    path_below,
    program_below,
    read_settings,
)
from pvsc_link.storage import digest, file_digest, json_digest, known_file_digest
from pvsc_link.types import CodecFailure, InputError

#: What stands in a command for the two files of frames.
PLACES = ("{frames}", "{frames_hat}")
_DRIVERS = Path(__file__).parent / "drivers"
_VERSIONS_TIMEOUT_S = 300.0


def run_measuring(
    command: Sequence[str],
    folder: str,
    name: str,
    timeout_s: float,
    environment: Mapping[str, str] | None = None,
) -> bytes:
    """Run a program in ``folder`` and return its standard output.

    Parameters: ``environment`` : that of the program; None: that of this process.
    Raises ``CodecFailure`` with the program's last words if it fails, is absent or takes too long.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, timeout=timeout_s, env=environment
        )
    except OSError as error:
        raise CodecFailure("missing_binary", f"{name}: {error}") from error
    except subprocess.TimeoutExpired as error:
        detail = f"{name} took longer than {timeout_s:g} s"
        raise CodecFailure("codec_timeout", detail) from error
    if done.returncode:
        told = done.stderr.decode(errors="replace").strip()[-500:]
        detail = f"{name} ended with exit code {done.returncode}: {told}"
        raise CodecFailure("codec_error", detail)
    return done.stdout


class ExternalMetric(ClipMetric):
    """A metric by a command that reads two files of frames and answers with JSON.

    The command is run once per pair of clips. In its words ``{frames}`` and ``{frames_hat}`` become
    the paths of two ``.npy`` files, uint8 RGB [num_frames, height, width, 3]. The last line of its
    standard output is the reply: ``{"values": [...]}`` with a number per frame, or
    ``{"value": ...}`` with one number of the clip, which every frame then has.

    Cached values depend on the words of the command and on the content of the files that they name;
    what else they depend on, such as weights, belongs into ``version_text``.

    Parameters
        command : words; no shell reads them
        smallest_side : smallest height and width in pixels
        version_text : to be changed with any change that moves a value
        timeout_s : limit of one pair of clips, seconds
        environment : environment variables of the command; None: those of this process

    Example, before a sweep::

        command = ["/opt/flip/bin/python", "flip.py", "{frames}", "{frames_hat}"]
        METRICS["flip"] = MetricType(
            "flip", "FLIP", higher_is_better=False, of_clip=True,
            implementation=lambda: ExternalMetric(command, version_text="1.3"),
        )
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        smallest_side: int = 1,
        version_text: str = "",
        timeout_s: float = 3600.0,
        environment: Mapping[str, str] | None = None,
    ):
        if not command or any(sum(place in word for word in command) != 1 for place in PLACES):
            raise InputError(
                "command of an external metric",
                found=list(command),
                allowed=f"words, in which {' and '.join(PLACES)} stand once each",
                remedy="Name the program and where it finds the two files.",
            )
        self._command, self._timeout_s = list(command), timeout_s
        self._version_text, self._environment = version_text, environment
        self.smallest_side = smallest_side  # type: ignore[misc]

    def require(self) -> None:
        if shutil.which(self._command[0]) is None:
            raise InputError(
                "the program of an external metric is absent",
                found=self._command[0],
                allowed="a program that can be run",
                remedy="Correct its path, or leave the metric out.",
            )

    def build(self) -> str:
        return self._identity

    @functools.cached_property
    def _identity(self) -> str:
        program = shutil.which(self._command[0])
        named = [program or "", *self._command[1:]]
        contents = [file_digest(word) for word in named if Path(word).is_file()]
        return digest(json.dumps([self._command, self._version_text, contents]))[:32]

    def _clip_reference(self, frames: Iterator[np.ndarray]) -> np.ndarray:
        return _as_bytes(frames)

    def _compare_clip(self, reference: np.ndarray, frames_hat: Iterator[np.ndarray]) -> list[float]:
        with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
            paths = [str(Path(folder, f"{name}.npy")) for name in ("frames", "frames_hat")]
            for path, frames in zip(paths, (reference, _as_bytes(frames_hat)), strict=True):
                np.save(path, frames)
            words = [_filled(word, paths) for word in self._command]
            # In the user's own folder, where the command's relative paths are right.
            reply = run_measuring(words, ".", self._command[0], self._timeout_s, self._environment)
        return self._values(reply.decode(errors="replace"), len(reference))

    def _values(self, reply: str, num_frames: int) -> list[float]:
        try:
            answer = json.loads(reply.strip().splitlines()[-1])
            values = answer.get("values", [answer.get("value")] * num_frames)
            values = [float(value) for value in values]
        except (ValueError, IndexError, AttributeError, TypeError, RecursionError) as error:
            detail = f'{self._command[0]} answers no {{"values": [...]}}: {reply[-200:]!r}'
            raise CodecFailure("codec_error", detail) from error
        if len(values) != num_frames or not all(map(math.isfinite, values)):
            detail = f"{self._command[0]} gave {len(values)} values of {num_frames} frames, or NaN"
            raise CodecFailure("codec_error", detail)
        return values


def _filled(word: str, paths: Sequence[str]) -> str:
    for place, path in zip(PLACES, paths, strict=True):
        word = word.replace(place, path)
    return word


def _as_bytes(frames: Iterator[np.ndarray]) -> np.ndarray:
    """Frames in [0, 1] as uint8 [num_frames, height, width, 3]."""
    return np.stack([np.rint(255 * frame).astype(np.uint8) for frame in frames])


class _Settings(StrictModel):
    """Content of ``pvsc_link.json``."""

    model_config = ConfigDict(title=SETTINGS_FILE)

    python: str | None = None
    weights: str | None = None


class DriverMetric(ClipMetric):
    """A metric by a driver of this package that runs in the user's own Python with PyTorch.

    An environment variable names a folder whose ``pvsc_link.json`` states the two things that are
    the user's: ``{"python": "/envs/clip/bin/python", "weights": "ViT-B-32.pt"}``, with paths
    relative to the folder. Cached values depend on the content of the driver and of the weights,
    and on the versions and the device that the driver reports.

    Parameters
        driver : script in ``metrics/drivers``
        variable : name of the environment variable
        packages : what the Python needs, for messages
        weights : what file is wanted, for messages
        fewest_frames : shortest clip that can be measured
        timeout_s : limit of one pair of clips, seconds

    Raises ``InputError`` where Python, packages or weights are absent, and for a clip that is too
    short; ``CodecFailure`` with the driver's last words if it fails.
    """

    def __init__(
        self,
        driver: str,
        variable: str,
        *,
        packages: str,
        weights: str,
        fewest_frames: int = 1,
        timeout_s: float = 3600.0,
    ):
        self._driver, self._variable = _DRIVERS / driver, variable
        self._packages, self._weights = packages, weights
        self._timeout_s = timeout_s
        self.fewest_frames = fewest_frames  # type: ignore[misc]

    def require(self) -> None:
        self.build()

    def build(self) -> str:
        """Digest of the driver, the weights and the versions that the driver reports."""
        python, weights = self._found()
        driver = known_file_digest(self._driver)
        try:
            versions = _reported_versions(str(python), str(self._driver), driver)
        except CodecFailure as failure:
            raise self._absent(f"{python}: {failure.detail}") from failure
        return digest(driver, known_file_digest(weights), versions)[:32]

    def _found(self) -> tuple[Path, Path]:
        """The user's interpreter and the file of weights."""
        stated = os.environ.get(self._variable)
        if not stated:
            raise self._absent(f"{self._variable} is not set")
        folder = Path(stated).expanduser().absolute()
        settings = read_settings(folder, _Settings)
        python = program_below(folder, settings.python)
        if python is None or not os.access(python, os.X_OK):
            raise self._absent(f"python in {folder / SETTINGS_FILE}: {python or 'not stated'}")
        weights = settings.weights and path_below(folder, settings.weights)
        if not weights or not weights.is_file():
            raise self._absent(f"weights in {folder / SETTINGS_FILE}: {weights or 'not stated'}")
        return python, weights

    def _absent(self, found: str) -> InputError:
        return InputError(
            f"{self._driver.stem} lacks its Python or its weights",
            found=found,
            allowed=f"a Python with {self._packages}, and {self._weights}",
            remedy=f"Let {self._variable} name a folder with a {SETTINGS_FILE} such as "
            '{"python": "/envs/torch/bin/python", "weights": "weights.pt"}, or leave the metric '
            "out; docs/metrics.md says more.",
        )

    def _clip_reference(self, frames: Iterator[np.ndarray]) -> np.ndarray:
        return _as_bytes(frames)

    def _compare_clip(self, reference: np.ndarray, frames_hat: Iterator[np.ndarray]) -> list[float]:
        python, weights = self._found()
        command = [str(python), str(self._driver), *PLACES, str(weights)]
        external = ExternalMetric(
            command, timeout_s=self._timeout_s, environment=environment_of_other_python()
        )
        return external._compare_clip(reference, frames_hat)


@functools.cache
def _reported_versions(python: str, driver: str, driver_digest: str) -> str:
    """Digest of what a driver reports of its packages; asked once per process."""
    command, environment = [python, driver, "--versions"], environment_of_other_python()
    reply = run_measuring(command, ".", Path(driver).name, _VERSIONS_TIMEOUT_S, environment)
    try:
        return json_digest(json.loads(reply.decode(errors="replace").splitlines()[-1])["versions"])
    except (ValueError, IndexError, KeyError, TypeError, RecursionError) as error:
        detail = f"{Path(driver).name} reports no versions: {reply[-200:]!r}"
        raise CodecFailure("codec_error", detail) from error


clip_similarity = functools.partial(
    DriverMetric,
    "clip_similarity.py",
    "PVSC_LINK_CLIP_SIMILARITY",
    packages="open_clip_torch",
    weights="the weights of OpenAI's ViT-B/32",
)
fvd = functools.partial(
    DriverMetric,
    "fvd.py",
    "PVSC_LINK_FVD",
    packages="torch",
    weights="I3D as a TorchScript file",
    fewest_frames=FVD_FEWEST_FRAMES,
)
