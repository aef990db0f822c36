"""Filter and Match: which entries of the log a query returns, and the syntax in which people type matches; pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, get_args

import msgspec

from nerve.ids import sense_of
from nerve.store.patterns import Pattern

Op = Literal["=", "!=", "~="]

FIELDS = ("source", "type", "ref", "sense")
_OPS: tuple[Op, ...] = get_args(Op)

_MATCH = re.compile(r'(?P<field>(?:"(?:[^"\\]|\\.)*"|[^="!~]|[!~](?!=))+)(?P<op>!=|~=|=)(?P<value>.*)', re.DOTALL)
_STEP = re.compile(r'\.(?:"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<plain>[^."]+))')
_INDEX = re.compile(r"[0-9]{1,9}")
_MISSING = object()


@dataclass(frozen=True)
class Match:
    """A condition on one field: `=` one of the values, `!=` none of them, `~=` all of them, as regexes, match in it.

    `field` is source, type, ref, sense, or a path into the payload such as `payload.tags.0` or `payload."odd key"`.
    Texts are compared; a value in the payload that is not a text is compared as JSON (`3`, `true`, `null`). A field
    that is missing equals nothing and matches no regex. Raises ValueError, with one line, for an invalid condition.
    """

    field: str
    op: Op
    values: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.op not in _OPS:
            raise ValueError(f"unknown operator {self.op!r}: use =, != or ~=")
        if self.field not in FIELDS and self.path is None:
            fields = "source, type, ref, sense, payload or payload.PATH"
            raise ValueError(f'unknown field {self.field!r}: use {fields} (a key with odd characters as payload."a b")')
        if self.op == "~=":
            _ = self._patterns

    @cached_property
    def path(self) -> tuple[str, ...] | None:
        """The steps into the payload, none for the payload itself; None if the field isn't in the payload."""
        root, dot, rest = self.field.partition(".")
        steps = list(_STEP.finditer(dot + rest))
        if root != "payload" or "".join(step[0] for step in steps) != dot + rest:
            return None
        return tuple(_unquoted(step) for step in steps)

    @cached_property
    def _patterns(self) -> tuple[Pattern, ...]:
        try:
            return tuple(map(Pattern, self.values))
        except ValueError as error:
            raise ValueError(f"{self.field}~={' '.join(self.values)}: {error}") from None

    def accepts(self, column: str | None) -> bool:
        """Return True if the condition holds for a row, given the value of the column that contains the field.

        The column is source, type, ref_id (for ref and sense) or payload.
        """
        if self.path is not None:
            text = None if column is None else payload_text(column, self.path)
        elif self.field == "sense" and column is not None:
            text = sense_of(column)
        else:
            text = column
        if self.op == "~=":
            return text is not None and all(pattern.is_in(text) for pattern in self._patterns)
        return (text in self.values) == (self.op == "=")


@dataclass(frozen=True)
class Filter:
    """Which entries to return: those that meet every condition that is set; all entries if none is.

    `sense` selects the entries of a sense: those of its runs, and those with its name as ref_id. `since` and `until`
    (unix ms) and `until_id` are inclusive, `after_id` is exclusive. `errors` selects errors, failed runs, and logging
    from warning up. `limit` keeps the newest entries. Raises ValueError for a negative limit.
    """

    source: str | None = None
    type: str | None = None
    ref_id: str | None = None
    sense: str | None = None
    since: int | None = None
    until: int | None = None
    after_id: int | None = None
    until_id: int | None = None
    limit: int | None = None
    errors: bool = False
    matches: tuple[Match, ...] = ()

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 0:
            raise ValueError(f"limit is {self.limit}: it must be 0 or more, or None for all")

    @cached_property
    def conditions(self) -> tuple[Match, ...]:
        """All conditions on single fields, each as a Match."""
        simple = zip(FIELDS, (self.source, self.type, self.ref_id, self.sense), strict=True)
        return (*[Match(field, "=", (value,)) for field, value in simple if value is not None], *self.matches)

    def exact(self, field: str) -> Match | None:
        """Return the first condition that lists the values of `field`, or None."""
        for condition in self.conditions:
            if condition.field == field and condition.op == "=":
                return condition
        return None


def parse_match(text: str) -> tuple[str, Op, str]:
    """Parse `FIELD=VALUE`, `FIELD!=VALUE` or `FIELD~=REGEX`. Raises ValueError, with one line for the user."""
    parts = _MATCH.fullmatch(text)
    if parts is None:
        raise ValueError(f"{text!r} is not a filter: write FIELD=VALUE, FIELD!=VALUE or FIELD~=REGEX")
    field, op, value = parts["field"], _OPS[_OPS.index(parts["op"])], parts["value"]
    Match(field, op, (value,))
    return field, op, value


def parse_matches(texts: Iterable[str]) -> tuple[Match, ...]:
    """Parse several: `=` on the same field twice means either value, all others must hold. Raises ValueError."""
    equal: dict[str, list[str]] = {}
    others: list[Match] = []
    for field, op, value in map(parse_match, texts):
        if op == "=":
            equal.setdefault(field, []).append(value)
        else:
            others.append(Match(field, op, (value,)))
    return (*(Match(field, "=", tuple(values)) for field, values in equal.items()), *others)


def payload_text(payload: str, path: tuple[str, ...]) -> str | None:
    """Return the value at `path` in a payload (JSON text) as text, or None if there is none."""
    try:
        value = msgspec.json.decode(payload)
    except (msgspec.DecodeError, RecursionError):
        return None
    for step in path:
        value = _inside(value, step)
    if value is _MISSING:
        return None
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _inside(value: Any, step: str) -> Any:
    if isinstance(value, dict):
        return value.get(step, _MISSING)
    if isinstance(value, list) and _INDEX.fullmatch(step) and int(step) < len(value):
        return value[int(step)]
    return _MISSING


def _unquoted(step: re.Match[str]) -> str:
    if step["quoted"] is None:
        return step["plain"]
    return re.sub(r"\\(.)", r"\1", step["quoted"], flags=re.DOTALL)
