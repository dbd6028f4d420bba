"""Weights of a training run in a scheme: its rows name the preset that was trained."""

import shutil

import pytest

from pvsc_link.codecs.lvc import LearnedCodec
from pvsc_link.models.zoo import PACKAGED
from pvsc_link.schemes.semantic import DvstScheme, SemanticScheme


@pytest.fixture
def copied(tmp_path):
    """A function that lays files of the package out as a training run does; returns the folder."""

    def copy(**files):
        folder = tmp_path / "my_run" / "weights"
        folder.mkdir(parents=True)
        for name, packaged in files.items():
            for ending in (".weights.h5", ".json"):
                shutil.copy(PACKAGED / f"{packaged}{ending}", folder / f"{name}{ending}")
        return str(folder)

    return copy


@pytest.mark.parametrize("made", [SemanticScheme, LearnedCodec])
def test_weights_of_another_preset_name_theirs(made, copied):
    folder = copied(intra="pvsc_small_intra", inter="pvsc_small")
    scheme = made(preset="pvsc_tiny", weights=folder)
    assert "pvsc_small, weights my_run" in scheme.variant
    assert "pvsc_tiny" not in scheme.variant
    assert scheme.status == "ok"


def test_dvst_names_the_preset_of_its_weights(copied):
    folder = copied(intra="dvst_tiny_intra", inter_rate1="dvst_tiny_rate1")
    scheme = DvstScheme(preset="dvst_paper", weights=folder)
    assert scheme.variant == "dvst_tiny, weights my_run"
    assert (scheme.allowed_rates, scheme.status) == ((1,), "ok")
