"""Writes clip_goldens.json: values of the made-up clips by the official implementations.

In an environment of its own (``pip install torch torchvision lpips pytorch-msssim scikit-image``,
here 2.14.1, 0.29.1, 0.1.4, 1.0.0 and 0.26.0), with the VGG16 that
``pvsc_link.metrics.vgg_weights`` keeps in its cache and the FFmpeg of imageio-ffmpeg 0.8.1:

    python tests/metrics/official_clip_values.py ~/.cache/pvsc_link/vgg16_lpips.npz /path/to/ffmpeg

Nothing of the package is used: colours are converted by the formulas of BT.709 that stand here,
FFmpeg reads y4m files and is called once per filter. PSNR is that of scikit-image, LPIPS that of
the package lpips.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import lpips
import numpy as np
import pytorch_msssim
import skimage
import torch
import torchvision
from made_up_pairs import digest, made_up_clips
from official_values import official_vgg16
from skimage.metrics import peak_signal_noise_ratio, structural_similarity


def planes_420(frame):
    """BT.709-6 items 3.2 to 3.5 in 8 bits; chroma is the mean of 2x2; odd edges are repeated."""
    height, width = frame.shape[:2]
    frame = np.pad(frame, [(0, height % 2), (0, width % 2), (0, 0)], mode="edge") / 255.0
    luma = frame @ [0.2126, 0.7152, 0.0722]
    blue, red = (frame[..., 2] - luma) / 1.8556, (frame[..., 0] - luma) / 1.5748
    full = [np.rint(16 + 219 * luma), np.rint(128 + 224 * blue), np.rint(128 + 224 * red)]
    halved = [
        np.rint((c[::2, ::2] + c[1::2, ::2] + c[::2, 1::2] + c[1::2, 1::2]) / 4) for c in full[1:]
    ]
    return [plane.astype(np.uint8) for plane in (full[0], *halved)]


def write_y4m(path, clip):
    planes = [planes_420(frame) for frame in clip]
    height, width = planes[0][0].shape
    with open(path, "wb") as file:
        file.write(f"YUV4MPEG2 W{width} H{height} F25:1 Ip A1:1 C420jpeg\n".encode())
        for frame in planes:
            file.write(b"FRAME\n" + b"".join(plane.tobytes() for plane in frame))


def psnr_yuv(clip, clip_hat):
    values = []
    for frame, frame_hat in zip(clip, clip_hat, strict=True):
        pairs = list(zip(planes_420(frame), planes_420(frame_hat), strict=True))
        y, u, v = (
            100.0 if np.array_equal(a, b) else peak_signal_noise_ratio(a, b, data_range=255)
            for a, b in pairs
        )
        values.append((6 * y + u + v) / 8)
    return values


def ssim(clip, clip_hat):
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(clip / 255.0, clip_hat / 255.0, strict=True)
    return [
        structural_similarity(a, b, data_range=1.0, channel_axis=-1, **options) for a, b in pairs
    ]


def as_tensor(clip):
    return torch.from_numpy(clip.transpose(0, 3, 1, 2) / 255.0)


def ms_ssim(clip, clip_hat):
    """With the window in double precision; the package's own is rounded (5e-6 in the result)."""
    taps = torch.exp(-((torch.arange(11, dtype=torch.float64) - 5) ** 2) / (2 * 1.5**2))
    window = (taps / taps.sum()).repeat(3, 1, 1, 1)
    tensors = as_tensor(clip), as_tensor(clip_hat)
    values = pytorch_msssim.ms_ssim(*tensors, data_range=1.0, size_average=False, win=window)
    return values.tolist()


def tlp(distance, clip, clip_hat):
    """|LP(b_{t-1}, b_t) - LP(g_{t-1}, g_t)| as in TecoGAN's metrics.py, without crop and 100."""
    steps = []
    for frames in (as_tensor(clip), as_tensor(clip_hat)):
        with torch.no_grad():
            steps.append(distance(frames[:-1], frames[1:], normalize=True).flatten().numpy())
    return np.abs(steps[1] - steps[0]).tolist()


def by_filter(ffmpeg, clip, clip_hat):
    """VMAF, VMAF NEG and XPSNR of luma per frame."""
    values = {}
    with tempfile.TemporaryDirectory() as folder:
        write_y4m(Path(folder, "ref.y4m"), clip)
        write_y4m(Path(folder, "dist.y4m"), clip_hat)

        def run(first, second, graph):
            command = [ffmpeg, "-v", "error", "-i", first, "-i", second, "-lavfi", graph]
            subprocess.run([*command, "-f", "null", "-"], cwd=folder, check=True)

        for name, model in (("vmaf", "vmaf_v0.6.1"), ("vmaf_neg", "vmaf_v0.6.1neg")):
            run("dist.y4m", "ref.y4m", f"libvmaf=model=version={model}:log_fmt=csv:log_path=log")
            header, *lines = Path(folder, "log").read_text().splitlines()
            column = header.split(",").index("vmaf")
            values[name] = [float(line.split(",")[column]) for line in lines]
        run("ref.y4m", "dist.y4m", "xpsnr=stats_file=log")
        found = re.findall(r"XPSNR y: (\S+)", Path(folder, "log").read_text())
        values["xpsnr"] = [min(float(value), 100.0) for value in found]
    return values


def main(vgg16, ffmpeg):
    network = official_vgg16(vgg16)
    torchvision.models.vgg16 = lambda *_, **__: network
    distance = lpips.LPIPS(net="vgg", verbose=False).double()
    values = {}
    for name, (clip, clip_hat) in made_up_clips().items():
        values[name] = {
            "pixels": digest((clip, clip_hat)),
            "psnr_yuv": psnr_yuv(clip, clip_hat),
            "ssim": ssim(clip, clip_hat),
            "ms_ssim": ms_ssim(clip, clip_hat),
            "tlp": tlp(distance, clip, clip_hat),
            **by_filter(ffmpeg, clip, clip_hat),
        }
    version = subprocess.run([ffmpeg, "-version"], capture_output=True, text=True).stdout.split()[2]
    source = (
        f"scikit-image {skimage.__version__}, pytorch-msssim 1.0.0, lpips 0.1.4 (net=vgg) in "
        f"float64, torch {torch.__version__.split('+')[0]}, FFmpeg {version}; "
        f"by official_clip_values.py"
    )
    text = json.dumps({"source": source, "ffmpeg": version, "clips": values}, indent=1) + "\n"
    (Path(__file__).parent / "clip_goldens.json").write_text(text)


if __name__ == "__main__":
    main(*sys.argv[1:])
