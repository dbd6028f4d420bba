"""Sphinx configuration: ``sphinx-build -W -b html docs docs/_build``.

The references of scenario and training files are written from their schemas before each build.
"""

import os
import re
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from pvsc_link import __version__
from pvsc_link.scenario import Scenario
from pvsc_link.scenario.reference import as_markdown, keys_of
from pvsc_link.train.config import TrainConfig

project = "pvsc_link"
author = "The pvsc_link authors"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = f"pvsc_link {__version__}"
html_static_path = []
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
# A scenario's reference is text; what a signature's defaults compute is not shown.
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_custom_sections = [("Input", "params_style"), ("Output", "returns_style")]
suppress_warnings = ["config.cache"]


def write_references(app: object) -> None:
    """The tables of all keys, which ``scenario_reference.md`` and ``training.md`` include."""
    folder = Path(__file__).parent / "_generated"
    folder.mkdir(exist_ok=True)
    for name, model in {"scenario": Scenario, "training": TrainConfig}.items():
        (folder / f"{name}_keys.md").write_text(as_markdown(keys_of(model.model_json_schema())))


_ITEM = re.compile(r"(\*{0,2}[\w`]+(, )?)+ : |[\w.]+\.? ?$")


def end_sections(
    app: object, what: str, name: str, of: object, options: object, lines: list
) -> None:
    """Give a paragraph that follows a list of parameters a heading, so that it is no parameter."""
    shown: list[str] = []
    inside = False
    for index, line in enumerate(lines):
        is_heading = index + 1 < len(lines) and set(lines[index + 1]) == {"-"}
        if is_heading:
            inside = line in ("Parameters", "Input", "Output")
        after_a_blank = not (shown and shown[-1])
        is_text = bool(line) and not is_heading and line[0] != " "
        if inside and after_a_blank and is_text and not _ITEM.match(line):
            shown += ["Notes", "-----"]
            inside = False
        shown.append(line)
    lines[:] = shown


def setup(app: object) -> None:
    app.connect("builder-inited", write_references)  # type: ignore[attr-defined]
    # Before napoleon, which reads the sections.
    app.connect("autodoc-process-docstring", end_sections, 400)  # type: ignore[attr-defined]
