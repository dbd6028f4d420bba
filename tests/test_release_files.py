"""What a release is made of states one version and one licence, and copies files that exist."""

import re
import tomllib
from pathlib import Path

import yaml

from pvsc_link._version import __version__

ROOT = Path(__file__).parents[1]


def test_citation_and_project_state_the_same():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    assert citation["license"] == project["license"]
    names = {author["name"] for author in citation["authors"]}
    assert names == {author["name"] for author in project["authors"]}


def test_the_image_copies_what_the_project_is_built_from():
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), flags=re.M)
    names = {name for line in copied for name in line.split()}
    assert all((ROOT / name).exists() for name in names)
    assert {"pyproject.toml", "README.md", "LICENSE", "pvsc_link", "scenarios"} <= names


def test_the_workflows_are_yaml_and_run_what_is_here():
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    steps = [step.get("run", "") for step in release["jobs"]["build"]["steps"]]
    assert "bash .ci/run" in steps
    assert any("_version.py" in step for step in steps)
    site = yaml.safe_load((ROOT / ".readthedocs.yaml").read_text())
    assert (ROOT / site["sphinx"]["configuration"]).is_file()
    assert site["sphinx"]["fail_on_warning"]
