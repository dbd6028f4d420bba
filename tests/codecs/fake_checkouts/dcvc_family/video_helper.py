"""Codes one sequence at one rate and leaves what the real ones leave, under the same names."""

import json
import os

import fake_codec
import numpy as np
from PIL import Image

with open(os.path.join(fake_codec.HERE, "family")) as family_file:
    FAMILY = family_file.read()


def ycbcr444_to_rgb(y, uv):
    return np.concatenate((y, uv), axis=0)


def get_distortion(image):
    """Converts every decoded frame once, whether it is saved or not."""
    planes = np.asarray(image, np.float32).transpose(2, 0, 1) / 255
    return ycbcr444_to_rgb(planes[:1], planes[1:])


def worker(args):
    fake_codec.misbehave_at_start()
    rate = int(args.get("qp_i") or args["q_indexes_i"])
    num_frames = int(args["force_frame_num"])
    streaming = args.get("write_stream") == "1" or FAMILY == "dcvc-uf"
    assert streaming or FAMILY != "dcvc-rt"
    folder = os.path.join(args["stream_path"], args["dataset"])
    stem = os.path.join(folder, f"{args['sequence']}_q{rate}")
    pictures = stem if FAMILY == "glc-video" else folder  # DCVC: one folder for every rate
    saving = args["save_decoded_frame"] == "1" and (streaming or FAMILY == "glc-video")
    os.makedirs(pictures if saving or streaming else args["stream_path"], exist_ok=True)
    step = 1 + (63 - rate) // 2
    for number in range(1, fake_codec.num_decoded(num_frames) + 1):
        source = read_frame(args, min(number, num_frames))
        decoded = fake_codec.posterised(source, step)
        get_distortion(decoded)
        if FAMILY == "glc-video":
            args["lpips"].forward(source, decoded).item()
            args["dists"](source, decoded).item()
        if saving:
            decoded.save(os.path.join(pictures, f"im{number:05d}.png"))
    payloads = [fake_codec.frame_bytes(n, step) for n in range(1, num_frames + 1)]
    log = log_of(payloads, args, streaming)
    if streaming:
        with open(stem + ".bin", "wb") as file:
            file.write(b"".join(payloads)[: -1 if fake_codec.told() == "short_stream" else None])
    if streaming or FAMILY == "glc-video":
        with open(stem + ".json", "w") as file:
            json.dump(log, file)
    return log


def read_frame(args, number):
    names = os.listdir(args["folder"])
    if "im1.png" not in names and "im00001.png" not in names:
        raise ValueError("unknown image naming convention; please specify")
    with Image.open(os.path.join(args["folder"], f"im{number:05d}.png")) as image:
        assert image.size == (args["width"], args["height"])
        return image.convert("RGB")


def log_of(payloads, args, streaming):
    pixels = args["width"] * args["height"]
    fraction = 0 if streaming else 0.3  # an entropy is no whole number
    bpp = [(8 * len(payload) - fraction) / pixels for payload in payloads]
    period = int(args["force_intra_period"])
    types = [0 if index % period == 0 else 1 for index in range(len(payloads))]
    if fake_codec.told() == "nan_bits":
        bpp[-1] = float("nan")
    if fake_codec.told() == "all_intra":
        types = [0] * len(payloads)
    log = {"frame_pixel_num": pixels, "ave_all_frame_bpp": sum(bpp) / len(bpp)}
    if args["verbose_json"] == "1":
        log.update(frame_type=types, frame_bpp=bpp)
    if fake_codec.told() == "missing_key":
        del log["frame_bpp"]
    return log
