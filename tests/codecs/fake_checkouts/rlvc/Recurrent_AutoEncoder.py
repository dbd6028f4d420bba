"""Command line and output layout of RLVC's first script: pictures and the first P frame's bits."""

import argparse
import os

import fake_codec
from PIL import Image

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in "path mode metric python_path CA_model_path".split():
    parser.add_argument("--" + name)
for name in "frame f_P b_P l".split():
    parser.add_argument("--" + name, type=int)
args = parser.parse_args()

fake_codec.misbehave_at_start()
root = args.path + "_" + args.mode + "_" + str(args.l)
pictures, streams = root + "/frames/", root + "/bitstreams/"
os.makedirs(pictures, exist_ok=True)
os.makedirs(streams, exist_ok=True)
with Image.open(args.path + "/f001.png") as first:
    if first.width % 16 or first.height % 16:
        raise ValueError("Height and Width must be a mutiple of 16.")
with open("./model/RAE_" + args.mode + "_" + str(args.l) + "/model.ckpt.index") as file:
    assert "PLVC" in file.read()
assert args.f_P + args.b_P + 1 >= args.frame, "one I frame only"
assert args.b_P == 0
# BPG codes the I frame over whatever lies there already.
os.system(f"bpgenc -m 9 {args.path}/f001.png -o {streams}f001.bin")
os.system(f"bpgdec {streams}f001.bin -o {pictures}f001.png")
step = 4096 // args.l
for number in range(2, fake_codec.num_decoded(args.frame) + 1):
    with Image.open(f"{args.path}/f{min(number, args.frame):03d}.png") as source:
        fake_codec.posterised(source, step).save(f"{pictures}/f{number:03d}.png")
    if number == 2:
        with open(streams + "/f002.bin", "wb") as file:
            file.write(fake_codec.frame_bytes(2, step))
