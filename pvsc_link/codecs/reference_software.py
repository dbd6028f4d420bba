"""HM (H.265) and VTM (H.266) test models: streams of the package, or the user's binary.

A GOP that the package holds as a stream is looked up. Any other GOP is coded by the user's binary,
one run of the stock low-delay P configuration per GOP, so that each is closed and begins with its
parameter sets (``session_facts``). Bits per frame are read from the log and checked against the
file. libav decodes the bitstream and must give the encoder's own reconstruction.

The temporal prefilter of both configurations smooths the first frame of a GOP with up to four
source frames before it. They are passed in as ``history``, so that a GOP gets the same bits as in
the whole clip with ``--FrameSkip``; without them the bits differ by 1 to 2 %.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pvsc_link.codecs.base import Codec, check_frames, check_rate, run_program
from pvsc_link.codecs.libav import decode_frames, libav_version
from pvsc_link.codecs.precoded import PACKAGED_STREAMS, Precoded
from pvsc_link.media import (
    crop,
    decoded_frame_to_rgb,
    pad_to_multiple,
    planes_of_frame,
    rgb_to_yuv444,
    write_raw_yuv444,
)
from pvsc_link.options import check_name
from pvsc_link.types import CodecFailure, EncodedGop


@dataclass(frozen=True)
class TestModel:
    """What distinguishes the two programs."""

    __test__ = False  # no test class, whatever its name begins with

    variable: str  # environment variable: folder with bin/ and cfg/
    programs: tuple[str, ...]
    configuration: str
    stream_format: str
    extra: str  # options that only this one needs
    variant: str  # label, and version of the packaged streams
    max_qp: int


_MODELS = {
    "vtm": TestModel(
        variable="PVSC_LINK_VTM",
        programs=("EncoderAppStatic", "EncoderApp"),
        configuration="encoder_lowdelay_P_vtm.cfg",
        stream_format="vvc",
        extra="",
        variant="VTM-17.0, 4:4:4",
        max_qp=63,
    ),
    "hm": TestModel(
        variable="PVSC_LINK_HM",
        programs=("TAppEncoderStatic", "TAppEncoder"),
        configuration="encoder_lowdelay_P_main10.cfg",
        stream_format="hevc",
        extra=" --Profile=main-RExt",  # HM refuses 4:4:4 in its main profiles
        variant="HM-16.25, 4:4:4",
        max_qp=51,
    ),
}

#: Source frames before a GOP that the temporal prefilter of both configurations reads.
PREFILTER_FRAMES = 4
#: Both programs want multiples of the smallest coding unit.
_MIN_UNIT = 8
_POC_LINE = re.compile(
    r"^POC\s+(?P<poc>\d+) .*?\(\s*(?:\w+, )?(?P<slice>[IPB])-SLICE, .*?\)\s+(?P<bits>\d+) bits",
    re.MULTILINE,
)
_VERSION_LINE = re.compile(r"(?:VTM|HM) (?:software: )?Encoder Version \[?([\w.\-]+)")


class ReferenceSoftware(Codec):
    """VTM or HM, low-delay P, 10-bit 4:4:4.

    Parameters
        model : ``vtm`` or ``hm``
        binary : folder with bin/ and cfg/, whose program codes every GOP, even those of the
            package. None: the folder that the environment names serves GOPs that the package
            lacks.
        timeout_s : limit of one GOP, seconds; VTM needs seconds to minutes per frame
    """

    history_frames = PREFILTER_FRAMES

    def __init__(self, model: str, *, binary: str | None = None, timeout_s: float = 86400.0):
        check_name("reference software", model, tuple(_MODELS))
        self.name, self._model, self._timeout_s = model, _MODELS[model], timeout_s
        self.variant = self._model.variant
        self.allowed_rates = range(self._model.max_qp + 1)
        self.stream_format = self._model.stream_format
        stated = binary or os.environ.get(self._model.variable)
        self._folder = Path(stated).expanduser() if stated else None
        self._packaged = None if binary else Precoded(index=PACKAGED_STREAMS / model)

    @property
    def version(self) -> str:
        packaged = f"package: {self._packaged.version}" if self._packaged else "package not used"
        return f"{packaged}; binary: {self._binary_stamp()}, decoded by {libav_version()}"

    def _binary_stamp(self) -> str:
        """Path, size and date of the binary; its version is known only after a run."""
        try:
            program, _ = self._program()
        except CodecFailure:
            return "none"
        status = program.stat()
        return f"{program} ({status.st_size} bytes, {int(status.st_mtime)})"

    def check(self) -> None:
        """Raise ``CodecFailure`` or ``InputError`` when neither streams nor a binary can serve."""
        if self._packaged:
            self._packaged.check()
        if self._folder:
            self._program()

    def describe(self, rate: int) -> str:
        return shlex.join(self._arguments(rate, "W", "H", "FPS", "GOP"))

    def encode(
        self,
        frames: np.ndarray,
        fps: float,
        rate: int,
        *,
        clip: str = "",
        first_frame: int = 0,
        history: np.ndarray | None = None,
    ) -> EncodedGop:
        """One GOP of the package, or of the binary; see ``Codec.encode``.

        Input: ``history`` : [0 to 4, height, width, 3], uint8, source frames before the GOP.
        Raises ``CodecFailure`` ``missing_binary`` where the package has no such GOP and no binary
        is stated.
        """
        check_frames(frames)
        check_rate(self, rate)
        if self._packaged and self._packaged.find(clip, first_frame, len(frames), rate):
            return self._packaged.encode(frames, fps, rate, clip=clip, first_frame=first_frame)
        program, configuration = self._program()
        earlier = frames[:0] if history is None else history
        padded = pad_to_multiple(np.concatenate([earlier, frames]), _MIN_UNIT)
        height, width = padded.shape[1:3]
        argv = self._arguments(rate, width, height, round(fps), len(frames), skip=len(earlier))
        with tempfile.TemporaryDirectory(prefix="pvsc_link_") as folder:
            write_raw_yuv444(Path(folder) / "in.yuv", rgb_to_yuv444(padded))
            return self._run(program, configuration, Path(folder), frames, argv)

    def _program(self) -> tuple[Path, Path]:
        """Encoder and configuration file under the stated folder."""
        model = self._model
        if self._folder is None:
            detail = (
                f"the package holds {self.name} streams of its embedded clips only (GOP lengths "
                f"and QPs: see codecs/streams); set {model.variable} to a folder with "
                f"bin/{model.programs[0]} and cfg/{model.configuration}, or use scheme precoded"
            )
            raise CodecFailure("missing_binary", detail)
        programs = [p for name in model.programs for p in self._search(name)]
        configurations = self._search(model.configuration)
        if not programs or not configurations:
            absent = model.configuration if programs else " or ".join(model.programs)
            detail = f"{absent} is not under {self._folder} ({model.variable})"
            raise CodecFailure("missing_binary", detail)
        return programs[0].resolve(), configurations[0].resolve()

    def _search(self, name: str) -> list[Path]:
        folder = self._folder or Path()
        places = (folder, folder / "bin", folder / "cfg")
        return [place / name for place in places if (place / name).is_file()]

    def _arguments(self, rate: int, *size: int | str, skip: int | str = 0) -> list[str]:
        width, height, fps, gop = size
        model = self._model
        text = (
            f"{model.programs[0]} -c {model.configuration} -i in.yuv "
            f"-b out.bin -o rec.yuv -wdt {width} -hgt {height} -fr {fps} -f {gop} "
            f"--FrameSkip={skip} -q {rate} --InputBitDepth=10 --OutputBitDepth=10 "
            f"--InputChromaFormat=444 --ChromaFormatIDC=444 --IntraPeriod=-1 "
            f"--DecodingRefreshType=0 --Level=6.2"
        )
        return shlex.split(text + model.extra)

    def _run(
        self, program: Path, cfg: Path, folder: Path, frames: np.ndarray, argv: list[str]
    ) -> EncodedGop:
        real = [str(program), argv[1], str(cfg), *argv[3:]]  # the command is stated without paths
        stdout, _ = run_program(real, timeout_s=self._timeout_s, cwd=folder)
        log = stdout.decode(errors="replace")
        payload = _read(folder / "out.bin")
        sizes = poc_line_bytes(log, len(frames), len(payload))
        decoded = decode_frames(payload, sizes, self._model.stream_format)
        _check_reconstruction(decoded, folder / "rec.yuv")
        rgb = np.stack([decoded_frame_to_rgb(frame) for frame in decoded])
        match = _VERSION_LINE.search(log)
        found = match.group(1) if match else "unknown"
        wanted = self.variant.split(",")[0].split("-")[1]
        return EncodedGop(
            payload=payload,
            frame_num_bytes=sizes,
            frames_hat=np.ascontiguousarray(crop(rgb, *frames.shape[1:3])),
            command=shlex.join(argv),
            version=f"{self.name} {found if match else 'of unknown version'}, "
            f"decoded by {libav_version()}",
            note="" if found == wanted else f"encoder version {found}, not {wanted}",
        )


def _read(path: Path) -> bytes:
    if not path.exists():
        raise CodecFailure("codec_error", f"the encoder ended well but wrote no {path.name}")
    return path.read_bytes()


def poc_line_bytes(log: str, num_frames: int, num_bytes: int) -> tuple[int, ...]:
    """Bytes per frame from the encoder's POC lines (display order = coding order).

    Raises ``CodecFailure`` (codec_error) unless they are one I and then P frames in order, whole
    bytes each, that sum to the file.
    """
    lines = list(_POC_LINE.finditer(log))
    order = [int(line["poc"]) for line in lines]
    slices = "".join(line["slice"] for line in lines)
    bits = [int(line["bits"]) for line in lines]
    if order != list(range(num_frames)) or slices != "I" + "P" * (num_frames - 1):
        detail = f"log has POC {order} ({slices}), wanted {num_frames} frames of IPPP"
        raise CodecFailure("codec_error", detail)
    if sum(bits) != 8 * num_bytes or any(n % 8 for n in bits):
        detail = f"log has {sum(bits)} bits, the file {8 * num_bytes}"
        raise CodecFailure("codec_error", detail)
    return tuple(n // 8 for n in bits)


def _check_reconstruction(decoded: Sequence, reconstruction: Path) -> None:
    """The decoder must give the encoder's reconstruction bit for bit."""
    planes = b"".join(
        p.astype("<u2").tobytes() for frame in decoded for p in planes_of_frame(frame)
    )
    if planes != _read(reconstruction):
        raise CodecFailure("codec_error", "libav decodes other pictures than the encoder made")


#: The two codecs: VTM-17.0 (the paper's anchor) and HM-16.25.
vtm = partial(ReferenceSoftware, "vtm")
hm = partial(ReferenceSoftware, "hm")
