"""The request that a driver gets and the reply that it leaves, as JSON files.

Runs in the codec's own Python, 3.6 and later, where pvsc_link is not installed.

Request: ``checkout``, ``frames`` (folder of im00001.png ...), ``num_frames``, ``width``,
``height``, ``rate``, ``device`` (``cuda`` or ``cpu``), ``mode``, ``checkpoints`` (role -> path),
``commands`` (scripts of the checkout with their options, ``{name}`` where the driver puts a path),
``intra``, ``out`` (private empty folder).
Reply: ``bits`` (one number per frame), ``bits_are`` (``coded`` or ``estimated``), ``stream`` (path
of the bitstream or null), ``decoded`` (paths in display order), ``versions``.
"""

import glob
import json
import os
import sys


def read_request():
    """The request named on the command line."""
    with open(sys.argv[1]) as file:
        return json.load(file)


def write_reply(request, bits, bits_are, stream, decoded, versions):
    """Leave ``reply.json``; JSON writes a NaN as NaN, which the reader refuses."""
    reply = {
        "bits": [float(number) for number in bits],
        "bits_are": bits_are,
        "stream": stream,
        "decoded": decoded,
        "versions": versions,
    }
    with open(os.path.join(request["out"], "reply.json"), "w") as file:
        json.dump(reply, file)


def fill(words, **places):
    """Words of a command with the driver's paths in them."""
    return [word.format(**places) for word in words]


def images(folder, pattern):
    """Paths of the pictures in a folder, in the order of their names."""
    return sorted(glob.glob(os.path.join(folder, pattern)))


def python_version():
    """Version of the interpreter that runs the codec."""
    return ".".join(str(part) for part in sys.version_info[:3])
