"""An I-frame codec as a user would state it: hific.py QUALITY IMAGE BITSTREAM DECODED."""

import sys

import fake_codec
from PIL import Image

quality, source, bitstream, decoded = sys.argv[1:]
step = 4096 // {"lo": 256, "mi": 512, "hi": 1024}[quality]
with Image.open(source) as image:
    fake_codec.posterised(image, step).save(decoded)
with open(bitstream, "wb") as file:
    file.write(fake_codec.frame_bytes(1, step))
