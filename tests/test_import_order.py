"""Doors between rooms: names of a room come through its ``__init__``, and no arrow runs back up."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "pvsc_link"
#: Modules beside the rooms that every room may use.
SOURCES = {"types", "storage", "options", "own_python", "intervals", "_version"}
#: Rooms that a room may use. ``registry`` stands for what a scenario can name, without TensorFlow.
ALLOWED = {
    "media": set(),
    "link": set(),
    "models": set(),
    "metrics": {"media"},
    "codecs": {"media"},
    "schemes": {"models", "codecs", "link", "media"},
    "scenario": {"media", "metrics", "link", "codecs", "schemes"},
    "train": {"scenario", "metrics", "media", "models", "link"},
    "sweep": {"scenario", "schemes", "metrics", "media", "link", "codecs", "models"},
    "report": {"media", "metrics", "link", "codecs", "schemes", "sweep"},
    "transmit": {
        *("scenario", "schemes", "metrics", "media", "link", "codecs", "models"),
        *("sweep", "report"),
    },
    "bench": {
        *("scenario", "schemes", "metrics", "media", "link", "codecs", "models"),
        *("sweep", "report", "train"),
    },
}
#: Doors of one file alone: lvc is the ideal branch of PVSC behind LDPC, the same networks.
OF_ONE_FILE = {"codecs/lvc.py": {"models"}}
#: A command writes figures at its end, and starts through the shared command line.
OF_COMMANDS = {"commands", "report"}
NO_TENSORFLOW = ("scenario", "report")
HEAVY = {"tensorflow", "keras", "sionna"}


def files_of(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files, f"no file in the room {room}: nothing would be looked at"
    # The drivers run in a codec's own Python and import nothing of the package.
    return files


def imports_of(path):
    """(module, name) of every import in ``path``, at module level or inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield from ((node.module, alias.name) for alias in node.names)


def inside_the_package(path):
    """As ``imports_of``, without the name of the package."""
    for module, name in imports_of(path):
        if module == "pvsc_link" or module.startswith("pvsc_link."):
            yield module.removeprefix("pvsc_link").removeprefix("."), name


def exported(room):
    """Names that the ``__init__`` of a room gives away."""
    stub = ast.parse((PACKAGE / room / "__init__.pyi").read_text())
    return {alias.asname for node in stub.body for alias in node.names}


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_uses_names_of_the_rooms_before_it_through_their_doors(room):
    for path in files_of(room):
        allowed = ALLOWED[room] | OF_ONE_FILE.get(path.relative_to(PACKAGE).as_posix(), set())
        allowed |= OF_COMMANDS if path.name == "__main__.py" else set()
        for module, name in inside_the_package(path):
            head, _, inner = module.partition(".")
            if head == room or head in SOURCES:
                continue
            said = f"{path.relative_to(PACKAGE)} imports {name} of pvsc_link.{module}"
            assert head in allowed, f"{said}; {room} may import from {sorted(allowed)}"
            if head in ALLOWED:
                assert not inner, f"{said}; import it from pvsc_link.{head}"
                assert name in exported(head), f"{said}; {head}/__init__.pyi does not export it"


def test_every_exported_name_is_there():
    """One process for all rooms, because most of its time goes into importing TensorFlow."""
    rooms = sorted(set(ALLOWED) - {"bench"})
    names = {room: sorted(exported(room)) for room in rooms}
    assert all(names.values())
    code = (
        f"import importlib\nfor name, exported in {names!r}.items():\n"
        "    room = importlib.import_module(f'pvsc_link.{name}')\n"
        "    assert sorted(room.__all__) == exported, name\n"
        "    for one in room.__all__: getattr(room, one)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("room", NO_TENSORFLOW)
def test_rooms_without_tensorflow_import_none(room):
    for path in files_of(room):
        heavy = {m for m, _ in imports_of(path) if m.split(".")[0] in HEAVY}
        assert not heavy, f"{path} imports {heavy}"


def test_what_a_scenario_can_name_is_known_without_tensorflow():
    code = (
        "import sys\n"
        "from pvsc_link.codecs import CODECS\nfrom pvsc_link.link import CHANNELS\n"
        "from pvsc_link.metrics import METRICS\nfrom pvsc_link.schemes import SCHEMES\n"
        "from pvsc_link.scenario import Scenario, load_scenario\n"
        f"assert CODECS and CHANNELS and METRICS and SCHEMES\n"
        f"print(sorted(set(sys.modules) & {HEAVY!r}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


#: The trunk that metrics take on CPUs under TensorFlow, in place of a Keras layer.
TENSORFLOW_ONLY = ("cpu_trunk.py", "winograd.py")


def test_model_layers_and_metrics_use_keras_ops_only():
    for room in ("models", "metrics"):
        for path in (path for path in files_of(room) if path.name not in TENSORFLOW_ONLY):
            heavy = {m for m, _ in imports_of(path) if m.split(".")[0] in ("tensorflow", "sionna")}
            assert not heavy, f"{path} imports {heavy}"


def module_graph():
    """Modules of the package, each with those it imports, wherever the import stands."""
    files = {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
    }

    def found(name):
        return next((m for m in (name, f"{name}.__init__".lstrip(".")) if m in files), None)

    graph = {}
    for module, path in files.items():
        targets = set()
        for base, name in inside_the_package(path):
            inner = found(f"{base}.{name}".lstrip(".")) if name else None
            if inner is None and base in ALLOWED and name:
                inner = behind_the_door(base, name) if path.parent != PACKAGE / base else None
            targets.add(inner or found(base))
        graph[module] = targets - {module, None}
    return graph


def behind_the_door(room, name):
    """The module of ``room`` that defines an exported name."""
    for node in ast.parse((PACKAGE / room / "__init__.pyi").read_text()).body:
        if name in {alias.asname for alias in node.names}:
            return f"{room}.{node.module}"
    return None


def test_no_circle_of_imports_anywhere():
    graph = module_graph()
    assert sum(len(targets) for targets in graph.values()) > 200
    state = {}

    def visit(module, way):
        if state.get(module) == "done":
            return
        assert module not in way, f"circle: {' -> '.join([*way[way.index(module) :], module])}"
        for target in sorted(graph[module]):
            visit(target, [*way, module])
        state[module] = "done"

    for module in sorted(graph):
        visit(module, [])


def test_every_room_is_listed():
    rooms = {p.name for p in PACKAGE.iterdir() if (p / "__init__.py").exists()}
    assert rooms == set(ALLOWED)
