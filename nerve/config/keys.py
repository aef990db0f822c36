"""Keys of nerve.yaml, each declared once: as a field of a configuration class, with its type and its default.

To add a key, add one line to `Config`, `SenseConfig` or `LogsConfig`:

    max_size: int | None = key(SIZE, None)

That line is all it takes to read and check the value, to list the key among those that are known, and to show a change
of it. Then describe it in docs/configuration.md and in the template's nerve.yaml; tests fail until both have the key.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import Field, dataclass, field, fields
from functools import partial
from typing import Any, Generic, Protocol, TypeVar, cast

from nerve.config.yaml_reader import Value, quoted
from nerve.units import format_duration, format_size, is_bare, parse_duration, parse_size

T = TypeVar("T")
D = TypeVar("D")

MIN_INTERVAL = 0.01  # seconds; with less, the engine would do little else
MAX_LABEL_LENGTH = 100

_TYPE = "type"


class _KeyType(Protocol):
    def read(self, value: Value, default: Any) -> Any: ...
    def show(self, value: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class Single(Generic[T]):
    """A key with one value: `parse` raises ValueError with what is wrong and what to do, `show` writes a value back.

    `doubt` returns what is doubtful about a value that is valid, as a note, or None.
    """

    parse: Callable[[str], T]
    show: Callable[[Any], str] = str
    doubt: Callable[[Value, str], str | None] = lambda _value, _text: None

    def read(self, value: Value, default: D) -> T | D:
        """Return the parsed value, or the default if it has a problem, which is then recorded."""
        return value.parsed(partial(self._parse_with_note, value), default)

    def _parse_with_note(self, value: Value, text: str) -> T:
        parsed = self.parse(text)
        if note := self.doubt(value, text):
            value.note(note)
        return parsed


@dataclass(frozen=True, slots=True)
class ListOf(Generic[T]):
    """A key with a list of values, or a single value in place of a list of one."""

    item: Single[T]

    def read(self, value: Value, default: tuple[T, ...]) -> tuple[T, ...]:  # noqa: ARG002 - what a Single needs
        """Return the items without those that have a problem, which is then recorded."""
        items = [self.item.read(item, None) for item in value.items(or_single=True)]
        if items and not value.is_list:
            value.note(f"is a single value, taken as a list of one: write [{value.text()}]")
        return tuple(item for item in items if item is not None)

    def show(self, value: tuple[T, ...]) -> str:
        """Return the items in one line."""
        return ", ".join(map(self.item.show, value))


def key(type_: Single[T], default: D) -> T | D:
    """Declare a field of a dataclass as a key of nerve.yaml."""
    return field(default=default, metadata={_TYPE: type_})


def list_key(item: Single[T]) -> tuple[T, ...]:
    """Declare a field of a dataclass as a key of nerve.yaml with a list, which is empty by default."""
    return cast("tuple[T, ...]", field(default=(), metadata={_TYPE: ListOf(item)}))


def key_names(section: type) -> tuple[str, ...]:
    """Return the names of the keys that a configuration class declares, in their order."""
    return tuple(declared.name for declared in fields(section) if _TYPE in declared.metadata)


def read_keys(section: type, values: Mapping[str, Value]) -> dict[str, Any]:
    """Return the parsed values of a configuration class's keys that are in the file; an invalid one has its default."""
    declared = {declared.name: declared for declared in fields(section)}
    names = (name for name in key_names(section) if name in values)
    return {name: _type_of(declared[name]).read(values[name], declared[name].default) for name in names}


def show_value(declared: Field[Any], value: object) -> str:
    """Return the value of a configuration class's field as nerve.yaml has it; `none` for what is absent or empty."""
    if value is None or value == ():
        return "none"
    return _type_of(declared).show(value) if _TYPE in declared.metadata else str(value)


def _type_of(declared: Field[Any]) -> _KeyType:
    return cast(_KeyType, declared.metadata[_TYPE])


# The types that several keys share.


def parse_interval(text: str, *, needs_unit: bool = False) -> float:
    """Return an interval in seconds; raises ValueError if it is too short."""
    seconds = parse_duration(text, needs_unit=needs_unit)
    if seconds < MIN_INTERVAL:
        raise ValueError(f"{quoted(text)} is too short: use at least {format_duration(MIN_INTERVAL)}")
    return seconds


def parse_label(text: str) -> str:
    """Return a name that people choose freely; raises ValueError if it can't be shown in one line."""
    if not text.isprintable() or not 1 <= len(text) <= MAX_LABEL_LENGTH:
        raise ValueError(f"{quoted(text)} is not a valid name: use 1 to {MAX_LABEL_LENGTH} printable characters")
    return text


def doubt_seconds(_value: Value, text: str) -> str | None:
    """Return a note on a duration without a unit."""
    return f"{quoted(text)} has no unit and is taken as seconds: write {text}s" if is_bare(text) else None


def doubt_bytes(_value: Value, text: str) -> str | None:
    """Return a note on a size without a unit."""
    return f"{quoted(text)} has no unit and is taken as bytes: write {text}B, or {text}KB" if is_bare(text) else None


def doubt_label(value: Value, text: str) -> str | None:
    """Return a note on a name that looks like something else."""
    return None if value.is_plain_text else f"{text} is taken as a name: put it in quotes if it is one"


DURATION = Single(parse_duration, format_duration, doubt_seconds)
DURATION_OR_ZERO = Single(partial(parse_duration, allow_zero=True), format_duration, doubt_seconds)
DURATION_WITH_UNIT = Single(partial(parse_duration, needs_unit=True), format_duration)
INTERVAL = Single(parse_interval, format_duration, doubt_seconds)
INTERVAL_WITH_UNIT = Single(partial(parse_interval, needs_unit=True), format_duration)
SIZE = Single(parse_size, format_size, doubt_bytes)
LABEL = Single(parse_label, doubt=doubt_label)
