"""Equal work is done once; anything that could change the bits is part of the key."""

import json
import os
import shutil
import warnings
from dataclasses import fields

import numpy as np
import pytest

from pvsc_link.codecs.base import Codec, CodecFailure
from pvsc_link.codecs.cache import cache_folder, cached_encode
from pvsc_link.codecs.x264_x265 import X264
from pvsc_link.storage import json_digest
from pvsc_link.types import EncodedGop

FRAMES = np.random.default_rng(0).integers(0, 256, (2, 8, 8, 3), dtype=np.uint8)


class CountingCodec(Codec):
    """Counts how often it really encodes."""

    name, variant, version = "counting", "plain", "1"
    allowed_rates = range(52)

    def __init__(self, **changed):
        self.calls = 0
        self.__dict__.update(changed)

    def describe(self, rate):
        return f"-qp {rate}"

    def check(self):
        pass

    def encode(self, frames, fps, rate, *, clip="", first_frame=0):
        self.calls += 1
        payload = bytes([rate, self.calls, 7])
        return EncodedGop(payload, (2, 1), frames // 2, self.describe(rate), "v1", note="said")


def entries(folder):
    return sorted(folder.rglob("*.npz"))


def test_the_second_request_is_answered_from_the_store(tmp_path):
    codec = CountingCodec()
    first, second = (cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path) for _ in range(2))
    assert codec.calls == 1
    for field in fields(EncodedGop):
        left, right = getattr(first, field.name), getattr(second, field.name)
        assert np.array_equal(left, right), field.name
    assert second.frames_hat.dtype == np.uint8


@pytest.mark.parametrize(
    "change",
    [
        {"rate": 33}, {"fps": 30.0}, {"frames": FRAMES[:, ::-1]}, {"first_frame": 2},
        {"clip": "bikes"}, {"frames": FRAMES.reshape(2, 4, 16, 3)},
        {"codec": {"version": "2"}}, {"codec": {"variant": "other"}}, {"codec": {"name": "other"}},
    ],
)  # fmt: skip
def test_whatever_could_change_the_bits_is_encoded_anew(change, tmp_path):
    cached_encode(CountingCodec(), FRAMES, 25.0, 32, folder=tmp_path)
    codec = CountingCodec(**change.pop("codec", {}))
    request = {"frames": FRAMES, "fps": 25.0, "rate": 32} | change
    cached_encode(codec, **request, folder=tmp_path)
    assert codec.calls == 1
    assert len(entries(tmp_path)) == 2


class LookingBack(CountingCodec):
    """Its bits depend on the two frames before the GOP."""

    history_frames = 2

    def encode(self, frames, fps, rate, *, history, **place):
        return super().encode(frames, fps, rate, **place)


def test_frames_before_the_gop_that_a_codec_looks_at_are_a_part_of_the_key(tmp_path):
    codec, before = LookingBack(), np.zeros((3, 8, 8, 3), np.uint8)
    for changed, calls in ((None, 1), (0, 1), (1, 2), (2, 3), (None, 3)):
        history = before.copy()
        if changed is not None:
            history[changed, 0, 0, 0] = 1
        cached_encode(codec, FRAMES, 25.0, 32, history=history, folder=tmp_path)
        assert codec.calls == calls, changed
    cached_encode(codec, FRAMES, 25.0, 32, history=before[1:2], folder=tmp_path)
    assert codec.calls == 4, "one frame is known, not two"


@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.95])
def test_a_damaged_entry_is_encoded_again_with_a_warning(keep, tmp_path):
    codec = CountingCodec()
    cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    (path,) = entries(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data)) if keep < 1 else keep])
    with pytest.warns(UserWarning, match="encoded again"):
        cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    assert codec.calls == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    assert codec.calls == 2


@pytest.mark.parametrize("part", np.linspace(0.05, 0.6, 12))
def test_a_flipped_byte_is_noticed_or_harmless(part, tmp_path):
    codec = CountingCodec()
    cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    (path,) = entries(tmp_path)
    data = bytearray(path.read_bytes())
    data[int(part * len(data))] ^= 255
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gop = cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    assert gop.payload[0] == 32
    assert np.array_equal(gop.frames_hat, FRAMES // 2)


def test_no_partial_file_is_left_behind(tmp_path):
    cached_encode(CountingCodec(), FRAMES, 25.0, 32, folder=tmp_path)
    assert [path.suffix for path in tmp_path.rglob("*") if path.is_file()] == [".npz"]


def test_a_failure_is_raised_and_not_stored(tmp_path):
    class Failing(CountingCodec):
        def encode(self, *args, **kwargs):
            raise CodecFailure("codec_error", "on purpose")

    with pytest.raises(CodecFailure):
        cached_encode(Failing(), FRAMES, 25.0, 32, folder=tmp_path)
    assert not entries(tmp_path)


def test_a_folder_that_cannot_be_written_costs_a_warning_only(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.warns(UserWarning, match="not cached"):
        gop = cached_encode(CountingCodec(), FRAMES, 25.0, 32, folder=blocked / "store")
    assert len(gop.payload) == 3


def test_the_environment_moves_the_store(monkeypatch, tmp_path):
    monkeypatch.setenv("PVSC_LINK_CACHE", str(tmp_path))
    assert cache_folder() == tmp_path / "encodes"
    monkeypatch.delenv("PVSC_LINK_CACHE")
    assert cache_folder().parts[-3:] == (".cache", "pvsc_link", "encodes")
    assert os.fspath(cache_folder()).startswith(os.path.expanduser("~"))


def two_entries(folder):
    """Valid entries of two rates; the path of each by its rate."""
    paths = {}
    for rate in (32, 40):
        before = set(entries(folder))
        cached_encode(CountingCodec(), FRAMES, 25.0, rate, folder=folder)
        (paths[rate],) = set(entries(folder)) - before
    return paths


def test_an_entry_in_the_place_of_another_is_encoded_again(tmp_path):
    paths = two_entries(tmp_path)
    shutil.copy(paths[40], paths[32])
    codec = CountingCodec()
    with pytest.warns(UserWarning, match="of another clip, rate or codec is encoded again"):
        gop = cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    assert (codec.calls, gop.payload[0]) == (1, 32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path).payload[0] == 32
    assert codec.calls == 1


def rewritten(path, **changes):
    """Write an entry again with other fields (None: without the field)."""
    with np.load(path) as entry:
        fields = dict(entry) | changes
    np.savez_compressed(
        path, **{name: value for name, value in fields.items() if value is not None}
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"key": None, "checksum": None}, "of an earlier version"),
        ({"frames_hat": FRAMES}, "does not match its checksum"),
        ({"note": np.asarray("other")}, "does not match its checksum"),
        ({"checksum": None}, "does not match its checksum"),
        ({"frame_num_bytes": np.asarray([1, 2])}, "does not match its checksum"),
    ],
)
def test_an_entry_that_cannot_be_verified_is_encoded_again(changes, said, tmp_path):
    path = two_entries(tmp_path)[32]
    rewritten(path, **changes)
    codec = CountingCodec()
    with pytest.warns(UserWarning, match=f"{said}.* is encoded again"):
        gop = cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    assert codec.calls == 1
    assert np.array_equal(gop.frames_hat, FRAMES // 2)


def test_two_codecs_of_one_name_share_no_entry(tmp_path):
    class Namesake(CountingCodec):
        pass

    cached_encode(CountingCodec(), FRAMES, 25.0, 32, folder=tmp_path)
    codec = Namesake()
    cached_encode(codec, FRAMES, 25.0, 32, folder=tmp_path)
    assert codec.calls == 1


def test_the_key_of_a_codec_of_the_package_is_what_it_was(tmp_path):
    """Entries of built-in codecs lie where they lay, so that another key finds nothing there."""
    codec = X264(preset="ultrafast")
    cached_encode(codec, FRAMES.repeat(8, 1).repeat(8, 2), 25.0, 32, folder=tmp_path)
    (path,) = entries(tmp_path)
    with np.load(path) as entry:
        stated = json.loads(str(entry["key"]))
    assert path.stem == json_digest(stated)
    assert set(stated) == {
        *("layout", "codec", "variant", "version", "options", "rate", "fps", "shape", "frames"),
        *("clip", "first_frame"),
    }
