"""Where an external codec lies on this machine, and what distinguishes the families.

A checkout is the user's copy of a codec's repository, with a Python that runs it and checkpoints.
The scenario's entry names the three (``checkout``, ``python``, ``checkpoints``), or an environment
variable names a folder with a file ``pvsc_link.json``, which is read in a stated checkout too::

    {"checkout": ".", "python": "/envs/dcvc/bin/python", "checkpoints": "checkpoints"}

Paths in the file are relative to its folder. The scenario's entry takes precedence.

The families DCVC-RT, DCVC-FM, DCVC-UF, GLC-Video and PLVC differ in rates, commands and
checkpoints. The commands are the literal ones of the repositories: ``{image}`` and the like stand
for paths that the driver fills in, ``GOP`` stands for the number of frames.
"""

import functools
import os
import shlex
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import ConfigDict, Field

from pvsc_link.options import StrictModel
from pvsc_link.own_python import SETTINGS_FILE, path_below, program_below, read_settings
from pvsc_link.storage import digest, known_file_digest
from pvsc_link.types import CodecFailure

_GIT_TIMEOUT_S = 20.0
#: Hexadecimal digits of a SHA-256 that are stated.
_DIGITS = 16


class _Settings(StrictModel):
    """Content of ``pvsc_link.json``; ``intra`` are commands, each a list of words."""

    model_config = ConfigDict(title=SETTINGS_FILE)

    checkout: str = "."
    python: str | None = None
    checkpoints: str | None = None
    intra: tuple[Annotated[tuple[str, ...], Field(min_length=1)], ...] = ()


@dataclass(frozen=True)
class Checkout:
    """What is needed to run a codec out of its own repository."""

    root: Path
    python: Path
    checkpoints: Path
    intra: tuple[tuple[str, ...], ...] = ()  # commands of an I-frame codec

    def stamp(self) -> str:
        """Commit, and digest of the Python sources, because users must edit some repositories."""
        sources = digest_of_files(self.root, _python_files(self.root))
        return f"commit {git_commit(self.root)}, sources sha256 {sources}"


def find_checkout(
    name: str,
    variable: str,
    *,
    checkout: str | None = None,
    python: str | None = None,
    checkpoints: str | None = None,
    script: str,
) -> Checkout:
    """The user's checkout of codec ``name``.

    Parameters: ``variable`` : environment variable that names the folder where the scenario gives
    no ``checkout``; ``script`` : a file that the repository must have.
    Raises ``CodecFailure`` ``missing_binary``, which says what is absent and how to state it, and
    ``InputError`` for a settings file that cannot be read.
    """
    stated = checkout or os.environ.get(variable)
    if not stated:
        raise _missing(name, variable, "no checkout is stated")
    folder = Path(stated).expanduser().absolute()
    settings = read_settings(folder, _Settings)
    root = path_below(folder, "." if checkout else settings.checkout)
    own = program_below(folder, settings.python)
    interpreter = program_below(Path.cwd(), python) or own
    weights = checkpoints or settings.checkpoints
    if not (root / script).is_file():
        raise _missing(name, variable, f"{root} has no {script}")
    if interpreter is None or not os.access(interpreter, os.X_OK):
        raise _missing(name, variable, f"its Python is {interpreter or 'not stated'}")
    if weights is None:
        raise _missing(name, variable, "its checkpoints are not stated")
    base = Path.cwd() if checkpoints else folder
    return Checkout(root, interpreter, path_below(base, weights), settings.intra)


def _missing(name: str, variable: str, what: str) -> CodecFailure:
    remedy = (
        f"{name}: {what}. Give the scenario's entry checkout, python and checkpoints, or set "
        f"{variable} to a folder with {SETTINGS_FILE} that names them"
    )
    return CodecFailure("missing_binary", remedy)


def git_commit(root: Path) -> str:
    """Commit that is checked out, or ``unknown`` where the folder is no git checkout."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"],
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _python_files(root: Path) -> Iterator[Path]:
    """Every Python source of the repository, without virtual environments and hidden folders."""
    for folder, folders, files in os.walk(root):
        here = Path(folder)
        folders[:] = [
            name
            for name in folders
            if not name.startswith(".")
            and name not in ("__pycache__", "site-packages")
            and not (here / name / "pyvenv.cfg").is_file()
        ]
        yield from (here / name for name in files if name.endswith(".py"))


def digest_of_files(root: Path, files: Iterable[Path]) -> str:
    """First digits of a SHA-256 over names (below ``root``) and contents, in order of names."""
    named = {path.relative_to(root).as_posix(): path for path in files}
    return digest(*(f"{name} {known_file_digest(named[name])}\n" for name in sorted(named)))[
        :_DIGITS
    ]


def checkpoint_stamp(files: Mapping[str, Path]) -> str:
    """``image a.tar sha256 0123..., video ...``: SHA-256 of every file, of folders over all files.

    Raises ``CodecFailure`` (missing_binary) for a file that cannot be read.
    """
    try:
        return ", ".join(
            f"{role} {path.name} sha256 {_stamp_of(path)}" for role, path in files.items()
        )
    except OSError as error:
        raise CodecFailure("missing_binary", f"checkpoint: {error}") from error


def _stamp_of(path: Path) -> str:
    if path.is_dir():
        return digest_of_files(path, (file for file in path.rglob("*") if file.is_file()))
    return known_file_digest(path)[:_DIGITS]


BIT_EXACT, RATE_ONLY = "bit-exact", "rate-only"
#: (mode, rate, num_frames, device) -> commands, each a list of words.
Commands = Callable[[str, int, int | str, str], list[list[str]]]


def _test_video(rate_options: str, more: str) -> Commands:
    """Stock script of the DCVC family on one sequence at one rate, with one I frame first."""

    def commands(mode: str, rate: int, num_frames: int | str, device: str) -> list[list[str]]:
        text = (
            "test_video.py --model_path_i {{image}} --model_path_p {{video}} --rate_num 1 "
            f"{rate_options} --test_config {{{{config}}}} --force_intra_period {{gop}} "
            "--force_frame_num {gop} --cuda {cuda} --worker 1 --verbose_json 1 "
            f"--save_decoded_frame 1 {more} --stream_path {{{{streams}}}} "
            "--output_path {{output}}"
        )
        stream = int(mode == BIT_EXACT)
        cuda = int(device != "cpu")
        return [shlex.split(text.format(rate=rate, gop=num_frames, cuda=cuda, stream=stream))]

    return commands


def _uf_commands(mode: str, rate: int, num_frames: int | str, device: str) -> list[list[str]]:
    """DCVC-UF in its low-delay structure, in which every frame has bits of its own.

    It takes the first CUDA device that it sees, and always writes and decodes a bitstream.
    """
    text = (
        "test_video.py --model_path_i {{image}} --model_path_p {{video}} --rate_num 1 "
        "--qp_i {rate} --qp_p {rate} --test_config {{config}} --force_intra_period {gop} "
        "--force_frame_num {gop} --worker 1 --model_structure ld --skip_thres 0.15 "
        "--check_existing 0 --verbose_json 1 --save_decoded_frame 1 --stream_path {{streams}} "
        "--output_path {{output}}"
    )
    return [shlex.split(text.format(rate=rate, gop=num_frames))]


def _image_and_video(checkout: Checkout, rate: int, video: str = "video") -> dict[str, Path]:
    """The one file of the folder with ``image`` in its name and the one with ``video``.

    Parameters: ``video`` : what the name of the latter has in it.
    """
    folder = checkout.checkpoints
    found = {}
    for role, part in (("image", "image"), ("video", video)):
        files = [p for p in sorted(folder.glob(f"*{part}*")) if p.is_file() and p.suffix != ".py"]
        if len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            detail = f"checkpoints: {folder} must hold one file *{part}*, it holds {names}"
            raise CodecFailure("missing_binary", detail)
        found[role] = files[0]
    return found


@dataclass(frozen=True)
class Family:
    """One external codec; the defaults are those of the DCVC family and its ``test_video.py``."""

    variable: str  # environment variable that names the folder
    bits: dict[str, str]  # link mode -> whether its bits are "coded" or "estimated"
    cpu_modes: tuple[str, ...]  # link modes that run without a GPU
    commands: Commands  # scripts of the checkout with their options
    driver: str = "dcvc_family.py"
    script: str = "test_video.py"  # a file that the repository must have
    rates: Sequence[int] = range(64)
    default_rates: tuple[int, ...] = (0, 21, 42, 63)
    find_checkpoints: Callable[[Checkout, int], dict[str, Path]] = _image_and_video
    multiple: int = 1  # height and width are padded to multiples of it
    needs_intra: bool = False


_PLVC_QUALITY = {256: "lo", 512: "mi", 1024: "hi"}


def _plvc_commands(mode: str, rate: int, num_frames: int | str, device: str) -> list[list[str]]:
    forward = f"{num_frames}-1" if isinstance(num_frames, str) else num_frames - 1
    shared = (
        f"--path {{frames}} --frame {num_frames} --f_P {forward} --b_P 0 --mode PSNR --l {rate}"
    )
    coding = int(mode == BIT_EXACT)
    return [
        shlex.split(f"Recurrent_AutoEncoder.py {shared} --metric PSNR"),
        shlex.split(f"Recurrent_Prob_Model.py {shared} --entropy_coding {coding}"),
    ]


def _plvc_checkpoints(checkout: Checkout, rate: int) -> dict[str, Path]:
    """PLVC's autoencoder, and RLVC's recurrent probability models, which PLVC goes on using."""
    folder = checkout.checkpoints
    places = (folder, folder / "PLVC_model", folder / "model", checkout.root / "model")
    names = {
        "rae": f"RAE_GAN_{_PLVC_QUALITY[rate]}",
        "mv": f"RPM_PSNR_{rate}_mv",
        "res": f"RPM_PSNR_{rate}_res",
    }
    found = {}
    for role, name in names.items():
        held = [p / name for p in places if (p / name / "model.ckpt.index").is_file()]
        if not held:
            detail = f"checkpoints: no {name}/model.ckpt.* in {' or '.join(map(str, places))}"
            raise CodecFailure("missing_binary", detail)
        found[role] = held[0]
    return found


FAMILIES = {
    "dcvc-rt": Family(
        variable="PVSC_LINK_DCVC_RT",
        bits={BIT_EXACT: "coded", RATE_ONLY: "coded"},
        cpu_modes=(BIT_EXACT, RATE_ONLY),
        commands=_test_video(
            "--qp_i {rate} --qp_p {rate}",
            # A bitstream is written in either mode: the script refuses to run without.
            "--force_zero_thres 0.12 --reset_interval 64 --check_existing 0 --write_stream 1",
        ),
    ),
    "dcvc-fm": Family(
        variable="PVSC_LINK_DCVC_FM",
        bits={BIT_EXACT: "coded", RATE_ONLY: "estimated"},
        cpu_modes=(BIT_EXACT, RATE_ONLY),
        commands=_test_video(
            "--q_indexes_i {rate} --q_indexes_p {rate}", "--write_stream {stream}"
        ),
    ),
    "dcvc-uf": Family(
        variable="PVSC_LINK_DCVC_UF",
        bits={BIT_EXACT: "coded"},
        cpu_modes=(),
        commands=_uf_commands,
        find_checkpoints=functools.partial(_image_and_video, video="video_ld"),
    ),
    "glc-video": Family(
        variable="PVSC_LINK_GLC_VIDEO",
        bits={RATE_ONLY: "estimated"},
        cpu_modes=(RATE_ONLY,),
        commands=_test_video("--q_indexes_i {rate} --q_indexes_p {rate}", ""),
    ),
    "plvc": Family(
        variable="PVSC_LINK_PLVC",
        driver="plvc.py",
        script="Recurrent_AutoEncoder.py",
        rates=tuple(_PLVC_QUALITY),
        default_rates=tuple(_PLVC_QUALITY),
        bits={BIT_EXACT: "coded", RATE_ONLY: "estimated"},
        cpu_modes=(BIT_EXACT, RATE_ONLY),
        commands=_plvc_commands,
        find_checkpoints=_plvc_checkpoints,
        multiple=16,
        needs_intra=True,
    ),
}
