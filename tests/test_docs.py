"""README and docs: every block of code runs, every link leads somewhere, the site has no warning.

A comment before a block says how it is treated: ``<!-- slow -->`` leaves it to the slow tests,
``<!-- not run: WHY -->`` to a person. ``<!-- part: PLACE -->`` marks YAML that is put at this place
of the file before it on the page (``file``: the top level), which is then checked. Blocks of
Python, YAML, JSON and shell need no comment. Blocks of bash are run by bash.
"""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from PIL import Image

from pvsc_link.commands import COMMANDS, main
from pvsc_link.media import Mp4Writer, load_clip
from pvsc_link.metrics import METRICS
from pvsc_link.scenario import load_scenario
from pvsc_link.train import load_train_config

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Pages whose blocks need more than a folder; the tests that run them.
ELSEWHERE = {
    "channels.md": "link/test_channel_docs.py",
    "transport.md": "link/test_transport_docs.py",
}
#: What a part of a scenario is put into where the page has shown no file before it.
BASE = {
    "name": "base",
    "media": {"clips": "carphone", "gop": 2, "num_gops": 1},
    "link": {"snr_db": 20},
    "schemes": [
        {"scheme": "x264", "rates": [37], "mcs": 10, "preset": "ultrafast"},
        {"scheme": "x265", "rates": [37], "mcs": 10, "preset": "ultrafast"},
    ],
    "metrics": "psnr",
}
#: The command that pip installs, as a function of bash.
_PVSC_LINK = f'pvsc-link() {{ {sys.executable} -m pvsc_link "$@"; }}\n'
_FENCE = re.compile(
    r"^(?:<!-- (?P<marker>[^\n]*?) -->\n)?```(?P<language>\w+)\n(?P<code>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    language: str
    marker: str
    code: str


def blocks_of(page):
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [Block(one["language"], one["marker"] or "", one["code"]) for one in found]


def run(block, names):
    """Run a block; ``names`` : what the blocks of Python before it on the page have defined."""
    if block.language == "python":
        exec(compile(block.code, "block", "exec"), names)
    elif block.language == "json":
        json.loads(block.code)
    elif block.language == "yaml":
        check_yaml(block, names)
    elif block.language == "bash":
        command = ["bash", "-euo", "pipefail", "-c", _PVSC_LINK + block.code]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    elif block.language == "sh":
        for line in block.code.strip().splitlines():
            words = shlex.split(line)
            if words[0] == "python":
                assert words[1] == "-m"
                words = ["pvsc-link", *words[2].removeprefix("pvsc_link.").split(), *words[3:]]
            assert words[0] == "pvsc-link", line
            assert words[1] in COMMANDS, line
            assert main(words[1:]) == 0, line


def check_yaml(block, names):
    """Read a scenario or training file, or such a file with the part that the block shows."""
    data = yaml.safe_load(block.code)
    place = block.marker.removeprefix("part: ")
    if place != block.marker:
        part, data = data, names.get("file before", BASE)
        if place == "file":
            data = data | part
        elif place == "schemes":
            data = data | {"schemes": part}
        else:
            assert place == "schemes.0", place
            first, *others = data["schemes"]
            data = data | {"schemes": [first | part, *others]}
        data, text = data | {"name": "with_part"}, None
    else:
        names["file before"], text = data, block.code
    file = Path(f"{data['name']}.yaml")
    file.write_text(text or yaml.safe_dump(data))
    if "phases" not in data:
        load_scenario(file)
        return
    load_train_config(file)
    for variant in data.get("variants", ()):
        load_train_config(file, [variant])


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder to run in, with the committed results and a reader's own files in ``my``.

    What a block registers is forgotten.
    """
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my" / "pictures").mkdir(parents=True)
    Image.new("RGB", (48, 32)).save(tmp_path / "my" / "pictures" / "grey.png")
    (tmp_path / "my" / "scenario.yaml").write_text(yaml.safe_dump(BASE | {"seed": [1, 2]}))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reference").symlink_to(ROOT / "results" / "reference")
    monkeypatch.setattr(METRICS, "data", dict(METRICS.data))
    return tmp_path


def to_run(slow):
    for page in PAGES:
        blocks = [block for block in blocks_of(page) if not block.marker.startswith("not run: ")]
        chosen = blocks if slow else [block for block in blocks if block.marker != "slow"]
        has_slow = any(block.marker == "slow" for block in blocks)
        if page.name not in ELSEWHERE and chosen and (has_slow or not slow):
            yield pytest.param(chosen, id=page.stem)


@pytest.mark.parametrize("blocks", to_run(slow=False))
def test_the_blocks_of_a_page_run(blocks, folder):
    names = {}
    for block in blocks:
        run(block, names)


@pytest.mark.slow
@pytest.mark.parametrize("blocks", to_run(slow=True))
def test_the_slow_blocks_of_a_page_run_too(blocks, folder):
    video = load_clip("carphone", num_frames=8)
    with Mp4Writer(Path("IN.mp4"), video.fps) as writer:
        for frame in video.frames:
            writer.write(frame)
    names = {}
    for block in blocks:
        run(block, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_marker_is_known_and_every_link_leads_to_a_file(page):
    text = page.read_text(encoding="utf-8")
    for marker in re.findall(r"^<!-- (.*) -->\n```", text, flags=re.M):
        assert marker == "slow" or re.match(r"(not run|part): \S", marker), marker
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), target


def test_pages_that_are_left_out_here_have_tests_of_their_own():
    for name, test in ELSEWHERE.items():
        assert name in (ROOT / "tests" / test).read_text()


def test_the_readme_is_short_and_shows_a_picture_first():
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert next(line for line in lines if line.startswith(("!", "## "))).startswith("![")


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path):
    """The same command as in .ci/run."""
    pytest.importorskip("sphinx")
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "-b", "html", ROOT / "docs", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
