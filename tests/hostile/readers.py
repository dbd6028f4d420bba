"""Every reader of bytes that may come from anybody, each with bytes that it takes.

``READERS`` maps a name to a reader and its sound inputs. A reader gets bytes and an empty folder;
it returns or raises one of ``REFUSALS``. Anything else is a fault.
"""

import io
import json
import pickle
import struct
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from pvsc_link.codecs.external.codec import read_reply
from pvsc_link.codecs.libav import decode_rgb
from pvsc_link.codecs.precoded import PACKAGED_STREAMS, read_hashes, read_index
from pvsc_link.link.bler import BlerCache
from pvsc_link.media import read_video
from pvsc_link.metrics.vgg_weights import _from_override
from pvsc_link.models.entropy.hyper_latent import PmfTables
from pvsc_link.models.entropy.range_coder import SideInformationError, quantise_pmf
from pvsc_link.models.entropy.side_information import (
    decode_hyper_latent,
    decode_rate_map,
    encode_hyper_latent,
    encode_rate_map,
)
from pvsc_link.models.pvsc.config import PvscConfig
from pvsc_link.models.zoo import read_config
from pvsc_link.scenario.loader import SHIPPED, parse_scenario, parse_yaml
from pvsc_link.sweep.store import SweepStore
from pvsc_link.types import CodecFailure, InputError

REFUSALS = (InputError, CodecFailure, SideInformationError)
SHAPE = (2, 8, 8, 3)


@dataclass(frozen=True)
class Reader:
    read: Callable[[bytes, Path], object]
    sound: Callable[[], list[bytes]]
    is_decoder: bool = False  # of pictures or streams, which takes longer than a parser


def _scenario(data, folder):
    document = parse_yaml(data.decode("utf-8", "replace"), where="scenario")
    parse_scenario(document.data)


def _index(data, folder):
    (folder / "index.json").write_bytes(data)
    for entry in read_index(folder):
        inside = (folder / entry.file).resolve().is_relative_to(folder.resolve())
        assert inside, f"{entry.file} lies outside of the folder"


def _hashes(data, folder):
    (folder / "frames_sha256.json").write_bytes(data)
    read_hashes(folder)


def _reply(data, folder):
    for t in range(SHAPE[0]):
        Image.new("RGB", SHAPE[2:0:-1]).save(folder / f"{t}.png")
    (folder / "reply.json").write_bytes(data.replace(b"FOLDER", str(folder).encode()))
    read_reply(folder / "reply.json", SHAPE)


def _config(data, folder):
    (folder / "inter.json").write_bytes(data)
    read_config(folder / "inter.weights.h5")


def _vgg(data, folder):
    (folder / "vgg16.ckpt").write_bytes(data)
    _from_override(folder / "vgg16.ckpt")


def _store(data, folder):
    (folder / "points.sqlite").write_bytes(data)
    with closing(SweepStore(folder, version="1")) as store:
        store.finished(), store.facts(), store.heads(["status"])


def _bler(data, folder):
    condition = {"mcs": 1}
    cache_of = BlerCache(folder)
    path = cache_of._path(condition, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    for run in cache_of.runs(condition):
        assert 0 <= run.errors <= run.blocks


@cache
def _tables():
    values = np.arange(-10, 11)
    width = np.linspace(0.3, 3, 8)[:, None]
    return PmfTables(-10, quantise_pmf(np.exp(-0.5 * (values / width) ** 2)))


def _b_z(data, folder):
    z_hat, _ = decode_hyper_latent(data, (3, 3), _tables())
    assert z_hat.shape == (3, 3, 8)


def _b_k(side_format):
    def read(data, folder):
        index = decode_rate_map(data, (5, 6), 16, side_format)
        assert index.shape == (5, 6)
        assert 0 <= index.min() <= index.max() < 16

    return read


def _map():
    return np.random.default_rng(0).integers(0, 16, (5, 6))


def _video(suffix, **options):
    def read(data, folder):
        path = folder / f"clip{suffix}"
        path.write_bytes(data)
        video = read_video(path, **options)
        assert video.frames.dtype == np.uint8

    return read


def _payload(data, folder):
    decode_rgb(data, (len(data),), "h264", size=(64, 48))


def _png():
    out = io.BytesIO()
    y, x = np.mgrid[:24, :32]
    Image.fromarray(np.stack([x, y, x + y], -1).astype(np.uint8)).save(out, "PNG")
    return out.getvalue()


def _npz():
    out = io.BytesIO()
    np.savez(out, kernel_0=np.zeros((3, 3, 3, 64), np.float32), kernel_1=np.zeros(3))
    return out.getvalue()


def _y4m():
    frame = b"FRAME\n" + bytes(range(256)) * 6
    return b"YUV4MPEG2 W32 H32 F25:1 Ip A1:1 C420jpeg\n" + frame + frame


def _mp4():
    import av

    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream = container.add_stream("libx264", 25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for t in range(3):
            picture = np.full((48, 64, 3), 40 * t, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    return out.getvalue()


def _h264():
    from pvsc_link.codecs.x264_x265 import X264

    picture = np.random.default_rng(0).integers(0, 255, (1, 48, 64, 3), dtype=np.uint8)
    return X264().encode(picture, 25.0, 30).payload


def _sound_store():
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        store = SweepStore(Path(folder), version="1")
        store.add([{"point_id": str(n), "status": "ok", "psnr_db": 30.0 + n} for n in range(20)])
        store.close()
        return (Path(folder) / "points.sqlite").read_bytes()


def _sound_run():
    import tempfile

    from pvsc_link.link.bler import Run

    with tempfile.TemporaryDirectory() as folder:
        BlerCache(folder).add({"mcs": 1}, Run(1, 3, 128))
        return BlerCache(folder)._path({"mcs": 1}, 1).read_bytes()


def _json(value):
    return json.dumps(value).encode()


_REPLY = {"bits": [8, 16], "bits_are": "coded", "stream": None, "versions": {"hm": "1"}}
_REPLY["decoded"] = ["FOLDER/0.png", "FOLDER/1.png"]
READERS = {
    "scenario": Reader(
        _scenario,
        lambda: [p.read_bytes() for p in sorted(SHIPPED.glob("*.yaml")) if "train" not in p.name],
    ),
    "index of precoded streams": Reader(
        _index,
        lambda: [
            _json([asdict(entry) for entry in read_index(PACKAGED_STREAMS / "vtm")[:3]]),
            b'[{"file": "../../x"}]',
        ],
    ),
    "hashes of coded pictures": Reader(_hashes, lambda: [_json({"bikes": ["0a", "1b"]})]),
    "reply of a driver": Reader(_reply, lambda: [_json(_REPLY), _json({**_REPLY, "bits": 3})]),
    "config beside weights": Reader(_config, lambda: [_json(PvscConfig("a").to_dict())]),
    "VGG weights": Reader(
        _vgg,
        lambda: [pickle.dumps({"VGG16_0": {"Conv_0": {"kernel": np.zeros(3)}}}), _npz()],
    ),
    "results store": Reader(_store, lambda: [_sound_store()]),
    "block error record": Reader(_bler, lambda: [_sound_run()]),
    "b_z": Reader(_b_z, lambda: [encode_hyper_latent(np.zeros((3, 3, 8), np.int32), _tables())]),
    "b_k, payload": Reader(_b_k("payload"), lambda: [encode_rate_map(_map(), 16, "payload")]),
    "b_k, png": Reader(_b_k("png"), lambda: [encode_rate_map(_map(), 16, "png")]),
    "raw video": Reader(_video(".yuv", size=(16, 16)), lambda: [bytes(384), bytes(768)]),
    "picture": Reader(_video(".png"), lambda: [_png()], True),
    "y4m": Reader(_video(".y4m"), lambda: [_y4m()], True),
    "mp4": Reader(_video(".mp4"), lambda: [_mp4()], True),
    "H.264 payload": Reader(_payload, lambda: [_h264()], True),
}


def call(name, data, folder):
    """Whether the reader refused; raises for a fault."""
    length = 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            READERS[name].read(data, folder)
        except REFUSALS as refusal:
            length = len(str(refusal))
        finally:
            for path in sorted(folder.rglob("*"), reverse=True):
                path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    assert length < 5000, f"a refusal of {length} characters"
    return length > 0


def mutated(sound, rng):
    """Sound bytes with bits flipped, parts cut, doubled, or replaced by numbers that hurt."""
    data = bytearray(sound)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(0, len(data) + 1))
        kind = rng.integers(0, 6)
        if kind == 0 and place < len(data):
            data[place] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            del data[place : place + int(rng.integers(1, 40))]
        elif kind == 2:
            data[place:place] = data[place : place + int(rng.integers(1, 40))]
        elif kind == 3:
            hurting = [b"-1", b"1e999", b"null", b"[]", b"{}", b"9" * 50, b"[" * 2000, b"NaN", b'"']
            data[place : place + 3] = hurting[int(rng.integers(0, len(hurting)))]
        elif kind == 4:
            data[place : place + 4] = struct.pack(">I", int(rng.choice([0, 2**31 - 1, 2**32 - 1])))
        else:
            del data[place:]
    return bytes(data)
