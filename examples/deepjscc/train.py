"""Train the small DeepJSCC on the photographs of scikit-image; minutes on one CPU core.

python examples/deepjscc/train.py examples/deepjscc/deepjscc.pt
"""

import argparse

import numpy as np
import torch
from model import CHANNELS, Networks
from skimage import data

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket", "cat", "immunohistochemistry", "retina")


def photographs():
    """Those that are installed, as [3, height, width] in [0, 1]."""
    for name in PHOTOGRAPHS:
        try:
            picture = getattr(data, name)()
        except Exception as error:  # one that scikit-image would have to download
            print(f"without {name}: {error}")
            continue
        yield torch.from_numpy(picture[..., :3].copy()).permute(2, 0, 1) / 255


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("file", help="where the weights go")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--size", type=int, default=48, help="side of a crop")
    words = parser.parse_args()
    torch.manual_seed(1)
    torch.set_num_threads(1)
    rng, pictures = np.random.default_rng(1), list(photographs())
    networks = Networks()
    optimiser = torch.optim.Adam(networks.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, words.steps)
    for step in range(words.steps):
        crops = []
        for _ in range(8):
            picture = pictures[rng.integers(len(pictures))]
            y, x = (rng.integers(side - words.size) for side in picture.shape[1:])
            crops.append(picture[:, y : y + words.size, x : x + words.size])
        batch = torch.stack(crops)
        sent = networks.send(batch, CHANNELS[rng.integers(len(CHANNELS))])
        variance = 10 ** (-rng.uniform(0, 20) / 10)  # of a complex symbol
        shown = networks.show(sent + (variance / 2) ** 0.5 * torch.randn_like(sent))
        loss = (shown - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 200 == 0:
            print(f"step {step}, PSNR {-10 * np.log10(loss.item()):.2f} dB", flush=True)
    torch.save(networks.state_dict(), words.file)


if __name__ == "__main__":
    main()
