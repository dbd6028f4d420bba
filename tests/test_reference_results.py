"""Committed results are those of the weights in the package and of the rules in force.

Rule 8 of docs/fairness.md. A folder whose rows are older stands in a list below, with what is old
about it. When its scenario has run anew, the folder leaves the list: the tests fail as well where
a folder of a list is current.
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
#: Folders whose rows were made under earlier rules of transport, accounting and losses.
EARLIER_RULES = {
    *("awgn_snr", "baselines", "cliff", "coherence", "float_mismatch", "ofdm_tdl", "quickstart"),
    *("rayleigh_nmse", "trained_awgn", "trained_rayleigh", "umi"),
}
#: Folders with rows of weights that the package had earlier.
EARLIER_WEIGHTS = {"baselines", "coherence", "float_mismatch", "rayleigh_nmse"}


def manifest_of(name):
    return json.loads((REFERENCE / name / "manifest.json").read_text())


def test_there_are_committed_sweeps_and_the_lists_name_no_others():
    assert len(SWEEPS) > 5
    assert set(SWEEPS) >= EARLIER_RULES | EARLIER_WEIGHTS


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_were_made_under_the_rules_in_force(name):
    rules = manifest_of(name)["rules"]
    assert (rules != RULES) == (name in EARLIER_RULES), f"rules {rules}, in force are {RULES}"


@pytest.mark.parametrize("name", SWEEPS)
def test_rows_were_made_with_the_weights_in_the_package(name):
    weights, known = manifest_of(name)["weights"], packaged_identities()
    other = {label: identity for label, identity in weights.items() if identity not in known}
    assert bool(other) == (name in EARLIER_WEIGHTS), f"{other or weights}; the package has {known}"


@pytest.mark.parametrize("name", SWEEPS)
def test_every_scheme_with_weights_states_their_digest(name):
    points = pd.read_csv(REFERENCE / name / "points.csv")
    learned = points[points["scheme"].isin(["pvsc", "lvc"]) & (points["status"] != "untrained")]
    labels = set(learned["scheme"] + ":" + learned["variant"].fillna(""))
    assert set(manifest_of(name)["weights"]) == labels


@pytest.mark.parametrize("name", SWEEPS)
def test_weights_are_named_as_the_scheme_that_used_them(name):
    """A row says lvc-l1, so its digest is that of lvc_l1, and so on."""
    known = packaged_identities()
    for label, identity in manifest_of(name)["weights"].items():
        if identity in known:
            training = known[identity].removeprefix("pvsc_small").strip("_")
            assert training.replace("_", "-") in label, (label, known[identity])
            if not training:
                assert label.startswith("pvsc:"), label
                assert "weights" not in label, label


def test_drift_is_that_of_the_weights_in_the_package():
    drift = pd.read_csv(REFERENCE / "drift" / "drift.csv")
    assert set(drift["weights"]) <= set(packaged_identities())


def test_another_digest_other_rules_and_a_missing_statement_are_reasons():
    (identity, *_) = packaged_identities()
    current = {"rules": RULES, "weights": {"pvsc:pvsc_small-range": identity}}
    assert stale_reasons(current) == []
    (other,) = stale_reasons(current | {"weights": {"pvsc:pvsc_small-range": "0123456789ab"}})
    assert "0123456789ab, which the package lacks" in other
    (rules,) = stale_reasons(current | {"rules": RULES - 1})
    assert f"version {RULES} is in force" in rules
    unstated = stale_reasons({})
    assert len(unstated) == 2
    assert "earlier rules" in unstated[0]
