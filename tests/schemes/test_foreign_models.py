"""Models that pvsc_link has never seen, in this process and in a Python of their own."""

import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from pvsc_link.link import Transport
from pvsc_link.scenario.loader import parse_scenario
from pvsc_link.schemes.__main__ import main
from pvsc_link.schemes.base import LinkOptions
from pvsc_link.schemes.foreign import ForeignScheme
from pvsc_link.schemes.registry import SCHEMES, scheme_types
from pvsc_link.sweep.plan import build
from pvsc_link.sweep.runner import run_plan
from pvsc_link.types import ChannelPoint, CodecFailure, InputError

MODELS = Path(__file__).parent / "foreign_models" / "models.py"
LINK = LinkOptions("zf", csi_aware=False, decoder="layered", num_iter=20)
CLEAR, NOISY = ChannelPoint("awgn", 60.0), ChannelPoint("awgn", 10.0)
#: An MCS that fails at 0 dB always.
FAILING = ChannelPoint("awgn", 0.0)


def model(name, **options):
    return ForeignScheme(f"{MODELS}:{name}", **options)


def sent(scheme, video, point=CLEAR, mcs=5, link=LINK, gop=2, rate=0):
    gops = scheme.encode(video, gop, rate)
    return scheme.transmit(gops, point, link, mcs, range(len(gops)))


def block_means(frames):
    """Means over 8x8 blocks of the picture that is a multiple of 8."""
    height, width = (n // 8 * 8 for n in frames.shape[1:3])
    cut = frames[:, :height, :width].astype(float)
    return cut.reshape(len(frames), height // 8, 8, width // 8, 8, 3).mean(axis=(2, 4))


@pytest.mark.parametrize("name", ["Blocks", "PerFrame", "LinkScaled"])
def test_a_model_shows_its_pictures_whatever_power_it_gave(name, video):
    pictures = []
    for gain in (1.0, 30.0):
        scheme = model(name, model_options={"gain": gain})
        receptions = sent(scheme, video)
        pictures.append(np.concatenate([one.frames_hat for one in receptions]))
        assert [one.status for one in receptions] == ["ok", "ok"]
        assert all("unit mean power" in one.note for one in receptions)
        assert all(abs(one.stats.snr / 1e6 - 1) < 0.2 for one in receptions)  # 60 dB of unit power
    np.testing.assert_allclose(pictures[0].astype(int), pictures[1], atol=1)
    if name != "Blocks":  # whose own scale is that of a frame, not of the GOP
        wanted, found = block_means(video.frames), block_means(pictures[0])
        assert np.abs(wanted - found)[:, :-1, :-1].max() < 3


def test_symbols_side_bits_and_original_pixels_are_counted(video):
    (first, _) = sent(model("Blocks"), video)
    height, width = (-(-n // 8) for n in video.frames.shape[1:3])  # blocks, with padding
    assert first.num_channel_uses["source"] == 2 * -(-height * width * 3 // 2)
    assert first.num_channel_uses["side"] > 0
    scheduled, _ = sent(model("Scheduled"), video)
    assert scheduled.num_channel_uses["side"] == scheduled.num_blocks == 0
    scaled, _ = sent(model("LinkScaled"), video)
    assert 0 < scaled.num_channel_uses["side"] < first.num_channel_uses["side"]  # one scale, not 2
    counted = LinkOptions("zf", False, "layered", 20, Transport(count_headers=True))
    for name in ("Blocks", "Scheduled"):
        free, paid = (sent(model(name), video, link=link)[0] for link in (LINK, counted))
        uses = [sum(one.num_channel_uses.values()) for one in (free, paid)]
        assert uses[1] - uses[0] == free.header_uses > 0


def test_lost_side_information_freezes_conceals_or_does_not_matter(video):
    lost, _ = sent(model("Blocks"), video, FAILING, mcs=28)
    assert lost.frames_lost == lost.frames_concealed == 2
    assert np.unique(lost.frames_hat).tolist() == [128]
    kept, _ = sent(model("Scheduled"), video, FAILING, mcs=28)
    assert kept.frames_lost == 0
    frames = LinkOptions("zf", False, "layered", 20, Transport(transport_unit="frame"))
    one_lost = ChannelPoint("rayleigh", 8.0, coherence_length=150)  # some blocks fail
    found = set()
    for name in ("Blocks", "Conceals"):
        scheme = model(name)
        gops = scheme.encode(video, 4, 0)
        for seed in range(6):
            (got,) = scheme.transmit(gops, one_lost, frames, 6, [seed])
            failed = got.num_block_errors
            if not 0 < failed < 4:
                continue
            found.add(name)
            assert (got.frames_lost == failed) or name == "Blocks"
            assert got.frames_concealed >= got.frames_lost >= failed
            if name == "Conceals":
                assert np.sum(got.frames_hat.min(axis=(1, 2, 3)) == 255) == failed
    assert found == {"Blocks", "Conceals"}


def test_an_encoder_that_knows_the_snr_codes_for_each(video):
    scheme = model("KnowsSnr")
    uses = [sent(scheme, video, ChannelPoint("awgn", snr))[0].num_channel_uses for snr in (0, 6)]
    assert uses[0]["source"] == 2 * uses[1]["source"]


def test_both_doors_give_the_same_pictures(video):
    here = model("Blocks")
    there = model("Blocks", python=sys.executable)
    assert here.weights_id == there.weights_id
    for one, other in zip(sent(here, video, NOISY), sent(there, video, NOISY), strict=True):
        np.testing.assert_array_equal(one.frames_hat, other.frames_hat)
        assert one.num_channel_uses == other.num_channel_uses
    assert "python" in there.encode(video, 2, 0)[0].version


BAD = {
    "NotANumber": "1 of 176 symbols of frame 0 are not finite",
    "TooMany": "wanted at most",
    "NoPower": "no power",
    "RealSymbols": "wanted complex64",
    "FewFrames": "wanted a list of 2 arrays",
    "Raises": "weights are upside down",
}


@pytest.mark.parametrize("name", BAD)
def test_what_breaks_the_contract_is_a_failure_that_says_how(name, video):
    with pytest.raises(CodecFailure, match=BAD[name]) as failure:
        model(name).encode(video, 2, 1)
    assert failure.value.status == "codec_error"


@pytest.mark.parametrize("name", ["SmallPicture", "PictureOfNan"])
def test_a_decoder_that_breaks_the_contract_is_a_failure(name, video):
    with pytest.raises(CodecFailure, match="decode"):
        sent(model(name), video)


def test_a_process_that_dies_hangs_or_talks_costs_one_rate_alone(video):
    """The last words of the process stand in the message; the next call starts another."""
    cases = {
        "Dies": ("codec_error", "exit status 7: the last words"),
        "NeverEnds": ("codec_timeout", "killed after 3 s: asleep"),
        "Raises": ("codec_error", "weights are upside down.*about to fail"),
    }
    for name, (status, said) in cases.items():
        scheme = model(name, python=sys.executable, timeout_s=3.0)
        with pytest.raises(CodecFailure, match=f"(?s){said}") as failure:
            scheme.encode(video, 2, 1)
        assert failure.value.status == status
        assert len(sent(scheme, video)) == 2
    assert len(sent(model("Talks", python=sys.executable), video)) == 2


def test_what_cannot_be_loaded_is_told(video):
    cases = {
        ("nowhere.at.all:Model", None): "missing_binary",
        (f"{MODELS}:Absent", None): "codec_error",
        (f"{MODELS}:NoRates", None): "codec_error",
        (f"{MODELS}:Blocks", "/no/such/python"): "missing_binary",
    }
    for (implementation, python), status in cases.items():
        with pytest.raises(CodecFailure) as failure:
            ForeignScheme(implementation, python=python).check()
        assert failure.value.status == status
    with pytest.raises(CodecFailure, match="no checkpoints"):
        model("Blocks", checkpoints="/no/such/weights").check()
    with pytest.raises(InputError, match="entry point"):
        ForeignScheme("no_such_entry_point")
    with pytest.raises(InputError, match="checkout"):
        model("Blocks", checkout="/tmp")


def test_other_weights_source_or_options_are_other_rows(tmp_path):
    weights, ids = tmp_path / "w.bin", set()
    for content in (b"1", b"2"):
        weights.write_bytes(content)
        ids.add(model("WithWeights", checkpoints=str(weights)).weights_id)
    for options in (None, {"gain": 2.0}):
        ids.add(model("Blocks", model_options=options).weights_id)
    copy = tmp_path / "models.py"
    copy.write_text(MODELS.read_text() + "\n# another version\n")
    ids.add(ForeignScheme(f"{copy}:Blocks").weights_id)
    assert len(ids) == 5


def test_a_sweep_keeps_what_works_beside_what_fails(tmp_path):
    """One model fails at one rate, one cannot be loaded; every other row is there."""
    entry = {"scheme": "foreign", "mcs": 5}
    scenario = parse_scenario(
        {
            "name": "foreign",
            "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
            "link": {"snr_db": 20},
            "schemes": [
                entry | {"implementation": f"{MODELS}:Raises"},
                entry | {"implementation": f"{MODELS}:NoRates", "rates": [0]},
                entry | {"implementation": f"{MODELS}:Scheduled", "rates": [1]},
            ],
            "metrics": "psnr",
        }
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = run_plan(build(scenario), tmp_path)
    found = {(row.variant, row.rate): row.status for row in table.itertuples()}
    assert found == {
        ("Raises", 0): "ok",
        ("Raises", 1): "codec_error",
        ("NoRates", 0): "codec_error",
        ("Scheduled", 1): "ok",
    }
    note = table[table.status == "codec_error"].note.str.cat()
    assert "weights are upside down" in note
    assert "integers from 0 to 255" in note
    assert table[table.status == "ok"].psnr_db.min() > 15
    assert "Scheduled, rate 1" not in note
    assert '"python' not in note
    manifest = (tmp_path / "manifest.json").read_text()
    assert "weights none stated" in manifest


def test_foreign_is_a_scheme_that_a_scenario_can_name():
    assert "foreign" in SCHEMES
    assert "implementation" in scheme_types()["foreign"].Options.model_fields


def test_the_check_command_passes_a_good_model_and_says_what_is_wrong_with_a_bad_one(capsys):
    good = ["check", f"{MODELS}:Blocks", "--size", "64x40", "--option", "gain=2.0"]
    assert main(good) == 0
    told = capsys.readouterr().out
    assert "keeps the contract" in told
    assert "FAILED" not in told
    assert main(["check", f"{MODELS}:DependsOnHistory", "--size", "64x40"]) == 1
    told = capsys.readouterr().out
    assert "a receiver that never encoded" in told
    assert "does it keep what it encoded?" in told
    assert main(["check", f"{MODELS}:NotANumber", "--size", "64x40"]) == 1
    assert "not finite" in capsys.readouterr().out
    assert main(["check", f"{MODELS}:Blocks", "--size", "wide"]) == 2
    assert main(["check", "no_such_entry_point"]) == 2


def test_the_list_command_names_every_scheme(capsys):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in scheme_types())
