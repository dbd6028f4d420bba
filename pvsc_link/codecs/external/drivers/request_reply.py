"""The requests that a driver gets, a line of JSON each, and the replies that it leaves in files.

Runs in the codec's own Python, 3.6 and later, where pvsc_link is not installed. One process codes
GOP after GOP, so that frameworks and weights are loaded once.

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
import signal
import sys
import threading
import time
import traceback

#: Characters of an error's text that are kept.
_MOST_CHARS = 300
#: Seconds between two looks whether the process is still there that asks.
_LOOK_S = 1.0


def end_with_parent():
    """Kill this process, with the programs of its group, when the one that started it is gone.

    A GOP that nobody waits for would hold a GPU for as long as it takes.
    """
    parent = os.getppid()

    def watch():
        while os.getppid() == parent:
            time.sleep(_LOOK_S)
        if os.getpgrp() == os.getpid():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def serve(code):
    """Code the GOP of each request by ``code(request)``; descriptors are on the command line.

    The answer is ``{}``, or ``{"error": text}`` after a fault.
    """
    end_with_parent()
    requests_fd, replies_fd = int(sys.argv[-2]), int(sys.argv[-1])
    for fd in (requests_fd, replies_fd):
        os.set_inheritable(fd, False)  # programs that a codec starts must not hold them open
    with os.fdopen(requests_fd) as requests, os.fdopen(replies_fd, "w") as replies:
        for line in iter(requests.readline, ""):
            reply = {}
            try:
                code(json.loads(line))
            except Exception as error:
                traceback.print_exc()
                reply = {"error": beginning_of(error)}
            except SystemExit as end:
                reply = {"error": str(end)[-_MOST_CHARS:] or "it ended before its reply"}
            sys.stdout.flush()
            sys.stderr.flush()
            replies.write(json.dumps(reply) + "\n")
            replies.flush()


def beginning_of(error):
    """PyTorch lists every layer where a checkpoint does not fit; the cause stands before them."""
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said[:_MOST_CHARS]}" + " ..." * (len(said) > _MOST_CHARS)


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
