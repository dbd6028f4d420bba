"""What distinguishes DCVC-RT, DCVC-FM, GLC-Video and PLVC: rates, commands, checkpoints.

The commands are the literal ones of the repositories; ``{image}`` and the like stand for paths
that the driver fills in, ``GOP`` for the number of frames.
"""

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pvsc_link.codecs.checkout import Checkout
from pvsc_link.types import CodecFailure

BIT_EXACT, RATE_ONLY = "bit-exact", "rate-only"
Commands = Callable[[str, int, int | str, str], list[list[str]]]


@dataclass(frozen=True)
class Family:
    """One external codec.

    ``commands`` : (mode, rate, num_frames, device) -> scripts of the checkout with their options;
    ``find_checkpoints`` : (checkout, rate) -> role -> file or folder; ``bits`` : mode -> whether
    its bits are ``coded`` or ``estimated``; ``multiple`` : what height and width are padded to;
    ``cpu_modes`` : link modes that run without a GPU.
    """

    name: str
    variable: str
    driver: str
    script: str
    rates: Sequence[int]
    default_rates: tuple[int, ...]
    bits: dict[str, str]
    cpu_modes: tuple[str, ...]
    commands: Commands
    find_checkpoints: Callable[[Checkout, int], dict[str, Path]]
    multiple: int = 1
    needs_intra: bool = False


def _test_video(rate_options: str, more: str) -> Commands:
    """Stock script of the DCVC family: one sequence, one rate, one I frame at its beginning."""

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


def _image_and_video(checkout: Checkout, rate: int) -> dict[str, Path]:
    """The one file of the folder with ``image`` in its name and the one with ``video``."""
    folder = checkout.checkpoints
    found = {}
    for role in ("image", "video"):
        files = [p for p in sorted(folder.glob(f"*{role}*")) if p.is_file() and p.suffix != ".py"]
        if len(files) != 1:
            names = ", ".join(file.name for file in files) or "none"
            detail = f"checkpoints: {folder} must hold one file *{role}*, it holds {names}"
            raise CodecFailure("missing_binary", detail)
        found[role] = files[0]
    return found


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
        name="dcvc-rt",
        variable="PVSC_LINK_DCVC_RT",
        driver="dcvc_family.py",
        script="test_video.py",
        rates=range(64),
        default_rates=(0, 21, 42, 63),
        bits={BIT_EXACT: "coded", RATE_ONLY: "coded"},
        cpu_modes=(),
        commands=_test_video(
            "--qp_i {rate} --qp_p {rate}",
            # A bitstream is written in either mode: the script refuses to run without.
            "--force_zero_thres 0.12 --reset_interval 64 --check_existing 0 --write_stream 1",
        ),
        find_checkpoints=_image_and_video,
    ),
    "dcvc-fm": Family(
        name="dcvc-fm",
        variable="PVSC_LINK_DCVC_FM",
        driver="dcvc_family.py",
        script="test_video.py",
        rates=range(64),
        default_rates=(0, 21, 42, 63),
        bits={BIT_EXACT: "coded", RATE_ONLY: "estimated"},
        cpu_modes=(RATE_ONLY,),
        commands=_test_video(
            "--q_indexes_i {rate} --q_indexes_p {rate}", "--write_stream {stream}"
        ),
        find_checkpoints=_image_and_video,
    ),
    "glc-video": Family(
        name="glc-video",
        variable="PVSC_LINK_GLC_VIDEO",
        driver="dcvc_family.py",
        script="test_video.py",
        rates=range(64),
        default_rates=(0, 21, 42, 63),
        bits={RATE_ONLY: "estimated"},
        cpu_modes=(RATE_ONLY,),
        commands=_test_video("--q_indexes_i {rate} --q_indexes_p {rate}", ""),
        find_checkpoints=_image_and_video,
    ),
    "plvc": Family(
        name="plvc",
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
