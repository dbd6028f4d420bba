"""The gates of the trained weights are read from results, and say what they lack."""

import json

import pandas as pd
import pytest

from pvsc_link.bench import gates


def curve(scheme, variant, cbrs, lpips, **condition):
    place = {"channel": "awgn", "snr_db": 6.0, "csi_nmse_db": None, "gop": 4, "clip": "bikes"}
    shared = {
        "equalizer": "zf",
        "csi_aware": True,
        "mcs_policy": "best",
        "decoder": "layered",
        "coherence_length": None,
        "seed": 1,
        "status": "ok",
        "scheme": scheme,
        "variant": variant,
        **place,
        **condition,
    }
    return [
        {**shared, "rate": i, "cbr": c, "lpips": q, "dists": q, "psnr_db": 40 - 30 * q}
        for i, (c, q) in enumerate(zip(cbrs, lpips, strict=True))
    ]


LPIPS = [0.5, 0.4, 0.3, 0.2]
CBR = [0.01, 0.02, 0.04, 0.08]


@pytest.fixture
def points():
    rows = curve("x265", "", CBR, LPIPS)
    rows += curve("precoded", "VTM-17.0", [c / 4 for c in CBR], LPIPS)
    rows += curve("pvsc-mc", "pvsc_mc_small", [c / 2 for c in CBR], LPIPS)
    rows += curve("lvc", "lvc-perceptual", CBR, LPIPS, status="untrained")
    return pd.DataFrame(rows)


def of(points, number, metric, drift=None):
    chosen = [v for v in gates.verdicts(points, drift) if v.number == number]
    return next(v for v in chosen if metric in v.title)


def test_half_the_bandwidth_holds_against_one_anchor_and_fails_against_the_other(points):
    won, lost = of(points, 3, "lpips"), of(points, 4, "lpips")
    assert won.holds is True
    assert "BD-CBR -50.0 %" in won.found
    assert lost.holds is False
    assert "BD-CBR +100.0 %" in lost.found


def test_untrained_rows_and_missing_conditions_are_not_measured(points):
    assert of(points, 2, "lpips").holds is None
    assert of(points, 1, "psnr").holds is None
    assert str(of(points, 1, "psnr")).startswith("gate 1  not measured")


def test_several_clips_count_by_their_mean(points):
    other = points.assign(clip="carphone")
    other.loc[other["scheme"] == "pvsc-mc", "cbr"] *= 2
    found = of(pd.concat([points, other]), 3, "lpips").found
    assert "BD-CBR -25.0 %" in found
    assert "carphone +0.0" in found


def test_under_fading_every_equalizer_of_pvsc_has_a_verdict_of_its_own():
    fading = {"channel": "rayleigh", "csi_nmse_db": -10.0}
    rows = curve("lvc", "lvc-perceptual", CBR, LPIPS, equalizer="lmmse", **fading)
    rows += curve("pvsc-mc", "pvsc_mc_small", [2 * c for c in CBR], LPIPS, equalizer="zf", **fading)
    shrunk = {"equalizer": "biased_lmmse", **fading}
    rows += curve("pvsc-mc", "pvsc_mc_small", [c / 2 for c in CBR], LPIPS, **shrunk)
    every = [v for v in gates.verdicts(pd.DataFrame(rows)) if "rayleigh" in v.title]
    found = [v for v in every if v.title.startswith("pvsc-mc")]
    assert [v.holds for v in found] == [False, True, None]
    assert "pvsc-mc zf against" in found[0].title
    assert "BD-CBR -50.0 %" in found[1].found


def test_weights_for_another_channel_have_a_verdict_of_their_own():
    fading = {"channel": "rayleigh", "csi_nmse_db": -10.0}
    rows = curve("lvc", "lvc-perceptual", CBR, LPIPS, equalizer="lmmse", **fading)
    pvsc = {"equalizer": "biased_lmmse", **fading}
    rows += curve("pvsc-mc", "pvsc_mc_small-range", CBR, LPIPS, **pvsc)
    halved = [c / 2 for c in CBR]
    rows += curve("pvsc-mc", "pvsc_mc_small-range, weights rayleigh", halved, LPIPS, **pvsc)
    found = {v.title: v.found for v in gates.verdicts(pd.DataFrame(rows)) if "biased" in v.title}
    own, other = (found[t] for t in sorted(found, key=len))
    assert "BD-CBR +0.0 %" in own
    assert "BD-CBR -50.0 %" in other
    assert any("biased_lmmse and rayleigh weights against" in title for title in found)


def test_the_papers_system_meets_the_codec_of_its_own_backbone_and_the_others_with_intervals():
    rows = curve("x264", "psy", CBR, LPIPS)
    rows += curve("lvc", "lvc-perceptual", [c / 9 for c in CBR], LPIPS)  # of the other backbone
    rows += curve("lvc", "lvc-perceptual, pvsc_small", CBR, LPIPS)
    rows += curve("pvsc", "pvsc_small", [c / 2 for c in CBR], LPIPS)
    rows += curve("pvsc", "pvsc_small-range", [c / 8 for c in CBR], LPIPS)
    of_clips = [pd.DataFrame(rows).assign(clip=clip) for clip in ("bikes", "carphone", "table")]
    found = [v for v in gates.verdicts(pd.concat(of_clips)) if v.title.startswith("pvsc:")]
    own = [v for v in found if v.number == 8]
    assert len(own) == len(gates._SNRS_DB) + 2
    assert [v.holds for v in own] == [None, None, True, None, None, None]
    assert "BD-CBR -50.0 %, 95 % over clips -50.0 to -50.0" in own[2].found
    assert "no results" in own[0].found
    others = {v.title.split(",")[0]: v for v in found if v.number == 9 and "lpips" in v.title}
    assert others["pvsc:pvsc_small against x264"].holds is True
    assert "no results" in others["pvsc:pvsc_small against x265"].found


def test_drift_of_either_system_is_read_from_rows_of_its_own_preset(points):
    rows = pd.DataFrame({"frame": range(12), "lpips": [0.1] + [0.2] * 10 + [0.3]})
    both = pd.concat([rows.assign(preset="pvsc_small"), rows.assign(preset="pvsc_mc_small")])
    both.loc[both["preset"] == "pvsc_mc_small", "lpips"] = 0.2
    assert of(points, 5, "pvsc-mc", both).holds is True
    assert of(points, 10, "pvsc", both).holds is False
    alone = both[both["preset"] == "pvsc_mc_small"]
    assert of(points, 10, "pvsc", alone).holds is None


def test_drift_compares_the_last_with_the_second_frame_of_every_gop():
    lpips = [0.1] + [0.2] * 10 + [0.21]
    drift = pd.DataFrame({"frame": range(24), "lpips": lpips * 2})
    assert gates._drift_verdict(drift).holds is True
    worse = drift.assign(lpips=[0.1] + [0.2] * 10 + [0.23] + lpips[:11] + [0.23])
    assert gates._drift_verdict(worse).holds is False
    both = pd.concat([worse.assign(refresh_every=0), drift.assign(refresh_every=4)])
    assert gates._drift_verdict(both).holds is True
    assert "no refresh" in gates._drift_verdict(both).found


def test_drift_of_other_weights_than_those_of_the_sweeps_says_nothing(points, tmp_path, capsys):
    rows = {"frame": range(12), "lpips": [0.2] * 12}
    drift = pd.DataFrame({**rows, "weights": "old"})
    assert gates._drift_verdict(drift, {"old"}).holds is True
    both = pd.concat([drift.assign(weights="new"), drift.assign(lpips=range(12))])
    assert gates._drift_verdict(both, {"new"}).holds is True
    points.assign(note="").to_csv(tmp_path / "points.csv", index=False)
    drift.to_csv(tmp_path / "drift.csv", index=False)
    weights = {"lvc:lvc-l1": "old", "pvsc-mc:pvsc_mc_small": "new"}
    (tmp_path / "manifest.json").write_text(json.dumps({"weights": weights}))
    assert gates.main([str(tmp_path), "--drift", str(tmp_path / "drift.csv")]) == 1
    said = capsys.readouterr()
    assert "drift.csv is of weights old, the results of new" in said.out
    assert "earlier rules" in said.err
    assert "weights new, which the package lacks" in said.err


def test_a_gate_counts_what_stands_behind_it_and_takes_the_default_transport_alone(points):
    plain = points.assign(num_frames=8, num_fades=3)
    dearer = plain.assign(block_length=1536)
    dearer.loc[dearer["scheme"] == "pvsc-mc", "cbr"] *= 4
    found = of(pd.concat([plain, dearer]), 3, "lpips").found
    assert "BD-CBR -50.0 %, no interval, 1 clip, 2 GOPs, 1 seed, 3 fades" in found


def test_the_command_answers_for_folders_that_are_not_there(tmp_path, capsys):
    assert gates.main([str(tmp_path / "nowhere")]) == 2
    assert "no results" in capsys.readouterr().err


def test_the_command_passes_over_a_sweep_that_is_not_finished(tmp_path, capsys):
    (tmp_path / "running").mkdir()
    assert gates.main([str(tmp_path / "running")]) == 2
    assert "no results" in capsys.readouterr().err
