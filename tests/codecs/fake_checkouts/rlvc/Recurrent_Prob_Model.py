"""Command line and output of RLVC's second script: bits of the later P frames."""

import argparse
import os

import fake_codec

parser = argparse.ArgumentParser(allow_abbrev=False)
for name in "path mode".split():
    parser.add_argument("--" + name)
for name in "frame f_P b_P l entropy_coding".split():
    parser.add_argument("--" + name, type=int)
args = parser.parse_args()

streams = args.path + "_" + args.mode + "_" + str(args.l) + "/bitstreams/"
total = os.path.getsize(streams + "f001.bin")
for part in ("mv", "res"):
    folder = "./model/RPM_" + args.mode + "_" + str(args.l) + "_" + part
    assert os.path.exists(folder + "/model.ckpt.index")
    for number in range(3, args.frame + 1):
        if fake_codec.told() == "missing_key" and number == args.frame:
            continue
        payload = fake_codec.frame_bytes(number, 4096 // args.l)
        if args.entropy_coding:
            with open(f"{streams}f{number:03d}_{part}.bin", "wb") as file:
                file.write(payload)
            bits = 8 * len(payload)
        else:
            bits = float("nan") if fake_codec.told() == "nan_bits" else 8 * len(payload) - 0.3
        print("Frame", number, part + "_bits =", bits)
print("Average bpp:", total)
