"""A channel of one's own: AWGN that is without signal now and then, which the receiver knows."""

import tensorflow as tf

from pvsc_link.link import Awgn, ChannelOutput


class OnOff:
    """Every 1 / off_fraction-th channel use carries noise alone; its variance says so."""

    jit_compile = False

    def __init__(self, *, off_fraction, equalizer, csi_aware):
        self.off_fraction = tf.cast(off_fraction, tf.float32)
        self.awgn = Awgn(equalizer=equalizer, csi_aware=csi_aware)

    def __call__(self, x, *, snr_db, seed, first_symbol=0):
        output = self.awgn(x, snr_db=snr_db, seed=seed, first_symbol=first_symbol)
        place = tf.cast(first_symbol + tf.range(tf.shape(x)[1]), tf.float32)
        turns = tf.floor((place + 1) * self.off_fraction) - tf.floor(place * self.off_fraction)
        is_off = (turns > 0)[None]
        x_hat = tf.where(is_off, output.x_hat - x, output.x_hat)
        no_eff = tf.where(is_off, 1e6, output.no_eff)
        return ChannelOutput(x_hat, no_eff, output.overhead, output.stats)
