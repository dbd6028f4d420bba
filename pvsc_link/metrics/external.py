"""Metrics that another program computes, in a process and an environment of its own.

For what needs networks and packages that this one does not bring, such as CLIP similarity or FVD.
"""

import functools
import json
import math
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from pvsc_link.metrics.base import ClipMetric
from pvsc_link.storage import digest, file_digest
from pvsc_link.types import CodecFailure, InputError

#: What stands in a command for the two files of frames.
PLACES = ("{frames}", "{frames_hat}")


def run_measuring(command: Sequence[str], folder: str, name: str, timeout_s: float) -> bytes:
    """Run a program in ``folder`` and return its standard output.

    Raises ``CodecFailure`` with the program's last words if it fails, is absent or takes too long.
    """
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=timeout_s)
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

    Example, before a sweep::

        command = ["/opt/clip/bin/python", "clip_similarity.py", "{frames}", "{frames_hat}"]
        METRICS["clip"] = MetricType(
            "clip", "CLIP similarity", higher_is_better=True, of_clip=True,
            implementation=lambda: ExternalMetric(command, version_text="ViT-B/32"),
        )
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        smallest_side: int = 1,
        version_text: str = "",
        timeout_s: float = 3600.0,
    ):
        if not command or any(sum(place in word for word in command) != 1 for place in PLACES):
            raise InputError(
                "command of an external metric",
                found=list(command),
                allowed=f"words, in which {' and '.join(PLACES)} stand once each",
                remedy="Name the program and where it finds the two files.",
            )
        self._command, self._timeout_s = list(command), timeout_s
        self._version_text = version_text
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
        return np.stack([np.rint(255 * frame).astype(np.uint8) for frame in frames])

    def _compare_clip(self, reference: np.ndarray, frames_hat: Iterator[np.ndarray]) -> list[float]:
        with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
            paths = [str(Path(folder, f"{name}.npy")) for name in ("frames", "frames_hat")]
            for path, frames in zip(
                paths, (reference, self._clip_reference(frames_hat)), strict=True
            ):
                np.save(path, frames)
            words = [_filled(word, paths) for word in self._command]
            # In the user's own folder, where the command's relative paths are right.
            reply = run_measuring(words, ".", self._command[0], self._timeout_s)
        return self._values(reply.decode(errors="replace"), len(reference))

    def _values(self, reply: str, num_frames: int) -> list[float]:
        try:
            answer = json.loads(reply.strip().splitlines()[-1])
            values = answer.get("values", [answer.get("value")] * num_frames)
            values = [float(value) for value in values]
        except (ValueError, IndexError, AttributeError, TypeError) as error:
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
