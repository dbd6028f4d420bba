"""Committed results are those of the weights in the package and of the rules in force.

Rule 8 of docs/fairness.md. A folder whose rows are older stands in ``EARLIER``. When its scenario
has run anew, it leaves that list: the tests fail as well where a folder of the list is current.
"""

import json
from pathlib import Path

import pandas as pd
import pytest

from pvsc_link.models import packaged_identities
from pvsc_link.sweep import stale_reasons
from pvsc_link.sweep.store import RULES

REFERENCE = Path(__file__).parents[1] / "results" / "reference"
SWEEPS = sorted(
    path.parent.name
    for path in REFERENCE.glob("*/manifest.json")
    if "scenario" in json.loads(path.read_text())
)
#: Folders whose rows were made under earlier rules of transport, accounting and losses, or with
#: weights that the package had earlier.
EARLIER: set[str] = set()


def manifest_of(name):
    return json.loads((REFERENCE / name / "manifest.json").read_text())


def test_there_are_committed_sweeps_and_the_list_names_no_other_folder():
    assert len(SWEEPS) > 5
    assert {*SWEEPS, "drift"} >= EARLIER


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_are_those_of_the_rules_in_force_and_of_the_weights_in_the_package(name):
    reasons = stale_reasons(manifest_of(name), packaged_identities())
    assert bool(reasons) == (name in EARLIER), reasons or "current: take it out of EARLIER"


@pytest.mark.parametrize("name", SWEEPS)
def test_every_scheme_with_weights_states_their_digest(name):
    points = pd.read_csv(REFERENCE / name / "points.csv")
    learned = points[
        points["scheme"].isin(["pvsc", "pvsc-mc", "pvsc-intra", "dvst", "lvc", "foreign"])
    ]
    learned = learned[learned["status"] != "untrained"]
    labels = set(learned["scheme"] + ":" + learned["variant"].fillna(""))
    assert set(manifest_of(name)["weights"]) == labels


def misnamed(label, trained):
    """Whether a scheme's label and the preset and training of its weights contradict each other."""
    preset, _, training = trained.partition("_small")
    words = label.partition(":")[2].split(", ")
    if label.startswith("dvst:"):
        return words[0] != trained
    if label.startswith("lvc:"):
        of_variant = "" if words[0] == "pvsc-digital" else words[0].replace("-", "_")
        named = words[1] if words[1:] and words[1].endswith("_small") else "pvsc_mc_small"
        return of_variant != training.strip("_") or named != f"{preset}_small"
    if training and f"weights {training.strip('_')}" not in words:
        return True
    return not words[0].startswith(f"{preset}_small")


@pytest.mark.parametrize("name", [name for name in SWEEPS if name not in EARLIER] or [None])
def test_weights_are_those_that_the_label_of_their_rows_says(name):
    known = packaged_identities()
    for label, identity in (manifest_of(name)["weights"] if name else {}).items():
        if label.startswith("foreign:"):  # a model of the user's
            continue
        assert not misnamed(label, known[identity]), (label, known[identity])


@pytest.mark.parametrize(
    ("label", "trained", "wrong"),
    [
        ("lvc:lvc-l1", "pvsc_mc_small_lvc_l1", False),
        ("lvc:lvc-perceptual, receiver xla", "pvsc_mc_small_lvc_perceptual", False),
        ("lvc:lvc-l1", "pvsc_mc_small_lvc_perceptual", True),
        ("lvc:lvc-perceptual", "pvsc_small_lvc_perceptual", True),
        ("lvc:lvc-perceptual, pvsc_small", "pvsc_small_lvc_perceptual", False),
        ("lvc:pvsc-digital, pvsc_small", "pvsc_small", False),
        ("lvc:pvsc-digital, pvsc_small", "pvsc_mc_small", True),
        ("pvsc-mc:pvsc_mc_small-range", "pvsc_mc_small", False),
        ("pvsc-mc:pvsc_mc_small-range, weights rayleigh", "pvsc_mc_small_rayleigh", False),
        ("pvsc-mc:pvsc_mc_small-range", "pvsc_mc_small_rayleigh", True),
        ("pvsc:pvsc_small", "pvsc_mc_small", True),
        ("dvst:dvst_tiny", "dvst_tiny", False),
        ("dvst:dvst_tiny", "pvsc_small", True),
    ],
)
def test_a_label_and_the_training_of_other_weights_contradict_each_other(label, trained, wrong):
    assert misnamed(label, trained) == wrong


def test_drift_is_that_of_the_weights_in_the_package():
    drift = pd.read_csv(REFERENCE / "drift" / "drift.csv")
    current = set(drift["weights"]) <= set(packaged_identities())
    assert current != ("drift" in EARLIER), set(drift["weights"])


def test_another_digest_other_rules_and_a_missing_statement_are_reasons():
    known = packaged_identities()
    (identity, *_) = known
    current = {"rules": RULES, "weights": {"pvsc:pvsc_small-range": identity}}
    assert stale_reasons(current, known) == []
    changed = current | {"weights": {"pvsc:pvsc_small-range": "0123456789ab"}}
    assert stale_reasons(changed) == [], "weights are compared where those in the package are given"
    (other,) = stale_reasons(changed, known)
    assert "0123456789ab, which the package lacks" in other
    (rules,) = stale_reasons(current | {"rules": RULES - 1}, known)
    assert f"version {RULES} is in force" in rules
    unstated = stale_reasons({})
    assert len(unstated) == 2
    assert "earlier rules" in unstated[0]
