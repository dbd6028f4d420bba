"""What every codec of the registry owes the link, whatever it is (external ones: own file)."""

import inspect
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from pvsc_link.codecs.base import Codec, CodecFailure
from pvsc_link.codecs.cache import cached_encode
from pvsc_link.codecs.external.families import FAMILIES
from pvsc_link.codecs.precoded import PACKAGED_STREAMS
from pvsc_link.codecs.registry import CODECS
from pvsc_link.media.clips import load_clip
from pvsc_link.types import EncodedGop, InputError

#: Options that a codec cannot do without.
NEEDED = {"precoded": {"index": PACKAGED_STREAMS / "hm"}}
QP = 37
#: Learned codecs count their rates otherwise, and would run the checkouts of this machine.
OWN = [name for name in CODECS if name not in {*FAMILIES, "lvc"}]


def build(name):
    codec = CODECS[name](**NEEDED.get(name, {}))
    try:
        codec.check()
    except CodecFailure as failure:
        pytest.skip(failure.detail)
    return codec


@pytest.fixture(scope="module")
def gop_of_bikes():
    return load_clip("bikes", 4, 4)


@pytest.fixture(scope="module", params=OWN)
def coded(request, gop_of_bikes):
    codec = build(request.param)
    return codec, encode(codec, gop_of_bikes)


def encode(codec, video):
    return codec.encode(video.frames, video.fps, QP, clip=video.name, first_frame=video.first_frame)


def test_a_gop_is_bytes_per_frame_and_a_reconstruction_of_the_same_size(coded, gop_of_bikes):
    _, gop = coded
    assert isinstance(gop, EncodedGop)
    assert len(gop.frame_num_bytes) == len(gop_of_bikes.frames)
    assert min(gop.frame_num_bytes) > 0
    assert sum(gop.frame_num_bytes) == len(gop.payload) == gop.num_bits // 8
    assert gop.frames_hat.shape == gop_of_bikes.frames.shape
    assert gop.frames_hat.dtype == np.uint8
    assert gop.note == ""


def test_a_video_at_qp_37_has_a_plausible_quality_and_size(coded, gop_of_bikes):
    """A wrong matrix, range or frame order would cost several dB."""
    _, gop = coded
    error = (gop.frames_hat.astype(float) - gop_of_bikes.frames) ** 2
    psnr_db = 10 * np.log10(255**2 / error.mean((1, 2, 3)))
    assert psnr_db.min() > 32
    assert 0.005 < gop.num_bits / gop_of_bikes.frames[..., 0].size < 0.1
    for t in range(1, 4):
        shifted = np.mean((gop.frames_hat[t].astype(float) - gop_of_bikes.frames[t - 1]) ** 2)
        assert error[t].mean() < shifted


def test_colours_have_no_offset(coded, gop_of_bikes):
    _, gop = coded
    offset = (gop.frames_hat.astype(float) - gop_of_bikes.frames).mean((0, 1, 2))
    assert np.abs(offset).max() < 1.0


def test_encoding_twice_gives_the_same_bytes(coded, gop_of_bikes):
    codec, gop = coded
    again = encode(codec, gop_of_bikes)
    assert again.payload == gop.payload
    assert np.array_equal(again.frames_hat, gop.frames_hat)


def test_threads_that_encode_at_a_time_do_not_disturb_each_other(coded, gop_of_bikes):
    codec, gop = coded
    with ThreadPoolExecutor(3) as pool:
        jobs = [pool.submit(encode, codec, gop_of_bikes) for _ in range(3)]
    assert {job.result().payload for job in jobs} == {gop.payload}


def test_command_and_versions_are_stated(coded):
    codec, gop = coded
    assert str(QP) in codec.describe(QP) or str(QP + 12) in codec.describe(QP)
    assert gop.command
    assert any(character.isdigit() for character in gop.version)
    assert any(character.isdigit() for character in codec.version)
    assert codec.variant or codec.name == "avif", "AVIF has one variant, without a name"


def test_the_store_returns_the_same_gop(coded, gop_of_bikes, tmp_path, monkeypatch):
    codec, gop = coded
    video = gop_of_bikes
    where = {"clip": video.name, "first_frame": video.first_frame, "folder": tmp_path}
    cached_encode(codec, video.frames, video.fps, QP, **where)
    monkeypatch.setattr(type(codec), "encode", None)
    kept = cached_encode(codec, video.frames, video.fps, QP, **where)
    assert kept.payload == gop.payload
    assert np.array_equal(kept.frames_hat, gop.frames_hat)


def test_a_rate_it_does_not_have_is_never_coded(coded, gop_of_bikes):
    codec, _ = coded
    rate = max(codec.allowed_rates) + 1
    assert QP in codec.allowed_rates
    with pytest.raises((InputError, CodecFailure), match=str(rate)):
        codec.encode(gop_of_bikes.frames, 25.0, rate, clip="bikes", first_frame=4)


@pytest.mark.parametrize("name", OWN)
def test_the_registry_names_codecs_by_their_own_name(name):
    assert build(name).name == name


@pytest.mark.parametrize("member", ["describe", "check", "encode"])
@pytest.mark.parametrize("name", OWN)
def test_signatures_follow_the_contract(name, member):
    own = list(inspect.signature(getattr(type(build(name)), member)).parameters)
    assert own[: len(inspect.signature(getattr(Codec, member)).parameters)] == list(
        inspect.signature(getattr(Codec, member)).parameters
    )


def test_the_rooms_stay_light():
    heavy = "tensorflow keras sionna torch jax matplotlib skvideo".split()
    code = (
        "import sys, pvsc_link.media.clips as clips\n"
        "from pvsc_link.codecs import external, precoded, reference_software, vvenc, x264_x265\n"
        "import pvsc_link.codecs.registry, pvsc_link.codecs.external.codec\n"
        "clips.load_clip('carphone', 0, 1)\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
