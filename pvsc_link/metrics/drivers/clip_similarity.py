"""CLIP similarity of two clips: cosine similarity of the image embeddings of each pair of frames.

Runs in the user's own Python with PyTorch and ``open_clip`` (package ``open_clip_torch``), where
pvsc_link is not installed::

    python clip_similarity.py FRAMES.npy FRAMES_HAT.npy WEIGHTS
    python clip_similarity.py --versions

The files of frames are uint8 RGB [num_frames, height, width, 3]. ``WEIGHTS`` is a file of the
network ViT-B/32 of OpenAI. The preprocessing is open_clip's own for it: bicubic to 224 pixels on
the shorter side, the square in the middle, OpenAI's mean and deviation. The last line of the output
is ``{"values": [...]}`` with a number in [-1, 1] per frame, or ``{"versions": {...}}``.
"""

import json
import sys
import zipfile

import numpy as np

#: open_clip's name of ViT-B/32 with the activation that OpenAI trained it with.
MODEL = "ViT-B-32-quickgelu"
_BATCH = 32


def load(weights, device):
    """The network, ready to be called, and the preprocessing of a PIL picture."""
    import open_clip

    # OpenAI's own file is a TorchScript archive, which torch.load refuses to read as weights only.
    model, _, preprocess = open_clip.create_model_and_transforms(
        MODEL, pretrained=weights, device=device, weights_only=not is_torchscript(weights)
    )
    return model.eval(), preprocess


def is_torchscript(path):
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def embeddings(frames, model, preprocess, device):
    """Image embeddings of length 1, [num_frames, size], float64."""
    import torch
    from PIL import Image

    found = []
    for start in range(0, len(frames), _BATCH):
        pictures = [preprocess(Image.fromarray(frame)) for frame in frames[start : start + _BATCH]]
        with torch.inference_mode():
            found.append(model.encode_image(torch.stack(pictures).to(device)).double().cpu())
    values = torch.cat(found).numpy()
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def used_device():
    """``cuda`` where PyTorch has it."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def versions():
    """What values depend on beside the weights and this file."""
    import open_clip
    import PIL
    import torch

    return {
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "pillow": PIL.__version__,
        "device": used_device(),
    }


def main(words):
    if words == ["--versions"]:
        print(json.dumps({"versions": versions()}))
        return
    frames, frames_hat = (np.load(path) for path in words[:2])
    device = used_device()
    model, preprocess = load(words[2], device)
    ours, theirs = (embeddings(clip, model, preprocess, device) for clip in (frames, frames_hat))
    print(json.dumps({"values": np.sum(ours * theirs, axis=1).tolist()}))


if __name__ == "__main__":
    main(sys.argv[1:])
