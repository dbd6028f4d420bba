"""Curves: means and bands over seeds, equal CBR, one look per scheme; and their files."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from pvsc_link.intervals import bootstrap_interval
from pvsc_link.link import Harq, Transport
from pvsc_link.metrics.registry import METRICS
from pvsc_link.report import figures, style
from pvsc_link.report.curves import (
    averaged,
    common_budget,
    condition_columns,
    condition_slug,
    condition_words,
    curve_set,
    curve_styles,
    quality_at_budget,
    with_curve_keys,
)
from pvsc_link.report.figures import axis_figures, draw_figures, write_figures
from pvsc_link.report.results import bler_table, read_results
from pvsc_link.report.style import STYLE_FILE, scheme_style

PSNR = METRICS["psnr"]


def test_bands_are_the_bootstrap_interval_over_seeds(make_points):
    points = make_points(schemes=("x265",), clips=("bikes",), snrs=(6.0,), rates=(27, 32))
    means = averaged(with_curve_keys(points))
    assert len(means) == 2 * 3, "two rates on three channels"
    for _, mean in means.iterrows():
        here = points["rate"].eq(mean["rate"]) & points["channel"].eq(mean["channel"])
        here &= points["csi_nmse_db"].fillna(0).eq(np.nan_to_num(mean["csi_nmse_db"]))
        expected = bootstrap_interval(points[here]["psnr_db"])
        found = mean[["psnr_db", "psnr_db_low", "psnr_db_high"]].astype(float)
        assert found.tolist() == pytest.approx(list(expected))
        assert mean["num_seeds"] == 3


def test_one_seed_has_no_band(make_points):
    means = averaged(with_curve_keys(make_points(seeds=(1,), clips=("bikes",))))
    assert means["psnr_db_low"].isna().all()


def test_quality_at_equal_cbr_is_linear_in_log_cbr_and_never_extrapolated(make_points):
    points = make_points(
        schemes=("x265",), clips=("bikes",), snrs=(6.0,), rates=(27, 37), seeds=(1,)
    )
    points = points[points["channel"] == "awgn"].sort_values("cbr")
    (low, high), (worse, better) = points["cbr"], points["psnr_db"]
    keyed = with_curve_keys(points)
    middle = quality_at_budget(keyed, PSNR, np.sqrt(low * high))
    assert middle["value"].item() == pytest.approx((worse + better) / 2)
    assert quality_at_budget(keyed, PSNR, 2 * high)["value"].item() == pytest.approx(better)
    assert quality_at_budget(keyed, PSNR, 0.9 * low).empty


def test_at_the_common_budget_every_curve_has_a_value(make_points):
    keyed = with_curve_keys(make_points(clips=("bikes",)))
    table = quality_at_budget(keyed, PSNR, common_budget(keyed))
    expected = keyed.groupby(["channel", "snr_db", "csi_nmse_db", "curve"], dropna=False).ngroups
    assert len(table) == expected


def test_variants_share_colour_and_marker_and_differ_in_line_and_label(make_points):
    points = make_points(schemes=("x265",), clips=("bikes",))
    other = points.assign(variant="psy-off")
    keyed = with_curve_keys(pd.concat([points, other], ignore_index=True))
    first, second = curve_styles(keyed).values()
    assert (first.colour, first.marker) == (second.colour, second.marker)
    assert first.linestyle != second.linestyle
    assert "psy-off" in second.label
    assert "LMMSE" not in second.label, "only what differs is named"


def test_every_known_scheme_has_a_look_of_its_own():
    looks = {(s.colour, s.marker) for s in map(scheme_style, style._LOOKS)}
    assert len(looks) == len(style._LOOKS)
    markers = [scheme_style(name).marker for name in style._LOOKS]
    assert len(set(markers)) == len(markers), "told apart without colour"
    assert scheme_style("my_codec") == scheme_style("my_codec")
    assert scheme_style("my_codec").marker not in markers


def linear(channel):
    channel = channel / 255
    return np.where(channel <= 0.04045, channel / 12.92, ((channel + 0.055) / 1.055) ** 2.4)


#: Viénot, Brettel and Mollon's (1999) dichromat simulations, on linear RGB.
PROTAN = np.array([[0.11238, 0.88762, 0], [0.11238, 0.88762, 0], [0.00401, -0.00401, 1]])
DEUTAN = np.array([[0.29275, 0.70725, 0], [0.29275, 0.70725, 0], [-0.02234, 0.02234, 1]])


@pytest.mark.parametrize("simulation", [PROTAN, DEUTAN], ids=["protanope", "deuteranope"])
def test_colours_stay_apart_for_the_colour_blind(simulation):
    colours = np.array([[int(c[i : i + 2], 16) for i in (1, 3, 5)] for c in style._COLOURS])
    seen = np.clip(linear(colours.astype(float)) @ simulation.T, 0, 1) ** (1 / 2.2)
    gaps = np.linalg.norm(seen[:, None] - seen[None], axis=-1)
    assert gaps[~np.eye(len(gaps), dtype=bool)].min() > 0.1


def test_figures_of_every_kind_are_drawn_at_printed_width(make_results, make_points):
    points = make_points(clips=("bikes",), schemes=("pvsc", "x265"), seeds=(1, 2), rates=(27, 37))
    folder = make_results(points)
    figures = draw_figures(read_results(folder), folder / "figures", ("png",), most=1)
    kinds = {path.name.split("_")[0] for path in figures.files}
    assert kinds == {"rate", "snr", "nmse", "cbr", "bler"}
    assert all(path.stat().st_size > 5000 for path in figures.files)
    for path in figures.files:
        inches = Image.open(path).width / 300
        wide = path.name.startswith("rate_grid")
        assert inches == pytest.approx(style.PAGE_WIDTH if wide else style.COLUMN_WIDTH, 0.01)
    assert any("coherence" in remark for remark in figures.remarks)


@pytest.fixture
def over_nmse(make_points):
    """The figure over NMSE, perfect CSI among its values, drawn but not written."""
    channels = [("rayleigh", nmse, 1) for nmse in (None, -20.0, -10.0)]
    keyed = with_curve_keys(
        make_points(clips=("bikes",), schemes=("x265",), channels=channels, snrs=(6.0,))
    )
    ((_, draw),) = axis_figures(keyed, curve_styles(keyed), "csi_nmse_db")
    return draw()


def test_better_is_upwards_in_every_panel(over_nmse):
    inverted = {panel.get_ylabel(): panel.yaxis_inverted() for panel in over_nmse.axes}
    up, down = r"$\uparrow$", r"$\downarrow$"
    assert inverted == {
        f"PSNR (dB) {up}": False,
        f"LPIPS (VGG) {down}": True,
        f"DISTS {down}": True,
    }


@pytest.mark.parametrize(
    ("low", "high", "numbers"),
    [
        (0.024, 0.095, [0.03, 0.045, 0.07]),
        (0.055, 0.21, [0.07, 0.1, 0.15, 0.2]),
        (0.01, 0.2, [0.01, 0.02, 0.05, 0.1, 0.2]),
        (0.001, 0.2, [0.001, 0.003, 0.01, 0.03, 0.1]),
        (0.051, 0.0555, [0.052, 0.054]),
    ],
)
def test_numbers_of_cbr_are_few_and_at_least_two(low, high, numbers):
    assert figures._numbers_of_cbr(low, high) == pytest.approx(numbers)


def test_perfect_csi_stands_left_of_the_smallest_nmse(over_nmse):
    """One step of 10 dB below -20 dB, in every panel, under a tick of its own."""
    for panel in over_nmse.axes:
        line, *_ends_of_bars = panel.get_lines()
        assert line.get_xdata().tolist() == [-30.0, -20.0, -10.0]
        assert not panel.xaxis_inverted()
    last = over_nmse.axes[-1]
    assert last.get_xticks().tolist() == [-30.0, -20.0, -10.0]
    assert [tick.get_text() for tick in last.get_xticklabels()] == ["perfect", "-20", "-10"]


def test_equal_results_give_equal_files(make_results, make_points, monkeypatch, tmp_path):
    """A date, an id of the moment or an order of the moment would show in every kind alike."""
    points = make_points(
        **{"schemes": ("pvsc",), "clips": ("bikes",), "snrs": (6.0,), "seeds": (1,)},
        channels=(("awgn", None, None),),
    )
    folder = make_results(points, metrics=("psnr",))
    monkeypatch.setattr(figures, "STYLE_FILE", tmp_path / "coarse.mplstyle")
    (tmp_path / "coarse.mplstyle").write_text(STYLE_FILE.read_text() + "savefig.dpi: 60\n")
    first = [path.read_bytes() for path in write_figures(folder, ("png", "svg", "pdf"))]
    assert first
    assert [path.read_bytes() for path in write_figures(folder, ("png", "svg", "pdf"))] == first


def test_bler_comes_from_the_choices_in_the_manifest_too(make_results):
    results = read_results(make_results())
    flat = results.bler[results.bler["channel"] == "awgn"]
    assert set(flat["mcs"]) >= {4, 5, 6, 7, 8}
    assert flat[(flat["mcs"] == 5) & (flat["snr_db"] == 0)]["bler"].item() == pytest.approx(0.1)
    assert not flat.duplicated(["mcs", "snr_db", "equalizer", "decoder"]).any()


def test_choices_with_the_default_transport_are_those_of_tables_without_it(tmp_path, make_points):
    words = "channel=awgn snr_db=6.0 equalizer=lmmse csi_aware=True decoder=layered "
    plain = " ".join(f"{name}={value}" for name, value in Transport().columns().items())
    short = plain.replace("block_length=6144", "block_length=1536")
    choices = {f"mcs_worth {words}{said} rates=[42]": [[9, 0.1, []]] for said in (plain, short)}
    table = bler_table(tmp_path, {"mcs_choice": choices}, make_points().iloc[:0])
    titles = [condition_words(row) for row in table[condition_columns()].to_dict("records")]
    assert sorted(titles) == ["AWGN, SNR 6 dB", "AWGN, SNR 6 dB, block length 1536"]


def test_a_strange_manifest_gives_no_bler(tmp_path, make_points):
    empty = make_points().iloc[:0]
    assert bler_table(tmp_path, {"mcs_choice": ["?"]}, empty).empty
    assert bler_table(
        tmp_path, {"mcs_choice": {"x": None, "mcs_worth channel=awgn": [1]}}, empty
    ).empty


def test_no_points_no_curves(make_points):
    curves = curve_set(make_points().assign(cbr=np.nan))
    assert curves.keyed.empty
    assert curves.styles == {}


def test_titles_say_what_varies_and_no_defaults():
    ofdm = {"channel": "ofdm", "snr_db": 6.0, "channel_model": "tdl_c", "num_rx": 2}
    ofdm |= {"delay_spread_ns": 300.0, "speed_kmh": 3.0}
    words = condition_words(ofdm)
    assert words == "OFDM, SNR 6 dB, delay spread 300 ns, rx 2"
    assert "speed 3 km/h" in condition_words(ofdm, ["speed_kmh"])
    erased = {"channel": "awgn", "snr_db": 6.0, "erasure_rate": 0.05}
    assert condition_words(erased) == "AWGN, SNR 6 dB, erasure rate 0.05"


def test_titles_and_file_names_say_harq_and_budget_in_words():
    told = Transport(harq=Harq(), latency_budget_ms=33.0).columns()
    sent = {"channel": "awgn", "snr_db": 6.0} | told
    words = "HARQ (ir, 4 rounds, round trip 4 ms), latency budget 33 ms"
    assert condition_words(sent).endswith(words)
    assert condition_slug(sent) == "awgn_snr6_frame_harq-ir-3-4ms_budget33"
    permuted = {"channel": "awgn", "snr_db": 6.0, "interleaving": "gop"}
    assert condition_slug(permuted) == "awgn_snr6_interleaving-gop"
    without = sent | {"harq": float("nan"), "transport_unit": "gop"}
    assert condition_words(without, ["harq"]) == "AWGN, SNR 6 dB, no HARQ, latency budget 33 ms"
    assert condition_words(sent | {"harq": "other"}).count("HARQ (other)") == 1


def test_a_label_names_the_preset_that_was_used(make_points):
    points = make_points(schemes=("x264",), clips=("bikes",)).assign(variant="psy, ultrafast")
    (styled,) = curve_styles(with_curve_keys(points)).values()
    assert styled.label == "x264 (ultrafast) + 5G LDPC"
    (plain,) = curve_styles(with_curve_keys(points.assign(variant="psy"))).values()
    assert plain.label == "x264 (veryslow) + 5G LDPC"
