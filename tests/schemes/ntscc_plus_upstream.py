"""The NTSCC+ driver beside upstream's own ``forward``, in a Python with torch and in a checkout.

Usage: ntscc_plus_upstream.py DRIVER.py. Both get the same random weights, picture and draws of the
noise that stands for rounding. Upstream sends over its own channel; what it received is given to
``decode`` of the driver. Prints the largest differences as JSON.
"""

import importlib.util
import json
import sys
import tempfile
import types

import numpy
import torch

SNR_DB, RATE = 7.0, 3


def load(path):
    spec = importlib.util.spec_from_file_location("driver", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights_of(model):
    """Random weights: branches that begin at zero or one would hide whole layers."""
    torch.manual_seed(1)
    state = model.state_dict()
    own = {name: value for name, value in model.named_parameters() if value.is_floating_point()}
    for name, value in own.items():
        state[name] = value.detach() + 0.02 * torch.randn_like(value)
    state["qr_scale"] = torch.linspace(2.0, 0.5, 6).reshape(6, 1, 1, 1)
    return state


@torch.no_grad()
def main():
    module = load(sys.argv[1])
    sys.path.insert(0, ".")
    state = weights_of(module.NtsccPlus().model)
    with tempfile.NamedTemporaryFile(suffix=".pth") as file:
        torch.save(state, file.name)
        driver = module.NtsccPlus(checkpoints=file.name)

    from net.compatible_ntscc import CompatibleNTSCC

    config = types.SimpleNamespace(
        channel_type="awgn", SNR=10, device=torch.device("cpu"), logger=None, eta=0.2,
        multiple_rate=module.NUM_VALUES,
    )  # fmt: skip
    upstream = CompatibleNTSCC(config, qr_anchor_num=6).eval()
    upstream.load_state_dict(state)
    at_channel = {}

    def channel(symbols, snr, mask):
        received = CompatibleNTSCC.feature_pass_channel_with_multiple_snr(
            upstream, symbols, snr, mask
        )
        at_channel.update(sent=symbols[mask > 0], received=received[0][mask > 0], uses=received[1])
        return received

    upstream.feature_pass_channel_with_multiple_snr = channel
    coarse = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(2))
    picture = torch.nn.functional.interpolate(coarse[None], (256, 256), mode="bicubic")
    frame = (picture[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy().astype(numpy.uint8)
    given = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255

    torch.manual_seed(0)  # as the driver does
    own = upstream(given, driver.levels[RATE], SNR_DB)
    symbols, side_bits = driver.encode(frame[None], RATE, SNR_DB)
    sent = numpy.stack([symbols[0].real, symbols[0].imag], axis=1).ravel()
    values = {name: at_channel[name].numpy() for name in ("sent", "received")}
    size = len(values["sent"])
    received = numpy.append(values["received"], numpy.zeros(size % 2, numpy.float32))
    session = {"rate": RATE, "height": 256, "width": 256}
    shown = driver.decode([received[::2] + 1j * received[1::2]], None, side_bits, SNR_DB, session)[
        0
    ]
    expected = own["x_hat"][0].clamp(0, 1).permute(1, 2, 0).numpy()
    noise = values["received"] - values["sent"]
    ratio = numpy.mean(values["sent"] ** 2) / numpy.var(noise)
    found = {
        "uses": [float(at_channel["uses"]), len(symbols[0])],
        "scale": float(numpy.abs(values["sent"]).mean()),
        "sent": float(numpy.abs(values["sent"] - sent[:size]).max()),
        "shown": float(numpy.abs(expected - shown).max()),
        "contrast": float(expected.std()),
        "snr_db": float(10 * numpy.log10(ratio)),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
