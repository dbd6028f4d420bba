"""Writes made_up_goldens.json: LPIPS and DISTS of the made-up pairs by the official code.

In an environment of its own (``pip install torch torchvision lpips DISTS_pytorch``, here 2.14.1,
0.29.1, 0.1.4 and 0.1), with the VGG16 that ``pvsc_link.metrics.vgg_weights`` keeps in its cache:

    python tests/metrics/official_values.py ~/.cache/pvsc_link/vgg16_lpips.npz

The linear layers of LPIPS and alpha and beta of DISTS are those inside the two packages.
"""

import json
import sys
from pathlib import Path

import lpips
import numpy as np
import torch
import torchvision
from DISTS_pytorch import DISTS
from made_up_pairs import digest, made_up_pairs


def official_vgg16(path):
    """torchvision's VGG16 with the kept convolutions; its classifier is never run."""
    kept, network = np.load(path), torchvision.models.vgg16(weights=None)
    convolutions = [m for m in network.features if isinstance(m, torch.nn.Conv2d)]
    for i, convolution in enumerate(convolutions):
        kernel = np.ascontiguousarray(kept[f"kernel_{i}"].transpose(3, 2, 0, 1))
        convolution.weight.data = torch.from_numpy(kernel)
        convolution.bias.data = torch.from_numpy(kept[f"bias_{i}"])
    return network


def main(path):
    network = official_vgg16(path)
    torchvision.models.vgg16 = lambda *_, **__: network  # both packages would fetch it
    measures = {
        "lpips": lpips.LPIPS(net="vgg", verbose=False).double(),
        "dists": DISTS().double(),
    }
    values = {}
    for name, pair in made_up_pairs().items():
        x, y = (torch.from_numpy(p.transpose(2, 0, 1)[None] / 255.0) for p in pair)
        with torch.no_grad():
            values[name] = {
                "pixels": digest(pair),
                "lpips": measures["lpips"](x, y, normalize=True).item(),
                "dists": measures["dists"](x, y).item(),
            }
    source = (
        f"lpips 0.1.4 (net=vgg, normalize=True) and DISTS_pytorch 0.1 in float64, "
        f"torch {torch.__version__.split('+')[0]}, VGG16 of torchvision IMAGENET1K_V1; "
        f"by official_values.py"
    )
    text = json.dumps({"source": source, "pairs": values}, indent=1) + "\n"
    (Path(__file__).parent / "made_up_goldens.json").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1])
