"""CLIP similarity and FVD: drivers in a Python of the user's own, here one that answers itself.

What the drivers compute with real networks stands in ``test_drivers_with_torch.py``.
"""

import json
import os
import stat
import sys

import numpy as np
import pytest
from scipy.linalg import sqrtm

from pvsc_link.metrics import METRICS, FrameMetrics
from pvsc_link.metrics.drivers import fvd as fvd_driver
from pvsc_link.scenario import parse_scenario
from pvsc_link.sweep import build
from pvsc_link.types import CodecFailure, InputError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="stands in for a Python by a script")
VARIABLES = {"clip_similarity": "PVSC_LINK_CLIP_SIMILARITY", "fvd": "PVSC_LINK_FVD"}
NUM_FRAMES = 24
#: Reports versions, and answers with the mean difference and what it was called with.
ANSWERS = """
import json, os, sys
import numpy as np
driver, *words = sys.argv[1:]
if words == ["--versions"]:
    print("a line before the reply")
    print(json.dumps({"versions": {"torch": TORCH}}))
    sys.exit(0)
assert "PYTHONPATH" not in os.environ, "modules of pvsc_link's Python"
assert open(words[2]).read() == WEIGHTS
frames, frames_hat = (np.load(path).astype(float) for path in words[:2])
with open(COUNT, "a") as file:
    file.write(os.path.basename(driver) + "\\n")
difference = abs(frames - frames_hat).mean(axis=(1, 2, 3))
print(json.dumps({"values": difference.tolist()}))
"""


def clip(seed, num_frames=NUM_FRAMES):
    return np.random.default_rng(seed).integers(0, 256, (num_frames, 8, 6, 3), np.uint8)


class OwnPython:
    """A folder with ``pvsc_link.json``, a program in place of a Python, and weights."""

    def __init__(self, folder, name, monkeypatch):
        self.folder, self.name = folder, name
        folder.mkdir()
        monkeypatch.setenv(VARIABLES[name], str(folder))
        monkeypatch.setenv("PYTHONPATH", "/no/such/folder" + os.pathsep)
        self.write()

    def write(self, *, torch="2.0", weights="weights", text=ANSWERS):
        facts = f"TORCH, WEIGHTS, COUNT = {torch!r}, {weights!r}, {str(self.folder / 'count')!r}\n"
        # Another name for other versions, as another environment would have.
        program = self.folder / f"python-{torch}"
        program.write_text(f"#!{sys.executable}\n{facts}{text}")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        (self.folder / "net.pt").write_text(weights)
        settings = {"python": f"./python-{torch}", "weights": "net.pt"}
        (self.folder / "pvsc_link.json").write_text(json.dumps(settings))

    def runs(self):
        path = self.folder / "count"
        return path.read_text().split() if path.exists() else []


@pytest.fixture(params=list(VARIABLES))
def own(request, tmp_path, monkeypatch):
    return OwnPython(tmp_path / "own", request.param, monkeypatch)


def test_the_driver_gets_8_bit_frames_and_the_weights_and_its_values_are_taken(own, tmp_path):
    METRICS[own.name].measure.require()
    frames, frames_hat = clip(0), clip(1)
    values = FrameMetrics(tmp_path / "v.sqlite").evaluate([own.name], frames, frames_hat)
    expected = abs(frames.astype(float) - frames_hat).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(values[own.name], expected, rtol=1e-6)
    assert own.runs() == [f"{own.name}.py"]


def test_values_are_cached_until_weights_or_versions_change(own, tmp_path):
    def measure():
        return FrameMetrics(tmp_path / "v.sqlite").evaluate([own.name], clip(0), clip(1))

    for change, runs in (
        ({}, 1),
        ({}, 1),
        ({"weights": "other"}, 2),
        ({"torch": "2.1"}, 3),
        ({}, 3),
        ({"torch": "2.1"}, 3),
    ):
        own.write(**change)
        measure()
        assert len(own.runs()) == runs, change


def test_the_folder_may_lie_elsewhere_without_measuring_again(own, tmp_path, monkeypatch):
    build = METRICS[own.name].measure.build()
    own.folder.rename(tmp_path / "moved")
    monkeypatch.setenv(VARIABLES[own.name], str(tmp_path / "moved"))
    assert METRICS[own.name].measure.build() == build


@pytest.mark.parametrize("name", list(VARIABLES))
def test_without_the_variable_the_metric_is_refused_with_the_remedy(name, monkeypatch):
    monkeypatch.delenv(VARIABLES[name], raising=False)
    with pytest.raises(InputError, match=rf"{VARIABLES[name]} is not set.*pvsc_link\.json"):
        METRICS[name].measure.require()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (None, "python in .*not stated"),
        ({"weights": "net.pt"}, "python in .*not stated"),
        ({"python": "./no-python", "weights": "net.pt"}, "no-python"),
        ({"python": "./python-2.0"}, "weights in .*not stated"),
        ({"python": "./python-2.0", "weights": "none.pt"}, "none.pt"),
        ({"pyton": "./python-2.0"}, "Did you mean 'python'"),
    ],
)
def test_what_the_settings_lack_is_named(own, settings, said):
    path = own.folder / "pvsc_link.json"
    path.unlink() if settings is None else path.write_text(json.dumps(settings))
    with pytest.raises(InputError, match=said):
        METRICS[own.name].measure.require()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import sys; sys.exit('No module named torch')", "No module named torch"),
        ("print('hello')", "reports no versions"),
    ],
)
def test_a_python_without_the_packages_is_refused_before_anything_is_measured(own, text, said):
    own.write(torch=f"broken-{abs(hash(text))}", text=text)
    with pytest.raises(InputError, match=said):
        METRICS[own.name].measure.require()


def test_a_driver_that_fails_becomes_a_status_with_its_words(own, tmp_path):
    own.write(text=ANSWERS.replace("frames, frames_hat =", "sys.exit('out of memory')\nframes ="))
    with pytest.raises(CodecFailure, match="out of memory"):
        FrameMetrics(tmp_path / "v.sqlite").evaluate([own.name], clip(0), clip(1))


def test_a_clip_without_two_windows_has_no_fvd(tmp_path, monkeypatch):
    OwnPython(tmp_path / "own", "fvd", monkeypatch)
    with pytest.raises(InputError, match=r"too short.*23 frames.*at least 24"):
        FrameMetrics(tmp_path / "v.sqlite").evaluate(["fvd"], clip(0, 23), clip(1, 23))


def test_a_sweep_with_clips_too_short_for_fvd_is_refused_before_it_starts():
    def plan(**media):
        return build(
            parse_scenario(
                {
                    "name": "short",
                    "media": {"clips": ["carphone"], **media},
                    "link": {"snr_db": 6},
                    "schemes": [{"scheme": "x264", "rates": 40, "mcs": 4}],
                    "metrics": ["fvd"],
                },
                where="test",
            )
        )

    with pytest.raises(InputError, match=r"too short for the metric fvd.*20 frames"):
        plan(gop=[5, 12], num_gops=4)
    assert plan(gop=[6, 12], num_gops=4).points


def windows_of(num_frames):
    frames = np.arange(num_frames, dtype=np.uint8)[:, None, None, None]
    return fvd_driver.windows(frames)[:, :, 0, 0, 0].tolist()


def test_windows_have_16_frames_and_begin_at_every_eighth():
    assert windows_of(24) == [list(range(16)), list(range(8, 24))]
    assert windows_of(31) == windows_of(24)
    assert len(windows_of(32)) == 3
    assert METRICS["fvd"].fewest_frames == fvd_driver.FEWEST_FRAMES == 24


def test_the_driver_itself_says_why_a_clip_is_too_short():
    with pytest.raises(SystemExit, match=r"at least 24 frames.*this clip has 23"):
        windows_of(23)


def by_scipy(features, features_hat):
    """The formula as it is written, on means and covariances."""
    (m, c), (m_hat, c_hat) = (
        (f.mean(axis=0), np.cov(f, rowvar=False)) for f in (features, features_hat)
    )
    root = sqrtm(c @ c_hat)
    return np.sum((m - m_hat) ** 2) + np.trace(c + c_hat - 2 * np.real(root))


def features_with(mean, covariance, num=64, seed=0):
    """Features with exactly this mean and this covariance."""
    free = np.random.default_rng(seed).normal(size=(num, len(mean)))
    free -= free.mean(axis=0)
    white = np.linalg.qr(free)[0] * np.sqrt(num - 1)
    values, vectors = np.linalg.eigh(covariance)
    return mean + white @ (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


MATRICES = {
    "regular": (
        [[4.0, 1, 0], [1, 3, 0.5], [0, 0.5, 2]],
        [[2.0, -0.5, 0.3], [-0.5, 1, 0], [0.3, 0, 5]],
    ),
    "equal": ([[2.0, 0.5, 0], [0.5, 1, 0], [0, 0, 3]], [[2.0, 0.5, 0], [0.5, 1, 0], [0, 0, 3]]),
    "one singular": (np.diag([4.0, 0, 1]), [[2.0, 0.5, 0], [0.5, 1, 0], [0, 0, 3]]),
    "both singular": (np.diag([4.0, 0, 1]), np.diag([9.0, 2, 0])),
    "one zero": (np.zeros((3, 3)), np.diag([9.0, 2, 0])),
}


@pytest.mark.parametrize("name", list(MATRICES))
def test_the_frechet_distance_is_that_of_the_formula_on_fixed_matrices(name):
    c, c_hat = (np.array(matrix) for matrix in MATRICES[name])
    mean, mean_hat = np.array([1.0, 2, 3]), np.array([1.0, 0, 5])
    pair = features_with(mean, c), features_with(mean_hat, c_hat, num=40, seed=1)
    np.testing.assert_allclose(np.cov(pair[1], rowvar=False), c_hat, atol=1e-12)
    # Eigenvalues of a product of two covariances are real and at least 0, singular or not.
    eigenvalues = np.maximum(np.linalg.eigvals(c @ c_hat).real, 0)
    expected = 8 + np.trace(c + c_hat) - 2 * np.sqrt(eigenvalues).sum()
    assert fvd_driver.frechet_distance(*pair) == pytest.approx(expected, abs=1e-6)
    if name in ("regular", "equal"):  # scipy's root of a singular matrix is not reliable
        assert fvd_driver.frechet_distance(*pair) == pytest.approx(by_scipy(*pair), abs=1e-9)


def test_fewer_windows_than_features_are_a_distance_too():
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(5, 12)), rng.normal(size=(7, 12)) + 1
    assert fvd_driver.frechet_distance(*pair) == pytest.approx(by_scipy(*pair), rel=1e-6)
    assert fvd_driver.frechet_distance(pair[0], pair[0]) == pytest.approx(0, abs=1e-9)
    moved = fvd_driver.frechet_distance(pair[0], pair[0] + 2.0)
    assert moved == pytest.approx(12 * 4.0)
    assert fvd_driver.frechet_distance(*pair) == pytest.approx(
        fvd_driver.frechet_distance(*pair[::-1])
    )
