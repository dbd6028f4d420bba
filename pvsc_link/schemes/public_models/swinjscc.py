"""SwinJSCC (https://github.com/semcomm/SwinJSCC) by the contract of pvsc_link.

Runs in the Python of an unedited checkout: PyTorch, timm and numpy. Encoder and decoder are called;
the checkout's own channel is not. What its ``Channel`` passes to the receiver free of charge, the
power before normalisation, is sent as a scale and counted. With rate adaptation the channels that
are sent are side information too, one bit per channel, which upstream does not count.
"""

import numpy
import torch

#: Names of the checkout's ``--model``.
MODELS = {
    "plain": "SwinJSCC_w/o_SAandRA",
    "sa": "SwinJSCC_w/_SA",
    "ra": "SwinJSCC_w/_RA",
    "sa-ra": "SwinJSCC_w/_SAandRA",
}
#: Depths of the stages by ``--model_size``; widths and heads are the same in all (large: wider).
DEPTHS = {"small": [2, 2, 2, 2], "base": [2, 2, 6, 2], "large": [2, 2, 18, 2]}
RATES = (32, 64, 96, 128, 192)


def on_any_device():
    """Calls of ``cuda`` and ``get_device`` that the checkout makes work without a GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.Tensor.get_device = lambda self: self.device
    return torch.device("cpu")


class SwinJscc:
    """A model for high resolution (``--trainset DIV2K``).

    Parameters: ``model`` : key of ``MODELS``; ``size`` : small, base or large; ``channels`` : ``C``
    that the checkpoint was trained with, for models without rate adaptation (with it, a rate is one
    of ``RATES``).
    """

    multiple = 128
    needs_scale = True
    power = "frame"
    receiver_csi = "snr"

    def __init__(self, checkpoints=None, model="sa-ra", size="base", channels=96, seed=0):
        self.device = on_any_device()
        from net.decoder import create_decoder
        from net.encoder import create_encoder

        self.name, self.adapts = MODELS[model], model.endswith("ra")
        self.transmitter_csi = "snr" if model.startswith("sa") else "none"
        self.rates = tuple(range(len(RATES))) if self.adapts else (0,)
        self.channels = None if self.adapts else channels
        torch.manual_seed(seed)
        widths = [192, 256, 320, 384] if size == "large" else [128, 192, 256, 320]
        heads = [6, 8, 10, 12] if size == "large" else [4, 6, 8, 10]
        common = {
            "model": self.name, "img_size": (256, 256), "C": self.channels, "window_size": 8,
            "mlp_ratio": 4.0, "qkv_bias": True, "qk_scale": None,
            "norm_layer": torch.nn.LayerNorm, "patch_norm": True,
        }  # fmt: skip
        stages = {"embed_dims": widths, "depths": DEPTHS[size], "num_heads": heads}
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
        symbols, side_bits = [], []
        for frame in frames:
            picture = torch.from_numpy(frame).permute(2, 0, 1)[None].to(self.device) / 255
            given = picture, round(snr_db), RATES[rate] if self.adapts else self.channels
            features, side = self.encoder(*given, self.name), b""
            if self.adapts:  # one mask for all places: which of the channels are sent
                features, mask = features
                kept = mask[0, 0].cpu().numpy() > 0
                side = numpy.packbits(kept).tobytes()
                features = features[..., torch.from_numpy(kept).to(self.device)]
            values = features.flatten().cpu().numpy()
            real, imaginary = numpy.split(numpy.append(values, [0.0] * (len(values) % 2)), 2)
            symbols.append((real + 1j * imaginary).astype(numpy.complex64))
            side_bits.append(side)
        return symbols, side_bits

    @torch.no_grad()
    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        height, width = session["height"], session["width"]
        self._resize(height, width)
        places, frames = height * width // 256, []
        for x, side in zip(symbols_hat, side_bits):  # noqa: B905
            values = numpy.concatenate([x.real, x.imag])
            if self.adapts:
                kept = numpy.unpackbits(numpy.frombuffer(side, numpy.uint8))
                kept = kept[: self.encoder.embed_dims[-1]].astype(bool)
                features = numpy.zeros((places, len(kept)), numpy.float32)
                features[:, kept] = values[: places * kept.sum()].reshape(places, -1)
            else:
                features = values[: places * self.channels].reshape(places, -1)
            given = torch.from_numpy(features.astype(numpy.float32))[None].to(self.device)
            picture = self.decoder(given, round(snr_db), self.name)[0].clamp(0, 1)
            frames.append(picture.permute(1, 2, 0).cpu().numpy())
        return numpy.stack(frames)
