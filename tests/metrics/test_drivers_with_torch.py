"""CLIP similarity and FVD with real networks, randomly initialised, against calling them directly.

Needs PyTorch, and for CLIP open_clip, and nothing of pvsc_link: in a Python that has them run
``python -m pytest --noconftest -o addopts= tests/metrics/test_drivers_with_torch.py``.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
DRIVERS = Path(__file__).parents[2] / "pvsc_link" / "metrics" / "drivers"


def answer(name, folder, frames, frames_hat, weights):
    """What the driver prints for a pair of clips."""
    for file, clip in (("frames", frames), ("frames_hat", frames_hat)):
        np.save(folder / f"{file}.npy", clip)
    paths = [folder / "frames.npy", folder / "frames_hat.npy", weights]
    return asked(name, *paths)


def asked(name, *words):
    command = [sys.executable, DRIVERS / f"{name}.py", *words]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def clips(num_frames, height=40, width=56):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (num_frames, height, width, 3), np.uint8)
    noisy = frames.astype(int) + rng.integers(-60, 61, frames.shape)
    return frames, np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def clip_network():
    """ViT-B/32 with random weights, and its preprocessing."""
    open_clip = pytest.importorskip("open_clip")
    torch.manual_seed(0)
    model, _, preprocess = open_clip.create_model_and_transforms("ViT-B-32-quickgelu")
    return model.eval(), preprocess


@pytest.mark.parametrize("form", ["state dict", "safetensors", "TorchScript"])
def test_clip_similarity_is_the_cosine_of_open_clips_embeddings(form, clip_network, tmp_path):
    from PIL import Image

    model, preprocess = clip_network
    frames, frames_hat = clips(3)
    weights = tmp_path / ("net.safetensors" if form == "safetensors" else "net.pt")
    if form == "state dict":
        torch.save(model.state_dict(), weights)
    elif form == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(model.state_dict(), str(weights))
    else:
        torch.jit.save(torch.jit.script(Holder(model.state_dict())), str(weights))
    values = answer("clip_similarity", tmp_path, frames, frames_hat, weights)["values"]
    expected = []
    for pair in zip(frames, frames_hat, strict=True):
        pictures = torch.stack([preprocess(Image.fromarray(frame)) for frame in pair])
        with torch.no_grad():
            a, b = model.encode_image(pictures)
        expected.append(torch.nn.functional.cosine_similarity(a, b, dim=0).item())
    np.testing.assert_allclose(values, expected, atol=1e-5)
    assert len(set(np.round(values, 6))) == 3


class Holder(torch.nn.Module):
    """Parameters under the names of a state dict, to be written as a TorchScript archive."""

    def __init__(self, state):
        super().__init__()
        for name, value in state.items():
            *folders, last = name.split(".")
            place = self
            for folder in folders:
                if not hasattr(place, folder):
                    place.add_module(folder, torch.nn.Module())
                place = getattr(place, folder)
            place.register_buffer(last, value)

    def forward(self, x: torch.Tensor):
        return x


class SmallI3d(torch.nn.Module):
    """Called as I3D of StyleGAN-V is: two convolutions in space and time with random weights."""

    def __init__(self, num_features: int = 24):
        super().__init__()
        self.first = torch.nn.Conv3d(3, 8, 5, stride=(2, 8, 8))
        self.second = torch.nn.Conv3d(8, num_features, 3, stride=2)

    def forward(
        self,
        x: torch.Tensor,
        rescale: bool = False,
        resize: bool = False,
        return_features: bool = False,
    ):
        if resize:
            size = [x.shape[2], 224, 224]
            x = torch.nn.functional.interpolate(x, size, mode="trilinear", align_corners=False)
        if rescale:
            x = x / 127.5 - 1
        x = self.second(torch.relu(self.first(x))).mean(dim=(2, 3, 4))
        return x if return_features else torch.softmax(x, dim=1)


def test_fvd_is_the_official_formula_on_the_features_of_the_windows(tmp_path):
    sqrtm = pytest.importorskip("scipy.linalg").sqrtm
    torch.manual_seed(0)
    i3d = torch.jit.script(SmallI3d()).eval()
    torch.jit.save(i3d, str(tmp_path / "i3d.pt"))
    frames, frames_hat = clips(16 + 8 * 30)
    value = answer("fvd", tmp_path, frames, frames_hat, tmp_path / "i3d.pt")["value"]

    def features(clip):
        starts = range(0, len(clip) - 15, 8)
        videos = torch.from_numpy(np.stack([clip[s : s + 16] for s in starts]))
        with torch.no_grad():
            x = videos.permute(0, 4, 1, 2, 3).float()
            return i3d(x, rescale=True, resize=True, return_features=True).double().numpy()

    a, b = features(frames), features(frames_hat)
    assert a.shape == (31, 24)
    c, c_hat = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = sqrtm(c @ c_hat)
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(c + c_hat - 2 * np.real(root))
    assert value == pytest.approx(expected, rel=1e-4)
    assert value > 0
    same = answer("fvd", tmp_path, frames[:40], frames[:40], tmp_path / "i3d.pt")["value"]
    assert same == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", ["clip_similarity", "fvd"])
def test_the_driver_reports_its_versions(name):
    if name == "clip_similarity":
        pytest.importorskip("open_clip")
    versions = asked(name, "--versions")["versions"]
    assert versions["torch"] == torch.__version__
    assert versions["device"] in ("cpu", "cuda")


def test_the_drivers_are_imported_without_torch():
    code = f"import sys; sys.path.insert(0, {str(DRIVERS)!r}); import fvd, clip_similarity; "
    code += "print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
