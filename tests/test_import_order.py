"""Doors between rooms: left may import right, never back."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pvsc_link"
SOURCES = {"types", "storage", "options", "intervals", "_version"}
#: What a scenario can name, described without TensorFlow.
REGISTRIES = {f"{room}.registry" for room in ("metrics", "link", "codecs", "schemes")}
MATERIAL = {"scenario", "schemes", "metrics", "media", "link", "codecs", "models"}
ALLOWED = {
    "scenario": REGISTRIES,
    "media": set(),
    "link": set(),
    "models": set(),
    "metrics": set(),
    "codecs": {"media"},
    "schemes": {"models", "codecs", "link", "media.pixels"},
    "train": MATERIAL - {"codecs"},
    "sweep": MATERIAL,
    "report": {"sweep.store"} | REGISTRIES,
    "transmit": MATERIAL | {"sweep", "report.frames", "report.curves", "report.style"},
}
#: Doors of one file alone. lvc is PVSC's own ideal branch behind LDPC: it runs the same networks,
#: not a copy of them.
OF_ONE_FILE = {"codecs/lvc.py": {"models"}}
NO_TENSORFLOW = ("scenario", "report")


def imported_modules(path):
    """Dotted names of every import in ``path``, at module level or inside functions."""
    package = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join(parts + ([node.module] if node.module else []))
            yield from (f"{base}.{alias.name}" for alias in node.names)


def rooms_behind(path):
    for name in imported_modules(path):
        if name.startswith("pvsc_link."):
            yield name.removeprefix("pvsc_link.")


def files_of(room):
    # A __main__ is a front door, not a room: it puts rooms together and nobody imports it.
    files = [p for p in sorted((PACKAGE / room).rglob("*.py")) if p.name != "__main__.py"]
    assert files, f"no file in the room {room}: nothing would be looked at"
    return files


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_only_through_its_doors(room):
    targets = [(path, target) for path in files_of(room) for target in rooms_behind(path)]
    assert targets, f"no import within the package found in {room}"
    for path, target in targets:
        head = target.split(".")[0]
        own = OF_ONE_FILE.get(path.relative_to(PACKAGE).as_posix(), set())
        open_doors = ALLOWED[room] | SOURCES | {room} | own
        inside = head in open_doors or any(target.startswith(door) for door in open_doors)
        assert inside, f"{path.name} imports pvsc_link.{target}; {room} may import {open_doors}"


@pytest.mark.parametrize("room", NO_TENSORFLOW)
def test_rooms_without_tensorflow_import_none(room):
    for path in files_of(room):
        heavy = {n for n in imported_modules(path) if n.split(".")[0] in ("tensorflow", "sionna")}
        assert not heavy, f"{path} imports {heavy}"


def test_model_layers_and_metrics_use_keras_ops_only():
    for room in ("models", "metrics"):
        for path in files_of(room):
            heavy = {
                n for n in imported_modules(path) if n.split(".")[0] in ("tensorflow", "sionna")
            }
            assert not heavy, f"{path} imports {heavy}"


def test_every_room_is_listed():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms - {"bench"} == set(ALLOWED)
