"""WITT (https://github.com/KeYang8/WITT) by the contract of pvsc_link.

Runs in the Python of an unedited checkout: PyTorch, timm and numpy. Encoder and decoder are called;
the checkout's own channel is not. What its ``Channel`` passes to the receiver free of charge, the
power before normalisation, is sent as a scale and counted.
"""

import numpy
import torch


def on_any_device():
    """Calls of ``cuda`` and ``get_device`` that the checkout makes work without a GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.Tensor.get_device = lambda self: self.device
    return torch.device("cpu")


class Witt:
    """A model for high resolution (``--trainset DIV2K``).

    Parameters: ``channels`` : ``C`` that the checkpoint was trained with; ``adapts_to_snr`` : False
    for the model ``WITT_W/O``.
    """

    rates = (0,)
    multiple = 128
    needs_scale = True
    power = "frame"
    receiver_csi = "snr"

    def __init__(self, checkpoints=None, channels=96, adapts_to_snr=True, seed=0):
        self.device = on_any_device()
        from net.decoder import create_decoder
        from net.encoder import create_encoder

        self.name = "WITT" if adapts_to_snr else "WITT_W/O"
        self.transmitter_csi = "snr" if adapts_to_snr else "none"
        self.channels = channels
        torch.manual_seed(seed)
        common = {
            "img_size": (256, 256), "C": channels, "window_size": 8, "mlp_ratio": 4.0,
            "qkv_bias": True, "qk_scale": None, "norm_layer": torch.nn.LayerNorm,
            "patch_norm": True,
        }  # fmt: skip
        widths, depths, heads = [128, 192, 256, 320], [2, 2, 6, 2], [4, 6, 8, 10]
        stages = {"embed_dims": widths, "depths": depths, "num_heads": heads}
        back = {name: values[::-1] for name, values in stages.items()}
        self.encoder = create_encoder(patch_size=2, in_chans=3, **stages, **common)
        self.decoder = create_decoder(**back, **common)
        self.networks = torch.nn.ModuleDict({"encoder": self.encoder, "decoder": self.decoder})
        if checkpoints is not None:
            state = torch.load(checkpoints, map_location=self.device, weights_only=True)
            own = {k: v for k, v in state.items() if k.startswith(("encoder.", "decoder."))}
            own = {name: value for name, value in own.items() if "attn_mask" not in name}
            missing = self.networks.load_state_dict(own, strict=False).missing_keys
            if any("attn_mask" not in name for name in missing):
                raise ValueError(f"the checkpoint lacks {missing[:3]} ...: is it of this model?")
        self.networks.to(self.device).eval()

    def _resize(self, height, width):
        self.encoder.update_resolution(height, width)
        self.decoder.update_resolution(height // 16, width // 16)

    @torch.no_grad()
    def encode(self, frames, rate, snr_db=10.0):
        self._resize(*frames.shape[1:3])
        symbols = []
        for frame in frames:
            picture = torch.from_numpy(frame).permute(2, 0, 1)[None].to(self.device) / 255
            features = self.encoder(picture, round(snr_db), self.name)
            values = features.flatten().cpu().numpy()
            real, imaginary = numpy.split(values, 2)  # as its Channel pairs them
            symbols.append((real + 1j * imaginary).astype(numpy.complex64))
        return symbols, None

    @torch.no_grad()
    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        self._resize(session["height"], session["width"])
        frames = []
        for x in symbols_hat:
            values = numpy.concatenate([x.real, x.imag]).astype(numpy.float32)
            features = torch.from_numpy(values.reshape(1, -1, self.channels)).to(self.device)
            picture = self.decoder(features, round(snr_db), self.name)[0].clamp(0, 1)
            frames.append(picture.permute(1, 2, 0).cpu().numpy())
        return numpy.stack(frames)
