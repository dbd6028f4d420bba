"""A small DeepJSCC in PyTorch, which knows nothing of pvsc_link: an example of a foreign model.

Convolutions map a picture to a quarter of its height and width with up to 16 channels. A rate sends
the first 4, 8 or 16 of them as complex symbols; the receiver has zeros in place of the others. The
idea is that of Bourtsoulatze, Burth Kurka and Gunduz (IEEE TCCN 5(3), 2019), the networks are not.
"""

import numpy as np
import torch
from torch import nn

CHANNELS = (4, 8, 16)


class Networks(nn.Module):
    """Encoder and decoder; ``width`` : channels of the hidden layers."""

    def __init__(self, width=32):
        super().__init__()
        most = CHANNELS[-1]
        self.encoder = nn.Sequential(
            nn.Conv2d(3, width, 5, stride=2, padding=2), nn.PReLU(),
            nn.Conv2d(width, width, 5, stride=2, padding=2), nn.PReLU(),
            nn.Conv2d(width, most, 3, padding=1),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Conv2d(most, width, 3, padding=1), nn.PReLU(),
            nn.Conv2d(width, 4 * width, 3, padding=1), nn.PixelShuffle(2), nn.PReLU(),
            nn.Conv2d(width, 12, 3, padding=1), nn.PixelShuffle(2),
        )  # fmt: skip

    def send(self, pictures, channels):
        """[batch, 3, height, width] in [0, 1] to [batch, channels, height / 4, width / 4]."""
        sent = self.encoder(2 * pictures - 1)[:, :channels]
        power = sent.square().mean(dim=(1, 2, 3), keepdim=True)
        return sent * (2 * power + 1e-9).rsqrt()  # of a complex symbol: 1

    def show(self, received):
        """The inverse, of as many channels as were received."""
        absent = CHANNELS[-1] - received.shape[1]
        whole = nn.functional.pad(received, (0, 0, 0, 0, 0, absent))
        return (self.decoder(whole) + 1) / 2


class DeepJscc:
    """The contract of pvsc_link: ``docs/foreign_schemes.md``."""

    rates = (0, 1, 2)
    multiple = 4
    scheduled = True  # the number of symbols depends on rate and frame size alone
    receiver_csi = "none"

    def __init__(self, checkpoints=None, width=32):
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.networks = Networks(width).eval()
        if checkpoints is not None:
            self.networks.load_state_dict(torch.load(checkpoints, weights_only=True))

    @torch.no_grad()
    def encode(self, frames, rate):
        pictures = torch.from_numpy(frames).permute(0, 3, 1, 2) / 255
        symbols = []
        for picture in pictures:
            sent = self.networks.send(picture[None], CHANNELS[rate]).flatten().numpy()
            real, imaginary = np.split(sent, 2)
            symbols.append((real + 1j * imaginary).astype(np.complex64))
        return symbols, None

    @torch.no_grad()
    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        shape = 1, CHANNELS[session["rate"]], session["height"] // 4, session["width"] // 4
        frames = []
        for x in symbols_hat:
            received = torch.from_numpy(np.concatenate([x.real, x.imag])).reshape(shape)
            frames.append(self.networks.show(received)[0].permute(1, 2, 0).numpy())
        return np.stack(frames)
