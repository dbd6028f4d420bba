"""Fréchet video distance of two clips (Unterthiner et al., 2019) over their windows of 16 frames.

Runs in the user's own Python with PyTorch, where pvsc_link is not installed::

    python fvd.py FRAMES.npy FRAMES_HAT.npy WEIGHTS
    python fvd.py --versions

The files of frames are uint8 RGB [num_frames, height, width, 3]. ``WEIGHTS`` is a TorchScript file
of I3D, trained on Kinetics-400, that is called as StyleGAN-V calls its ``i3d_torchscript.pt``:
``i3d(video, rescale=True, resize=True, return_features=True)`` takes RGB in [0, 255],
[batch, 3, 16, height, width], brings it to 224x224 and [-1, 1] itself, and gives features
[batch, size]. Windows begin at frames 0, 8, 16 and so on. The last line of the output is
``{"value": ...}``, or ``{"versions": {...}}``.
"""

import json
import sys

import numpy as np

#: Frames of a window, and frames from the start of one window to that of the next.
WINDOW, STRIDE = 16, 8
#: Two windows are the fewest with a covariance.
FEWEST_FRAMES = WINDOW + STRIDE


def windows(frames):
    """Windows of a clip, [num_windows, 16, height, width, 3]; frames after the last are dropped."""
    if len(frames) < FEWEST_FRAMES:
        raise SystemExit(
            f"FVD needs at least {FEWEST_FRAMES} frames, which are two windows of {WINDOW} frames "
            f"at a distance of {STRIDE}; this clip has {len(frames)}"
        )
    starts = range(0, len(frames) - WINDOW + 1, STRIDE)
    return np.stack([frames[start : start + WINDOW] for start in starts])


def frechet_distance(features, features_hat):
    """``|m - m'|^2 + tr(C + C' - 2 (C C')^(1/2))`` of two sets of features, [num, size] each.

    m and C are the mean and the covariance (over num - 1) of a set. With the centred sets X and X',
    divided by (num - 1)^(1/2), C is X^T X, and the trace of the root is the sum of the singular
    values of X X'^T. That is exact where covariances are singular, as they are with fewer windows
    than features, and it takes matrices of the number of windows only.
    """
    features, features_hat = (np.asarray(f, np.float64) for f in (features, features_hat))
    centred = [(f - f.mean(axis=0)) / np.sqrt(len(f) - 1) for f in (features, features_hat)]
    distance = np.sum((features.mean(axis=0) - features_hat.mean(axis=0)) ** 2)
    root = np.linalg.svd(centred[0] @ centred[1].T, compute_uv=False).sum()
    return float(max(distance + sum(np.sum(c**2) for c in centred) - 2 * root, 0.0))


def i3d_features(frames, i3d, device):
    """Features of the windows of a clip, [num_windows, size], float64; one window at a time."""
    import torch

    found = []
    for window in windows(frames):
        video = torch.from_numpy(window).to(device).float().permute(3, 0, 1, 2)[None]
        with torch.inference_mode():
            features = i3d(video, rescale=True, resize=True, return_features=True)
        found.append(features.double().cpu().numpy().reshape(-1))
    return np.stack(found)


def main(words):
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if words == ["--versions"]:
        print(json.dumps({"versions": {"torch": torch.__version__, "device": device}}))
        return
    i3d = torch.jit.load(words[2], map_location=device).eval()
    frames, frames_hat = (i3d_features(np.load(path), i3d, device) for path in words[:2])
    print(json.dumps({"value": frechet_distance(frames, frames_hat)}))


if __name__ == "__main__":
    main(sys.argv[1:])
