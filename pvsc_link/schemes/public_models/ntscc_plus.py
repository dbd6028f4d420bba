"""NTSCC+ (https://github.com/wsxtyrdd/NTSCC_plus) by the contract of pvsc_link.

Runs in the Python of an unedited checkout: PyTorch, timm, compressai and numpy. The model is
``CompatibleNTSCC``, one network for many rates and SNRs. Its own ``forward`` runs up to the
channel, where the symbols are taken; ``decode`` goes on behind it. What upstream hands to the
receiver free of charge, the power before normalisation, is sent as a scale; the rate of every
place, which upstream counts at the capacity of the channel, is sent as deflated bytes. Both are
counted.
"""

import functools
import sys
import types
import zlib

import numpy
import torch

#: ``multiple_rate`` of the checkout's ``config/compatible_ntscc.yaml``: values sent at a place.
NUM_VALUES = [1, *range(4, 25, 4), *range(32, 321, 16)]
#: Levels of the quantiser between the coarsest and the finest that were trained.
NUM_RATES = 10


class NeighborhoodAttention2D(torch.nn.Module):
    """Neighbourhood attention (arXiv:2204.07143) with relative positional bias, on any device.

    It stands in for the layer of that name in NATTEN 0.14, with the same names of parameters. A
    query attends to the window of k x k places around it, which is moved inwards at the edges.
    """

    def __init__(self, dim, kernel_size, num_heads, qkv_bias=True, qk_scale=None, **_):
        super().__init__()
        self.size, self.heads = kernel_size, num_heads
        self.scale = qk_scale or (dim // num_heads) ** -0.5
        self.qkv = torch.nn.Linear(dim, 3 * dim, bias=qkv_bias)
        width = 2 * kernel_size - 1
        self.rpb = torch.nn.Parameter(0.02 * torch.randn(num_heads, width, width))
        self.proj = torch.nn.Linear(dim, dim)

    def forward(self, x):
        batch, height, width, _ = x.shape
        size = self.size
        more = max(0, size - height), max(0, size - width)
        x = torch.nn.functional.pad(x, (0, 0, 0, more[1], 0, more[0]))
        rows, columns = x.shape[1:3]
        parts = self.qkv(x).reshape(batch, rows, columns, 3, self.heads, -1).unbind(3)
        query, key, value = parts
        places = [torch.arange(n, device=x.device) for n in (rows, columns)]
        first = [
            (p - size // 2).clamp(0, n - size)
            for p, n in zip(places, (rows, columns))  # noqa: B905
        ]
        offsets = [(i, j) for i in range(size) for j in range(size)]
        scores = []
        for i, j in offsets:
            there = key[:, first[0] + i][:, :, first[1] + j]
            bias = self.rpb[:, first[0] + i - places[0] + size - 1]
            bias = bias[:, :, first[1] + j - places[1] + size - 1].permute(1, 2, 0)
            scores.append((query * there).sum(-1) * self.scale + bias)
        weights = torch.stack(scores).softmax(0)
        found = torch.zeros_like(value)
        for weight, (i, j) in zip(weights, offsets):  # noqa: B905
            found += weight[..., None] * value[:, first[0] + i][:, :, first[1] + j]
        return self.proj(found.flatten(3))[:, :height, :width]


def on_any_device():
    """Calls of ``cuda`` and ``get_device`` that the checkout makes work without a GPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    torch.Tensor.cuda = lambda self, *_, **__: self
    torch.Tensor.get_device = lambda self: self.device
    return torch.device("cpu")


def use_neighbourhood_attention():
    """NATTEN 0.14, which the checkpoints were trained with, where it is installed; else ours."""
    try:
        import natten

        if natten.__version__.startswith("0.14."):
            return
    except (ImportError, OSError):
        pass
    module = types.ModuleType("natten")
    vars(module).update(NeighborhoodAttention2D=NeighborhoodAttention2D, __version__="0.14.none")
    sys.modules["natten"] = module


class _Captured(Exception):
    """Symbols and the mask of what is sent, at the place of the channel."""


class NtsccPlus:
    """``CompatibleNTSCC``.

    Parameters: ``eta`` : values sent per bit of information; 0.15 to 0.3 were trained. A rate is a
    level of the quantiser, from the coarsest.
    """

    rates = tuple(range(NUM_RATES))
    multiple = 256
    needs_scale = True
    power = "frame"
    transmitter_csi = "snr"
    receiver_csi = "snr"

    def __init__(self, checkpoints=None, eta=0.2, seed=0):
        self.device = on_any_device()
        use_neighbourhood_attention()
        from net.compatible_ntscc import CompatibleNTSCC

        torch.manual_seed(seed)
        config = types.SimpleNamespace(
            channel_type="awgn", SNR=10, device=self.device, logger=None, eta=eta,
            multiple_rate=NUM_VALUES,
        )  # fmt: skip
        self.model = CompatibleNTSCC(config, qr_anchor_num=6)
        if checkpoints is not None:
            self._load(checkpoints)
        self.model.to(self.device).eval()
        self.model.feature_pass_channel_with_multiple_snr = self._capture
        self._code, self._synthesis = self.model.f_e, self.model.ntc.g_s
        ends = self.model.qr_scale.detach().flatten()[[0, -1]].tolist()
        self.levels = numpy.geomspace(max(ends), min(ends), NUM_RATES)

    def _load(self, checkpoints):
        state = torch.load(checkpoints, map_location=self.device, weights_only=True)
        state = state.get("state_dict", state)
        unused = ("mask", "_quantized_cdf", "_offset", "_cdf_length")
        own = {name: value for name, value in state.items() if not name.endswith(unused)}
        missing = self.model.load_state_dict(own, strict=False).missing_keys
        missing = [name for name in missing if not name.endswith(unused)]
        if missing:
            raise ValueError(f"the checkpoint lacks {missing[:3]} ...: is it of this model?")

    def _capture(self, symbols, snr, mask):
        raise _Captured(symbols, mask)

    @torch.no_grad()
    def encode(self, frames, rate, snr_db):
        symbols, side_bits = [], []
        for frame in frames:
            torch.manual_seed(0)  # upstream adds noise in place of rounding
            indexes: list = []

            def code(*given, found=indexes):
                made = self._code(*given)
                found.append(made[2])
                return made

            self.model.f_e, self.model.ntc.g_s = code, lambda y: None
            picture = torch.from_numpy(frame).permute(2, 0, 1)[None].to(self.device) / 255
            try:
                self.model(picture, self.levels[rate], snr_db)
            except _Captured as captured:
                values, mask = captured.args
            kept = values[mask > 0].cpu().numpy()
            kept = numpy.append(kept, numpy.zeros(len(kept) % 2, numpy.float32))
            symbols.append((kept[::2] + 1j * kept[1::2]).astype(numpy.complex64))
            of_places = indexes[0].cpu().numpy().astype(numpy.uint8)
            side_bits.append(zlib.compress(of_places.tobytes(), 9))
        return symbols, side_bits

    @torch.no_grad()
    def decode(self, symbols_hat, no_eff, side_bits, snr_db, session):
        model, level = self.model, self.levels[session["rate"]]
        rows, columns = session["height"] // 32, session["width"] // 16
        snr = torch.full((2,), float(snr_db), device=self.device)
        model.f_d = functools.partial(type(model).f_d, model, snr=snr)
        steps = model.get_curr_qr(level)
        model.ntc.g_s = lambda y: self._synthesis(y * model.get_q_matrix(y, *steps))
        frames = []
        for x, side in zip(symbols_hat, side_bits):  # noqa: B905
            of_places = numpy.frombuffer(zlib.decompress(side), numpy.uint8).astype(numpy.int64)
            counts = numpy.array(NUM_VALUES)[of_places].reshape(2, 1, rows, columns)
            mask = numpy.arange(max(NUM_VALUES))[None, :, None, None] < counts
            values = numpy.stack([x.real, x.imag], axis=1).ravel()[: mask.sum()]
            received = numpy.zeros(mask.shape, numpy.float32)
            received[mask] = values
            given = torch.from_numpy(received).to(self.device), torch.from_numpy(of_places)
            picture = model.decode(given[0], given[1].to(self.device))[0].clamp(0, 1)
            frames.append(picture.permute(1, 2, 0).cpu().numpy())
        return numpy.stack(frames)
