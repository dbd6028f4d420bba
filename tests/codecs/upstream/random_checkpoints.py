"""Checkpoints with random weights of a codec's own networks, in its own Python and checkout.

Usage: random_checkpoints.py FOLDER CODEC. Writes one ``*image*`` and one ``*video*`` file, in the
form that ``test_video.py`` of the checkout loads. Scales of the encoders are ones before training,
for every rate alike; a ramp stands in for them, or all rates would have the same bitstream.
"""

import importlib
import os
import sys

import torch

_DCVC = {"image": ("image_model", "DMCI"), "video": ("video_model", "DMC")}
NETWORKS = {
    "dcvc-rt": _DCVC,
    "dcvc-fm": _DCVC,
    "dcvc-uf": {"image": ("image_model", "DMCI"), "video_ld": ("video_model_ld", "DMC")},
    "glc-video": {"image": ("image_model", "GLC_Image"), "video": ("video_model", "GLC_Video")},
}


def is_scale_of_rates(name):
    """``q_scale_enc``, ``mv_y_q_enc``, ``q_encoder`` and the like: one row for each rate."""
    return "q_" in name and "enc" in name and "." not in name


def main():
    folder, codec = sys.argv[1:]
    sys.path.insert(0, ".")
    torch.manual_seed(1)
    for role, (module, name) in NETWORKS[codec].items():
        network = getattr(importlib.import_module("src.models." + module), name)()
        state = network.state_dict()
        for key in filter(is_scale_of_rates, state):
            ramp = torch.linspace(1.0, 4.0, len(state[key]))
            state[key] = state[key] * ramp.reshape(-1, *[1] * (state[key].ndim - 1))
        torch.save({"state_dict": state}, os.path.join(folder, f"random_{role}.pth.tar"))


if __name__ == "__main__":
    main()
