"""What every key of a user's file means, read from the JSON schema of its pydantic model.

``pvsc-link sweep --explain link.snr_db`` and ``pvsc-link train --explain phases.crop`` print one
key, the documentation lists all of them. Editors show the same texts.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pvsc_link.options import check_name

Schema = Mapping[str, Any]
_KINDS = {"integer": "whole number", "string": "text", "boolean": "true or false"}
_MISSING = object()


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Parameters
    ----------
    path : names of the sections around it and its own, with dots: ``link.snr_db``
    text : what it means
    kind : what may be written, in words
    allowed : names or bounds, empty where there are none
    unit : of a number, ``1`` for a pure number
    default : as YAML writes it; None where the key has to be given
    required_by : what needs a key that other files leave out; it has no default then
    example : a line of YAML
    only : entries that have the key, such as schemes; empty if all have it
    """

    path: str
    text: str
    kind: str
    allowed: str = ""
    unit: str = ""
    default: str | None = None
    example: str = ""
    only: tuple[str, ...] = ()
    required_by: str = ""

    @property
    def name(self) -> str:
        """The last part of ``path``."""
        return self.path.rpartition(".")[2]


def keys_of(schema: Schema) -> list[Key]:
    """Every key that a JSON schema describes, sections before what is in them.

    A key that several entries of a union have alike is there once, with their names.
    """
    merged: dict[Key, list[str]] = {}
    for key in _walk(schema, schema, "", ""):
        merged.setdefault(replace(key, only=()), []).extend(key.only)
    keys = [replace(key, only=tuple(dict.fromkeys(names))) for key, names in merged.items()]
    return list(_with_all_names(keys))


def _with_all_names(keys: Sequence[Key]) -> Iterator[Key]:
    """One key for the name of an entry, which each entry of a union has with its own name alone."""
    names = [key for key in keys if key.only == (key.allowed,)]
    for key in keys:
        if key not in names:
            yield key
        elif key == next(other for other in names if other.path == key.path):
            of_path = [other.allowed for other in names if other.path == key.path]
            yield replace(key, allowed=", ".join(of_path), only=())


def explain(schema: Schema, path: str) -> str:
    """The text of one key; of a section also its keys with their first sentences.

    Raises ``InputError`` with the nearest path for a key that there is not.
    """
    keys = keys_of(schema)
    known = {key.path: key for key in keys}
    last = [name for name in known if name.rpartition(".")[2] == path]
    if path not in known and len(last) == 1:  # a name that only one section has
        path = last[0]
    elsewhere = [name for name in known if name.endswith(f".{path.rpartition('.')[2]}")]
    check_name("key", path, known if path in known else elsewhere or known)
    told = [_paragraph(key) for key in keys if key.path == path]
    inside = [key for key in keys if key.path.rpartition(".")[0] == path]
    if inside:
        width = max(len(key.name) for key in inside)
        lines = {f"  {key.name:<{width}}  {key.text.split('. ')[0].rstrip('.')}" for key in inside}
        told.append("\n".join(["keys:", *sorted(lines)]))
    return "\n\n".join(told)


def as_markdown(keys: Sequence[Key]) -> str:
    """A table per section, for the documentation."""
    sections: dict[str, list[Key]] = {}
    for key in keys:
        sections.setdefault(key.path.rpartition(".")[0], []).append(key)
    head = "| key | meaning | values | unit | default | example |\n|---|---|---|---|---|---|"
    parts = []
    for section, inside in sections.items():
        title = f"`{section}`" if section else "Top level"
        rows = [f"| {' | '.join(map(_cell, _cells(key)))} |" for key in inside]
        parts.append("\n".join([f"## {title}", "", head, *rows]))
    return "\n\n".join(parts) + "\n"


def _cells(key: Key) -> list[str]:
    only = f" Of: {', '.join(key.only)}." if key.only else ""
    values = f"{key.kind}: {key.allowed}" if key.allowed else key.kind
    default = _required(key, "required") or f"`{key.default}`"
    example = f"`{key.example}`" if key.example else ""
    return [f"`{key.name}`", key.text + only, values, key.unit, default, example]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def _paragraph(key: Key) -> str:
    lines = [key.path + (f"  (of {', '.join(key.only)})" if key.only else ""), f"  {key.text}"]
    values = f"{key.kind}: {key.allowed}" if key.allowed else key.kind
    facts = {"values": values, "unit": key.unit, "default": key.default, "example": key.example}
    facts["default"] = _required(key, "none, the key has to be given") or key.default
    return "\n".join(
        [*lines, *(f"  {name + ':':<9}{text}" for name, text in facts.items() if text)]
    )


def _required(key: Key, always: str) -> str:
    """In place of a default: ``always``, or what needs the key; empty where there is a default."""
    if key.required_by:
        return f"none, required by {key.required_by}"
    return always if key.default is None else ""


def _walk(schema: Schema, root: Schema, above: str, only: str) -> Iterator[Key]:
    required = schema.get("required", ())
    for name, described in schema.get("properties", {}).items():
        path = f"{above}.{name}" if above else name
        options = list(_options(described, root))
        default = described.get("default", _MISSING)
        yield Key(
            path,
            described.get("description") or _resolved(described, root).get("description", ""),
            _kind(options),
            _allowed(options),
            described.get("unit", ""),
            None if name in required and default is _MISSING else _yaml(default),
            _example(name, described),
            (only,) if only else (),
            described.get("required_by", ""),
        )
        for section in options:
            if "properties" in section and section.get("title") != "range":
                entry = section["properties"].get("scheme", {}).get("const", "")
                yield from _walk(section, root, path, entry or only)


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    return schema


def _options(schema: Schema, root: Schema) -> Iterator[Schema]:
    """What may stand for a value, without references and unions; a list is what is in it."""
    schema = _resolved(schema, root)
    unions = [part for word in ("anyOf", "oneOf") for part in schema.get(word, ())]
    for part in unions:
        yield from _options(part, root)
    if unions:
        return
    yield schema
    if schema.get("type") == "array":
        yield from _options(schema.get("items", {}), root)


def _kind(options: Sequence[Schema]) -> str:
    words: list[str] = []
    is_list = is_range = False
    for option in options:
        kind = option.get("type")
        if kind == "array":
            is_list = True
        elif option.get("title") == "range":
            is_range = True
        elif "enum" in option or "const" in option:
            words.append("one of the names")
        elif kind == "object":
            words.append("section" if "properties" in option else "mapping")
        elif kind == "null":
            words.append("null")
        elif isinstance(kind, list):
            words += kind
        elif kind is not None:
            words.append(_KINDS.get(str(kind), str(kind)))
    text = " or ".join(dict.fromkeys(words))
    text += ", or a list of them" if is_list else ""
    return text + (", or a range" if is_range else "")


def _allowed(options: Sequence[Schema]) -> str:
    names, bounds = [], []
    for option in options:
        if option.get("title") == "range":
            continue
        names += [str(name) for name in option.get("enum", ())]
        names += [str(option["const"])] if "const" in option else []
        low = option.get("minimum", option.get("exclusiveMinimum"))
        high = option.get("maximum", option.get("exclusiveMaximum"))
        if low is not None and high is not None:
            more = "more than " if "exclusiveMinimum" in option else ""
            bounds.append(
                f"{more}{low:g} to {'below ' if 'exclusiveMaximum' in option else ''}{high:g}"
            )
        elif low is not None:
            bounds.append(f"{'more than' if 'exclusiveMinimum' in option else 'at least'} {low:g}")
        elif high is not None:
            bounds.append(f"{'less than' if 'exclusiveMaximum' in option else 'at most'} {high:g}")
    return ", ".join(dict.fromkeys([*names, *bounds]))


def _yaml(value: Any) -> str:
    if value is _MISSING:
        return "null"
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _example(name: str, described: Schema) -> str:
    examples = described.get("examples", ())
    return f"{name}: {_flow(examples[0])}" if examples else ""


def _flow(value: Any) -> str:
    """A value in YAML's flow style."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_flow(part)}" for name, part in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)
