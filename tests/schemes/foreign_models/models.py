"""Models for tests of foreign schemes: numpy alone, each good or bad in one way."""

import os
import sys
import time

import numpy as np


class Blocks:
    """Sends the mean colour of blocks of 8x8 pixels, two values per complex symbol."""

    rates = (0, 1)
    multiple = 8
    trained = True
    size = 8

    def __init__(self, gain=1.0):
        self.gain = gain

    def means(self, frame):
        height, width = (n // self.size for n in frame.shape[:2])
        blocks = frame.reshape(height, self.size, width, self.size, 3)
        return blocks.mean(axis=(1, 3)).ravel() / 127.5 - 1.0

    def symbols_of(self, frame):
        values = self.means(frame)
        values = np.append(values, np.zeros(len(values) % 2))
        return self.gain * (values[::2] + 1j * values[1::2]).astype(np.complex64)

    def encode(self, frames, rate):
        symbols = [self.symbols_of(frame) for frame in frames]
        peak = [np.float32(np.sqrt(np.mean(np.abs(s) ** 2))).tobytes() for s in symbols]
        return symbols, peak

    def frame_of(self, symbols_hat, scale, session):
        values = np.stack([symbols_hat.real, symbols_hat.imag], axis=1).ravel()
        height, width = session["height"] // self.size, session["width"] // self.size
        means = (values[: height * width * 3] * scale + 1.0) / 2
        means = means.reshape(height, 1, width, 1, 3)
        whole = np.broadcast_to(means, (height, self.size, width, self.size, 3))
        return whole.reshape(session["height"], session["width"], 3)

    def scales(self, symbols_hat, side_bits):
        return [np.frombuffer(side, np.float32)[0] / self.gain for side in side_bits]

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        assert len(no_eff) == len(symbols_hat)
        scales = self.scales(symbols_hat, side_bits)
        frames = [self.frame_of(s, g, session) for s, g in zip(symbols_hat, scales, strict=True)]
        return np.stack(frames)


class PerFrame(Blocks):
    power = "frame"


class LinkScaled(Blocks):
    """Leaves the scale to the link."""

    needs_scale = True

    def encode(self, frames, rate):
        return [self.symbols_of(frame) for frame in frames], None

    def scales(self, symbols_hat, side_bits):
        return [1.0 / self.gain] * len(symbols_hat)


class Scheduled(Blocks):
    scheduled = True
    receiver_csi = "snr"

    def encode(self, frames, rate):
        return [self.symbols_of(frame) for frame in frames], None

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        assert no_eff is None
        assert snr_db is not None
        return np.stack([self.frame_of(s, 0.5, session) for s in symbols_hat])


class Conceals(Blocks):
    """Shows white where side information is lost: a frame without it may have no symbols."""

    on_loss = "model"

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        frames = []
        for one in zip(symbols_hat, no_eff, side_bits, strict=True):
            white = np.ones((1, session["height"], session["width"], 3))
            given = [[part] for part in one]
            lost = one[2] is None
            frames.append(white if lost else super().decode(*given, snr_db, session))
        return np.concatenate(frames)


class KnowsSnr(Scheduled):
    """The encoder repeats its symbols at low SNR."""

    scheduled = False
    transmitter_csi = "snr"

    def encode(self, frames, rate, snr_db):
        times = 2 if snr_db < 3 else 1
        return [np.tile(self.symbols_of(frame), times) for frame in frames], None


class NotANumber(Blocks):
    def encode(self, frames, rate):
        symbols, side = super().encode(frames, rate)
        if rate == 1:
            symbols[0][3] = np.nan
        return symbols, side


class TooMany(Blocks):
    def encode(self, frames, rate):
        symbols, side = super().encode(frames, rate)
        return [np.tile(s, 1000) for s in symbols], side


class NoPower(Blocks):
    def encode(self, frames, rate):
        symbols, side = super().encode(frames, rate)
        return [0 * s for s in symbols], side


class RealSymbols(Blocks):
    def encode(self, frames, rate):
        symbols, side = super().encode(frames, rate)
        return [s.real for s in symbols], side


class FewFrames(Blocks):
    def encode(self, frames, rate):
        symbols, side = super().encode(frames, rate)
        return symbols[:-1], side


class SmallPicture(Blocks):
    def decode(self, *given):
        return super().decode(*given)[:, :-1]


class PictureOfNan(Blocks):
    def decode(self, *given):
        return super().decode(*given) * np.nan


class Raises(Blocks):
    def encode(self, frames, rate):
        print("about to fail at rate", rate, file=sys.stderr)
        if rate == 1:
            raise RuntimeError("weights are upside down")
        return super().encode(frames, rate)


class NoRates(Blocks):
    rates = ()


class Dies(Blocks):
    def encode(self, frames, rate):
        if rate == 1:
            print("the last words", flush=True)
            os._exit(7)
        return super().encode(frames, rate)


class NeverEnds(Blocks):
    def encode(self, frames, rate):
        if rate == 1:
            print("asleep", flush=True)
            time.sleep(600)
        return super().encode(frames, rate)


class Talks(Blocks):
    """Prints far more than a pipe holds, in the middle of it a line that looks like a reply."""

    def encode(self, frames, rate):
        for _ in range(200):
            sys.stdout.write("x" * 65536 + '\n{"facts": {}}\n')
        sys.stdout.flush()
        return super().encode(frames, rate)


class DependsOnHistory(Blocks):
    """Decodes with what its encoder left in memory, which a receiver does not have."""

    def encode(self, frames, rate):
        self.kept = super().encode(frames, rate)[1]
        return super().encode(frames, rate)[0], None

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        return super().decode(symbols_hat, no_eff, self.kept, snr_db, session)


class WithWeights(Blocks):
    def __init__(self, checkpoints):
        with open(checkpoints, "rb") as file:
            super().__init__(gain=float(file.read()))
