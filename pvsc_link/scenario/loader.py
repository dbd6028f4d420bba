"""YAML files, read strictly, and scenarios made of them.

Every YAML of a user (scenarios, training files, options of the command line) is read by
:func:`parse_yaml`. What YAML 1.1 and 1.2 read differently is refused instead of guessed: ``no``,
``off`` and ``yes`` (false and true in 1.1, text in 1.2), ``032`` (26 or 32), ``1:30`` (90 or text),
``1_000`` and ``0b11``. A key that stands twice, a tag such as ``!!python``, infinity and NaN are
refused too. Every error is an ``InputError`` that names the line.
"""

import math
import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from pvsc_link.options import check_name, validated
from pvsc_link.scenario.reference import keys_of
from pvsc_link.scenario.schema import Scenario
from pvsc_link.types import InputError

#: Folder of the scenarios that come with the package.
SHIPPED = Path(__file__).parent / "shipped"
#: Largest file in bytes, and most values in it once its aliases are written out.
MAX_BYTES, MAX_VALUES = 2**20, 100_000
#: Most digits of a number.
_MAX_DIGITS = 40

_TRAPS = {
    r"(?i:y|yes|n|no|on|off)": "true or false in YAML 1.1, text in YAML 1.2: write true, false, "
    "or the text in quotes",
    r"[-+]?0[0-9][0-9_]*": "octal in YAML 1.1, decimal in YAML 1.2: drop the leading zero, or "
    "quote a text",
    r"0o[0-7]+": "octal in YAML 1.2, text in YAML 1.1: write the decimal number, or quote a text",
    r"[-+]?[0-9]+(:[0-5]?[0-9])+(\.[0-9]*)?": "a number to base 60 in YAML 1.1, text in YAML 1.2: "
    "write the number, a range such as {from: -2, to: 10, step: 2}, or quote a text",
    r"[-+]?[0-9][0-9_]*_[0-9_]*(\.[0-9_]*)?": "a number in YAML 1.1, text in YAML 1.2: write it "
    "without underscores, or quote a text",
    r"[-+]?0b[01_]+": "binary in YAML 1.1, text in YAML 1.2: write the decimal number",
    r"(?i:[-+]?\.inf|\.nan)": "no finite number",
}
_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_TAG = "tag:yaml.org,2002:"


class _Refused(yaml.MarkedYAMLError):
    """A value that is valid YAML and yet refused."""

    def __init__(self, node: Node, found: str, why: str):
        super().__init__(None, None, why, node.start_mark)
        self.found = found


@dataclass(frozen=True)
class Document:
    """What a YAML file holds, and where.

    Parameters: ``data`` : plain dicts, lists, strings, numbers, bools and None; ``lines`` : line,
    from 1, of every value by its path of keys and indices.
    """

    data: Any
    lines: dict[tuple[str | int, ...], int] = field(default_factory=dict)


def load_scenario(path: str | Path) -> Scenario:
    """Read and validate a scenario file, or a scenario of the package by its name.

    Raises ``InputError`` for a missing file, broken or ambiguous YAML, an unknown key (with the
    nearest name), a wrong type or a value out of range, with the line.
    """
    path = find_scenario(path)
    document = load_yaml(path)
    return _validated(document.data, path.name, document.lines)


def shipped_scenarios() -> dict[str, Path]:
    """Scenarios that come with the package, by name; training files are not among them."""
    files = sorted(SHIPPED.glob("*.yaml"))
    return {file.stem: file for file in files if not file.stem.startswith("train_")}


def find_scenario(name_or_path: str | Path) -> Path:
    """The file itself, or else the scenario of this name that comes with the package.

    Raises ``InputError`` for a bare name that is neither, with the names that there are.
    """
    path = Path(name_or_path)
    if path.is_file() or len(path.parts) != 1 or path.suffix:
        return path
    shipped = shipped_scenarios()
    check_name("scenario: no such file, and no such name in the package", path.name, shipped)
    return shipped[path.name]


def load_yaml(path: str | Path) -> Document:
    """Read a YAML file. Raises ``InputError`` for a missing file and as :func:`parse_yaml` does."""
    path = Path(path)
    if not path.is_file():
        near = sorted(p.name for p in path.parent.glob("*.yaml")) if path.parent.is_dir() else []
        raise InputError(
            "scenario file is missing",
            found=str(path),
            allowed=near or "a YAML file",
            remedy="Check the path.",
        )
    try:
        if path.stat().st_size > MAX_BYTES:
            raise _not_yaml(path.name, f"{path.stat().st_size} bytes", f"at most {MAX_BYTES} bytes")
        return parse_yaml(path.read_text(encoding="utf-8-sig"), where=path.name)
    except (UnicodeDecodeError, OSError) as error:
        raise _not_yaml(path.name, str(error), "a text file in UTF-8") from error


def parse_yaml(text: str, *, where: str) -> Document:
    """Read YAML strictly, see above.

    Parameters: ``where`` : what the text is, for messages.
    Raises ``InputError`` with the line for everything that is refused.
    """
    try:
        loader = _StrictLoader(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return Document(None)
            _count(node, {}, set())
            data = loader.construct_document(node)
            lines: dict[tuple[str | int, ...], int] = {}
            _note_lines(node, (), lines)
            return Document(data, lines)
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        what = f"{error.context or ''} {error.problem or ''}".strip()
        if isinstance(error, _Refused):
            place, found = f"{where}{line}", error.found
            raise _not_yaml(place, found, "YAML that is read in one way only", what) from error
        place, found = f"{where} is not YAML{line}", _shown_line(text, mark)
        raise _not_yaml(place, found, "a YAML mapping", what) from error
    except yaml.YAMLError as error:  # a character that YAML does not allow
        number = text.count("\n", 0, max(getattr(error, "position", 0), 0)) + 1
        reason = str(error).replace("\n", " ")
        raise _not_yaml(f"{where}, line {number}", reason, "printable characters") from error
    except RecursionError as error:
        raise _not_yaml(where, "values nested too deeply", "a few levels") from error


def parse_scenario(data: Any, *, where: str = "scenario") -> Scenario:
    """Validate a mapping as ``load_scenario`` does; for notebooks and tests."""
    return _validated(data, where)


def _validated(data: Any, where: str, lines: Mapping[Any, int] | None = None) -> Scenario:
    """The scenario; a key that stands in the wrong section is refused with the right one."""
    try:
        return validated(data, Scenario, where, "scenarios/quickstart.yaml", lines=lines)
    except InputError as error:
        sections = _sections_with(error.found) if "unknown key in" in error.what else []
        if not sections:
            raise
        remedy = f"{error.found} is a key of {' and of '.join(sections)}: move it there."
        raise InputError(
            error.what, found=error.found, allowed=error.allowed, remedy=remedy
        ) from error


def _sections_with(name: object) -> list[str]:
    paths = [key.path for key in keys_of(Scenario.model_json_schema()) if key.name == name]
    return list(dict.fromkeys(path.rpartition(".")[0] or "the top level" for path in paths))


class _StrictLoader(yaml.SafeLoader):
    """YAML in its JSON schema (YAML 1.2, 10.2) plus hexadecimals, merge keys, and the refusals."""

    yaml_implicit_resolvers: dict[str, Any] = {}
    yaml_constructors: ClassVar[dict[Any, Any]] = {}

    def __init__(self, text: str):
        super().__init__(text)
        self._checked: set[int] = set()

    def flatten_mapping(self, node: MappingNode) -> None:
        """Refuse a key that stands twice, then resolve merge keys, which may be overridden."""
        if id(node) in self._checked:  # an alias: its keys are checked, and merged ones among them
            return
        self._checked.add(id(node))
        seen: dict[Any, int] = {}
        for key_node, _ in node.value:
            if key_node.tag == f"{_TAG}merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise _Refused(key_node, f"the key {key!r:.60}", "a key has to be text: quote it")
            if key in seen:
                raise _Refused(
                    key_node, f"the key {key!r:.60} again", f"it stands in line {seen[key]} already"
                )
            seen[key] = key_node.start_mark.line + 1
        super().flatten_mapping(node)
        # The last of a key counts. PyYAML takes the first when a merged mapping merges another.
        node.value = list({key.value: (key, value) for key, value in node.value}.values())

    def construct_mapping(self, node: Node, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, MappingNode):
            raise _Refused(node, "no mapping", "the tag !!map needs one")
        return super().construct_mapping(node, deep=deep)

    def trap(self, node: ScalarNode) -> Any:
        why = next(why for trap, why in _TRAPS.items() if re.fullmatch(trap, node.value))
        raise _Refused(node, _short(node.value), why)

    def integer(self, node: ScalarNode) -> int:
        value = self._scalar(node, _INT)
        return int(value, 16) if value.startswith("0x") else int(value)

    def real(self, node: ScalarNode) -> float:
        value = float(self._scalar(node, _FLOAT))
        if not math.isfinite(value):
            raise _Refused(node, _short(node.value), "too large a number")
        return value

    def boolean(self, node: ScalarNode) -> bool:
        if node.value not in _BOOL:
            raise _Refused(node, _short(node.value), "neither true nor false")
        return _BOOL[node.value]

    def null(self, node: ScalarNode) -> None:
        return None

    def unknown(self, node: Node) -> Any:
        raise _Refused(node, _short(str(node.tag)), "a tag that is not read: leave it out")

    def _scalar(self, node: ScalarNode, pattern: re.Pattern[str]) -> str:
        if not isinstance(node, ScalarNode) or not pattern.fullmatch(node.value):
            raise _Refused(node, _short(str(node.value)), "no number in decimal form")
        if len(node.value) > _MAX_DIGITS:
            raise _Refused(node, _short(node.value), f"a number of more than {_MAX_DIGITS} digits")
        return node.value


def _resolve(tag: str, pattern: str) -> None:
    _StrictLoader.add_implicit_resolver(tag, re.compile(rf"^(?:{pattern})$"), None)  # type: ignore[arg-type]


for _pattern in _TRAPS:
    _resolve("!trap", _pattern)
_resolve(f"{_TAG}bool", "|".join(_BOOL))
_resolve(f"{_TAG}null", "~|null|Null|NULL|")
_resolve(f"{_TAG}int", _INT.pattern)
_resolve(f"{_TAG}float", _FLOAT.pattern)
_resolve(f"{_TAG}merge", "<<")
for _tag, _construct in {
    "!trap": _StrictLoader.trap,
    f"{_TAG}int": _StrictLoader.integer,
    f"{_TAG}float": _StrictLoader.real,
    f"{_TAG}bool": _StrictLoader.boolean,
    f"{_TAG}null": _StrictLoader.null,
    f"{_TAG}str": yaml.SafeLoader.construct_yaml_str,
    f"{_TAG}seq": yaml.SafeLoader.construct_yaml_seq,
    f"{_TAG}map": yaml.SafeLoader.construct_yaml_map,
    None: _StrictLoader.unknown,
}.items():
    _StrictLoader.add_constructor(_tag, _construct)


def _count(node: Node, known: dict[int, int], above: set[int]) -> int:
    """Values under a node with its aliases written out, once per node (no alias bomb)."""
    if id(node) in above:
        raise _Refused(node, "an alias inside what it stands for", "it has no end")
    if id(node) not in known:
        inside = {id(node), *above}
        parts: list[Node] = []
        if isinstance(node, MappingNode):
            parts = [part for pair in node.value for part in pair]
        elif isinstance(node, SequenceNode):
            parts = node.value
        known[id(node)] = 1 + sum(_count(part, known, inside) for part in parts)
        if known[id(node)] > MAX_VALUES:
            found = f"{known[id(node)]:.3g} values" if known[id(node)] < 1e300 else "endless values"
            raise _Refused(node, found, f"at most {MAX_VALUES} are read")
    return known[id(node)]


def _note_lines(node: Node, path: tuple[str | int, ...], lines: dict[Any, int]) -> None:
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, MappingNode):
        for key, value in node.value:
            lines[(*path, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines)
    elif isinstance(node, SequenceNode):
        for index, value in enumerate(node.value):
            _note_lines(value, (*path, index), lines)


def _not_yaml(place: str, found: str, allowed: str, why: str = "") -> InputError:
    remedy = f"{why[0].upper()}{why[1:]}." if why else "Correct it."
    return InputError(place, found=found, allowed=allowed, remedy=remedy)


def _shown_line(text: str, mark: yaml.Mark | None) -> str:
    lines = text.splitlines()
    return _short(lines[mark.line].strip()) if mark and mark.line < len(lines) else "its end"


def _short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:60]}..."
