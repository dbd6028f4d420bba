"""Checkpoints of random weights for RLVC's scripts, in a Python 3.6 with TensorFlow 1.12.

Usage: random_rlvc.py CHECKOUT SCRIPT.py LAMBDA, in a folder with ``frames/f001.png``. The script
itself builds its networks. Where it would restore a checkpoint, fresh weights are saved in place of
it, and the script ends; the probability model has two checkpoints, ``_mv`` and ``_res``.
"""

import os
import runpy
import sys

import tensorflow as tf


class Saved(Exception):
    """What the script was run for is done."""


def main():
    checkout, script, rate = sys.argv[1:]
    sys.path.insert(0, checkout)
    import tensorflow_compression as tfc

    tf.set_random_seed(int(rate))
    bottlenecks = []
    build = tfc.EntropyBottleneck.build

    def build_and_keep(layer, shape):
        bottlenecks.append(layer)
        return build(layer, shape)

    def save_instead(saver, session, save_path):
        for part in ("_mv", "_res") if "_mv/" in save_path else ("",):
            path = save_path.replace("_mv/", part + "/")
            session.run(tf.global_variables_initializer())
            for layer in bottlenecks:
                session.run(layer.updates)  # tables of the range coder
            os.makedirs(os.path.dirname(path))
            saver.save(session, path)
        raise Saved()

    tfc.EntropyBottleneck.build = build_and_keep
    tf.train.Saver.restore = save_instead
    coded = "frames_PSNR_" + rate + "/bitstreams"
    os.makedirs(coded, exist_ok=True)
    open(coded + "/f001.bin", "w").close()  # its size is asked for
    sys.argv = [script, "--path", "frames", "--frame", "1", "--f_P", "0", "--b_P", "0", "--l", rate]
    try:
        runpy.run_path(os.path.join(checkout, script), run_name="__main__")
    except Saved:
        return
    raise SystemExit(script + " restored no checkpoint")


if __name__ == "__main__":
    main()
