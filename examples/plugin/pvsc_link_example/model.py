"""A semantic model that keeps the contract of pvsc-link; import a framework inside its methods."""

import numpy as np


class MeanColours:
    """Sends the mean colours of blocks of 8x8 pixels, two values per complex symbol."""

    label = "Mean colours"
    rates = (0,)
    multiple = 8
    scheduled = True  # the number of symbols depends on the frame size alone
    receiver_csi = "none"
    trained = True  # there is nothing to train

    def encode(self, frames, rate):
        symbols = []
        for frame in frames:
            height, width = (side // 8 for side in frame.shape[:2])
            means = frame.reshape(height, 8, width, 8, 3).mean(axis=(1, 3)).ravel() / 127.5 - 1
            signs = np.where(means < 0, -1, 1) * np.sqrt(np.abs(means)) + 1e-3
            signs = np.append(signs, np.ones(2 + len(signs) % 2))  # the last one is the scale
            symbols.append((signs[::2] + 1j * signs[1::2]).astype(np.complex64))
        return symbols, None

    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        height, width = session["height"] // 8, session["width"] // 8
        frames = []
        for x in symbols_hat:
            values = np.stack([x.real, x.imag], axis=1).ravel()
            values = values[: height * width * 3] / max(values[-2:].mean(), 0.1)
            means = (np.sign(values) * values**2 + 1) / 2
            means = means.reshape(height, width, 3)
            frames.append(np.clip(means, 0, 1).repeat(8, axis=0).repeat(8, axis=1))
        return np.stack(frames)
