"""Scenarios that come with the package, found by name from anywhere."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import pvsc_link
from pvsc_link.scenario.loader import SHIPPED, find_scenario, load_scenario, shipped_scenarios
from pvsc_link.sweep.__main__ import main
from pvsc_link.types import InputError

ROOT = Path(pvsc_link.__file__).parents[1]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_every_scenario_of_the_package_loads_by_its_name():
    names = list(shipped_scenarios())
    assert {"quickstart", "rayleigh_nmse"} <= set(names)
    assert [load_scenario(name).name for name in names] == names


def test_a_file_of_the_name_wins(tmp_path):
    (tmp_path / "quickstart").write_text("name: mine")
    assert find_scenario("quickstart") == Path("quickstart")
    assert find_scenario("cliff") == SHIPPED / "cliff.yaml"


@pytest.mark.parametrize("name", ["no/such", "quickstart.yaml"])
def test_a_path_is_never_taken_for_a_name(name):
    with pytest.raises(InputError, match="file is missing"):
        load_scenario(name)


def test_an_unknown_name_is_told_with_those_that_there_are(capsys):
    assert main(["quikstart"]) == 2
    said = capsys.readouterr().err
    assert "Did you mean 'quickstart'?" in said
    assert "rayleigh_nmse" in said


def test_the_list_names_each_with_a_sentence(capsys):
    assert main(["--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(shipped_scenarios())
    assert all(len(line.split()) > 5 for line in lines)


@pytest.mark.slow
def test_a_wheel_holds_them(tmp_path):
    """What pip builds, unpacked, runs a scenario by its name."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("pvsc_link", "scenarios"):
        shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), "."]
    built = subprocess.run(command, cwd=source, capture_output=True, text=True)
    if built.returncode:
        pytest.skip(f"no wheel can be built here: {built.stderr[-200:]}")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "installed")
    code = (
        "import pvsc_link, sys; assert pvsc_link.__file__.startswith(sys.argv[1]);"
        "from pvsc_link.commands import main; sys.exit(main(['sweep', 'quickstart', '--dry-run']))"
    )
    where = str(tmp_path / "installed")
    done = subprocess.run(
        [sys.executable, "-c", code, where],
        cwd=tmp_path,
        env={"PYTHONPATH": where, "PATH": "/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2].startswith("38 points")


def test_the_cliff_shows_the_side_link_at_the_mcs_of_the_codecs_and_at_a_safer_one():
    entries = load_scenario(find_scenario("cliff")).schemes
    semantic = ("pvsc", "pvsc-mc")
    of_codecs = {mcs for entry in entries if entry.scheme not in semantic for mcs in entry.mcs}
    sides = [entry.mcs for entry in entries if entry.scheme in semantic]
    assert len(of_codecs) == 1
    assert len(sides) == 2
    for side in sides:
        assert len(side) == 2
        assert of_codecs < set(side)
        assert min(side) < min(of_codecs)
