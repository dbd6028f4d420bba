"""What the models of a user's words share: strict pydantic models, axes, names out of a registry.

A registry (``METRICS``, ``CHANNELS``, ``CODECS``, ``SCHEMES``) is a dict from the name that a
scenario writes to a description of that name. A description names its implementation by a dotted
path (``"pvsc_link.metrics.psnr:Psnr"``) that is imported on first use, or is the class or function
itself. Therefore no registry loads TensorFlow.
"""

import difflib
import enum
import importlib
import math
import warnings
from collections import UserDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeAlias, TypeVar, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo

from pvsc_link.types import InputError

T = TypeVar("T")


class Named(Protocol):
    """A description in a registry."""

    @property
    def name(self) -> str: ...


Entry = TypeVar("Entry", bound=Named)

#: A class or function, or its dotted path ``"package.module:name"``.
Implementation: TypeAlias = str | Callable[..., Any]


def load_implementation(implementation: Implementation) -> Callable[..., Any]:
    """The class or function behind a description, imported now if it is a dotted path.

    Raises ``InputError`` for a path that leads nowhere.
    """
    if not isinstance(implementation, str):
        return implementation
    module, _, name = implementation.partition(":")
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            "implementation in a registry",
            found=implementation,
            allowed='a class or function, or its path "package.module:name"',
            remedy=f"{error}.",
        ) from error


def check_name(what: str, name: object, known: Iterable[str]) -> None:
    """Raise ``InputError`` with the nearest known name unless ``name`` is in ``known``."""
    known = list(known)
    if name in known:
        return
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.3)
    remedy = f"Did you mean {near[0]!r}?" if near else "Use one of the allowed names."
    raise InputError(what, found=name, allowed=known, remedy=remedy)


class Registry(UserDict[str, Entry]):
    """A dict of descriptions by name; the key of an entry is the ``name`` that it states itself.

    The name stands in scenarios and tables, and in the keys of caches: an entry under another key
    would share what belongs to a second one. Raises ``InputError`` when such an entry is assigned.

    Parameters: ``group`` : entry points whose descriptions are added; one that cannot be loaded, or
    whose name is taken, is left out with a warning; ``described`` : makes a description of what an
    entry point holds, None where it is one.

    Example::

        METRICS["mae"] = MetricType("mae", "MAE", higher_is_better=False, implementation=Mae)
    """

    def __init__(
        self,
        entries: Mapping[str, Entry] | None = None,
        *,
        group: str = "",
        described: Callable[[str, Any], Entry | None] = lambda name, found: None,
    ):
        self._group, self._described = "", described
        super().__init__()
        self.update(entries or {})
        self._group = group

    @property  # type: ignore[override]
    def data(self) -> dict[str, Entry]:
        """The entries; those of installed packages are added when it is first read."""
        if self._group:
            group, self._group = self._group, ""
            self._add_installed(group)
        return self._entries

    @data.setter
    def data(self, entries: dict[str, Entry]) -> None:
        self._entries = entries

    def _add_installed(self, group: str) -> None:
        for point in metadata.entry_points(group=group):
            try:
                found = point.load()
                described = self._described(point.name, found) or found
                if point.name in self._entries:
                    raise InputError(
                        "name of an entry point",
                        found=point.name,
                        allowed="a name that is free",
                        remedy="Rename it.",
                    )
                self[point.name] = described
            except Exception as error:  # a package that is broken must not stop all others
                warnings.warn(
                    f"entry point {point.name} = {point.value} of {group} is left out: {error}",
                    stacklevel=2,
                )

    def __setitem__(self, name: str, described: Entry) -> None:
        if getattr(described, "name", None) != name:
            raise InputError(
                "name in a registry",
                found=f"{name!r} for an entry that calls itself {described.name!r}"
                if hasattr(described, "name")
                else f"{described!r}",
                allowed=f"a description whose name is {name!r}",
                remedy="Register it under its own name, or give it this one.",
            )
        super().__setitem__(name, described)


def registry(
    entries: Iterable[Entry],
    group: str = "",
    described: Callable[[str, Any], Entry | None] = lambda name, found: None,
) -> Registry[Entry]:
    """A :class:`Registry` of these descriptions."""
    named = {entry.name: entry for entry in entries}
    return Registry(named, group=group, described=described)


class NameIn:
    """Pydantic annotation of a string that must be a key of a registry when it is read.

    Parameters: ``allowed`` : which of its entries may be named; None: all.
    Example: ``metric: Annotated[str, NameIn("metric", METRICS)]``.
    """

    def __init__(
        self,
        what: str,
        registry: Mapping[str, Any],
        allowed: Callable[[Any], bool] | None = None,
    ):
        self._what, self._registry, self._allowed = what, registry, allowed

    def _names(self) -> list[str]:
        allowed = self._allowed or (lambda entry: True)
        return [name for name, entry in self._registry.items() if allowed(entry)]

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return handler(Annotated[source, AfterValidator(self._checked)])

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return handler(core_schema) | {"enum": self._names()}

    def _checked(self, name: str) -> str:
        check_name(self._what, name, self._names())
        return name


#: Most values of a range.
_MOST_VALUES = 10_000
_RANGE_EXAMPLE = "{from: -2, to: 10, step: 2}"


def values_of_range(given: Mapping[str, Any]) -> list[int | float]:
    """The numbers ``from``, ``from + step``, ... up to ``to``, which is included.

    Input: ``given`` : mapping with ``from``, ``to`` and, if it is not 1, ``step``.
    Output: whole numbers if all three are.
    Raises ``InputError`` for other keys, for what is no number, and for a step that does not lead
    from the one to the other.
    """
    unknown = [key for key in given if key not in ("from", "to", "step")]
    numbers = [given.get("from"), given.get("to"), given.get("step", 1)]
    if unknown or not all(
        isinstance(number, int | float) and not isinstance(number, bool) for number in numbers
    ):
        raise InputError(
            "range of numbers",
            found=dict(given),
            allowed="the keys from, to and step, each a number",
            remedy=f"For instance {_RANGE_EXAMPLE}.",
        )
    first, last, step = (float(number) for number in numbers)
    count = (last - first) / step if step else -1.0
    if not 0 <= count < _MOST_VALUES:
        raise InputError(
            "range of numbers",
            found=dict(given),
            allowed=f"a step that leads from the first to the last in fewer than {_MOST_VALUES}",
            remedy="Correct the sign or the size of step.",
        )
    values = [round(first + i * step, 12) for i in range(math.floor(count + 1e-9) + 1)]
    whole = all(isinstance(number, int) for number in numbers)
    return [int(value) for value in values] if whole else values  # type: ignore[return-value]


class Listed:
    """Pydantic annotation: the names that a text may be, for editors and the reference.

    It refuses nothing: what takes the text does.
    """

    def __init__(self, *names: str):
        self._names = names

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        return handler(core_schema) | {"enum": list(self._names)}


def unit(text: str) -> dict[str, Any]:
    """Extra of a field's JSON schema: the unit of a number, ``1`` for a pure number or an index."""
    return {"unit": text}


def documented(field: FieldInfo) -> dict[str, Any]:
    """What a field says about itself, as keywords of another ``Field``."""
    words = {"description": field.description, "examples": field.examples}
    return words | {"json_schema_extra": field.json_schema_extra}


def _as_list(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def _as_numbers(value: Any) -> Any:
    return values_of_range(value) if isinstance(value, dict) else _as_list(value)


class _ScalarToo:
    """Reads a scalar as a list of one and, of numbers, a range; the JSON schema says so."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        numbers = {int, float} & set(kinds_of(source))
        return handler(Annotated[source, BeforeValidator(_as_numbers if numbers else _as_list)])

    def __get_pydantic_json_schema__(self, core_schema: Any, handler: Any) -> dict[str, Any]:
        schema = handler(core_schema)
        options = [schema["items"], schema]
        if {"integer", "number"} & set(_types_in(schema["items"])):
            number = {"type": "number"}
            described = {"description": f"Numbers at equal steps, such as {_RANGE_EXAMPLE}."}
            properties = {"from": number, "to": number, "step": number | {"default": 1}}
            options.append(
                {"type": "object", "title": "range", **described, "properties": properties}
                | {"required": ["from", "to"], "additionalProperties": False}
            )
        return {"anyOf": options}


def _types_in(schema: Mapping[str, Any]) -> Iterator[Any]:
    kind = schema.get("type")
    yield from kind if isinstance(kind, list) else [kind]
    for part in schema.get("anyOf", ()):
        yield from _types_in(part)


#: A scalar, a list of scalars, or a range of numbers; always a list once it is read.
Axis = Annotated[list[T], Field(min_length=1), _ScalarToo()]
SnrDb = Annotated[float, Field(ge=-30, le=60)]
NmseDb = Annotated[float, Field(ge=-100, le=20)]
McsIndex = Annotated[int, Field(ge=0, le=28)]
#: A path as a scenario writes it; a ``Path`` from Python is taken too.
PathText = Annotated[str, BeforeValidator(lambda v: str(v) if isinstance(v, Path) else v)]
Seconds = Annotated[float, Field(gt=0)]


class StrictModel(BaseModel):
    """Base of every section of a user's file: an unknown key is refused with the nearest name.

    A model that a program makes by its keyword arguments raises ``InputError`` for a bad value, as
    a file that is read does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __init__(self, **values: Any):
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise _as_input_error(error, type(self).__name__, {}) from error

    # Models inside of others, and what a file says, are read without this method: their errors
    # keep the place of the value.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    @model_validator(mode="before")
    @classmethod
    def _nearest_key(cls, data: Any) -> Any:
        if isinstance(data, dict):
            known = [name for name, field in cls.model_fields.items() if not field.exclude]
            for key in data:
                if key not in known:
                    raise unknown_key(str(key), known, cls.__name__.lower())
            for key, value in data.items():
                _check_bool(key, value, cls.model_fields[key].annotation)
        return data


def _check_bool(key: str, value: Any, annotation: Any) -> None:
    """Refuse true and false where a number is wanted: pydantic would read them as 1 and 0."""
    is_bool = isinstance(value, bool) or (
        isinstance(value, list) and any(isinstance(v, bool) for v in value)
    )
    kinds = set(kinds_of(annotation))
    if is_bool and kinds & {int, float} and bool not in kinds:
        raise InputError(
            key, found=value, allowed="a number", remedy=f"Write a number, or leave {key} out."
        )


def kinds_of(annotation: Any) -> Iterator[Any]:
    """The types that an annotation is made of, without the models in it."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        yield from (type(part) for part in parts)
    elif parts:
        for part in parts:
            yield from kinds_of(part)
    elif isinstance(annotation, type):
        yield annotation


class NoOptions(StrictModel):
    """Options of a scheme that has none of its own, and condition of a channel that has none."""


class Mark(enum.Enum):
    """What an option means beyond its value: ``binary: Annotated[PathText, Mark.PROGRAM]``."""

    #: The option is also a column of ``points.csv``, in the rows of scenarios that name it.
    COLUMN = enum.auto()
    #: The option names a program of the user's: if it does not work, the sweep does not start.
    PROGRAM = enum.auto()


def marked(model: type[BaseModel], mark: Mark) -> list[str]:
    """Names of the fields of ``model`` that carry ``mark``."""
    return [name for name, field in model.model_fields.items() if mark in field.metadata]


def unknown_key(key: str, known: list[str], where: str) -> InputError:
    """The error of a key that a model does not have, with the nearest one that it has."""
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.4)
    hint = f"Did you mean {near[0]!r}?" if near else "Remove it."
    return InputError(f"unknown key in {where}", found=key, allowed=known, remedy=hint)


Strict = TypeVar("Strict", bound=BaseModel)


#: Line of every value of a file by its path of keys and indices (``scenario.loader.Document``).
Lines: TypeAlias = Mapping[tuple[str | int, ...], int]


def validated(
    data: Any, model: type[Strict], where: str, example: str, lines: Lines | None = None
) -> Strict:
    """``data`` as a ``model``; every error of pydantic becomes an ``InputError``.

    Parameters: ``where`` : the file or place that ``data`` comes from, for messages; ``example`` :
    what to start from instead, for a remedy; ``lines`` : where in the file each value stands.
    """
    if not isinstance(data, dict):
        raise InputError(
            f"{where} is not a mapping",
            found=type(data).__name__,
            allowed="keys " + ", ".join(model.model_fields),
            remedy=f"Start from {example}.",
        )
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise _as_input_error(error, where, lines or {}) from error


def _as_input_error(
    error: ValidationError, where: str, lines: Lines, *above: str | int
) -> InputError:
    """The first of pydantic's errors, as what / found / allowed / remedy.

    Parameters: ``above`` : place of a section that was read by a model of its own.
    """
    first = error.errors()[0]
    loc = (*above, *first["loc"])
    cause = first.get("ctx", {}).get("error")
    if isinstance(cause, ValidationError):
        return _as_input_error(cause, where, lines, *loc)
    if isinstance(cause, InputError):
        line = _line(lines, (*loc, cause.what)) or _line(lines, loc)
        if isinstance(cause.found, str):  # an unknown key
            line = lines.get((*loc, cause.found), line)
        if line is None:
            return cause
        what, found = f"{where}, line {line}: {cause.what}", cause.found
        return InputError(what, found=found, allowed=cause.allowed, remedy=cause.remedy)
    line = _line(lines, loc)
    if line is not None:
        where = f"{where}, line {line}"
    place = ".".join(str(part) for part in loc if not str(part).endswith("]"))
    more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return InputError(
        f"{where}: {place}",
        found=None if first["type"] == "missing" else first.get("input"),
        allowed=first["msg"][0].lower() + first["msg"][1:],
        remedy=f"Correct {place} in {where}{more}.",
    )


def _line(lines: Lines, loc: tuple[str | int, ...]) -> int | None:
    """Line of the value at ``loc``, or of the nearest value around it that a file has."""
    for end in range(len(loc), -1, -1):
        if loc[:end] in lines:
            return lines[loc[:end]]
    return None


@dataclass(frozen=True)
class Described:
    """Something that a scenario names together with options of its own.

    Parameters
    ----------
    name : key in scenarios
    label : name in figures and tables
    Options : pydantic model of its own options
    implementation : class or function that takes these options as keywords, or its dotted path
    short_label : for narrow legends; the label by default
    """

    name: str
    label: str
    Options: type[StrictModel]
    implementation: Implementation
    short_label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "short_label", self.short_label or self.label)

    def __call__(self, **options: object) -> Any:
        """The object with these options.

        Raises ``InputError`` for an option that it does not take, and for an object that states
        another ``name`` than this description: its rows and what is cached of it carry that name.
        """
        given = validated(options, self.Options, f"options of {self.name}", "no options")
        keywords = given.model_dump(exclude_unset=True, exclude_none=True)
        made = load_implementation(self.implementation)(**keywords)
        if getattr(made, "name", self.name) != self.name:
            raise InputError(
                f"implementation of {self.name} in a registry",
                found=f"an object whose name is {made.name!r}",
                allowed=f"the name {self.name!r}",
                remedy="Give both one name.",
            )
        return made
