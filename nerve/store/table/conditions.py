"""Filters as SQL conditions: written once for each shape, with a named parameter for each value."""

from __future__ import annotations

import functools
import operator
import sqlite3
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
import peewee
from peewee import fn

from nerve.ids import sense_of
from nerve.store.filters import Filter, Match
from nerve.store.schema import IS_ERROR, LogRow

_COLUMNS: dict[str, peewee.ColumnBase] = {
    "source": LogRow.source,
    "type": LogRow.type,
    "ref": LogRow.ref_id,
    "sense": LogRow.ref_id,
}
_PLAIN = ("source", "type", "ref")

Values = dict[str, object]
"""Values of named parameters; a statement need not use all of them."""


class RangeShape(NamedTuple):
    """Which of the bounds on a row's ts and id a filter has."""

    since: bool
    until: bool
    after_id: bool
    until_id: bool

    @classmethod
    def of(cls, filter: Filter) -> RangeShape:
        """Return the shape of a filter's bounds."""
        return cls(
            since=filter.since is not None,
            until=filter.until is not None,
            after_id=filter.after_id is not None,
            until_id=filter.until_id is not None,
        )

    def on_ts(self, ts: peewee.ColumnBase) -> list[peewee.Node]:
        """Return the bounds on the ts of a row, as conditions."""
        bounds: list[peewee.Node] = []
        if self.since:
            bounds.append(ts >= named("since"))
        if self.until:
            bounds.append(ts <= named("until"))
        return bounds

    def on_id(self, id: peewee.ColumnBase) -> list[peewee.Node]:
        """Return the bounds on the id of a row, as conditions."""
        bounds: list[peewee.Node] = []
        if self.after_id:
            bounds.append(id > named("after_id"))
        if self.until_id:
            bounds.append(id <= named("until_id"))
        return bounds


class ConditionShape(NamedTuple):
    """The shape of a Match: its field, and its number of parameters; 0 if a function in Python evaluates it."""

    field: str
    values: int

    @classmethod
    def of(cls, match: Match) -> ConditionShape:
        """Return the shape of a match; all matches on the payload have the same one."""
        return cls(match.field if match.field in _COLUMNS else "payload", len(_plain_values(match)))


def named(parameter: str) -> peewee.SQL:
    """Return the placeholder of a named parameter, for statements that are written once for all values."""
    return peewee.SQL(f":{parameter}")


def range_values(filter: Filter) -> Values:
    """Return the parameters of a filter's RangeShape, and the limit."""
    return {
        "since": filter.since,
        "until": filter.until,
        "after_id": filter.after_id,
        "until_id": filter.until_id,
        "limit": filter.limit,
    }


def conditions(shapes: Sequence[ConditionShape]) -> list[peewee.Node]:
    """Return conditions of these shapes, in a form that no index is used for."""
    return [_condition(n, shape) for n, shape in enumerate(shapes)]


def condition_values(matches: Iterable[Match]) -> Values:
    """Return the parameters of `conditions` for these matches."""
    values: Values = {}
    for n, match in enumerate(matches):
        plain = _plain_values(match)
        values.update((f"match{n}_{i}", value) for i, value in enumerate(plain))
        if not plain:
            values[f"match{n}"] = msgspec.json.encode(match).decode()
    return values


def sense_keys(match: Match) -> tuple[str, ...]:
    """Return the three keys that `belongs_to` takes for each sense in `match`; none for an invalid name."""
    # A run id is the sense's name, "/" and digits; "0" is the character after "/".
    names = [name for name in match.values if name == sense_of(name)]
    return tuple(key for name in names for key in (name, f"{name}/", f"{name}0"))


def belongs_to(ref_id: peewee.ColumnBase, keys: Sequence[peewee.SQL]) -> peewee.Expression:
    """Return the condition that a row belongs to one of the senses with these keys: two ranges of ref_id for each."""
    ranges = [
        (ref_id == name) | ((ref_id >= begin) & (ref_id < end))
        for name, begin, end in zip(keys[::3], keys[1::3], keys[2::3], strict=True)
    ]
    return functools.reduce(operator.or_, ranges)


def is_error() -> peewee.Node:
    """Return the condition of Filter.errors, in a form that no index is used for."""
    return peewee.NodeList((unindexed(IS_ERROR), peewee.SQL("= 1")))


def unindexed(node: peewee.Node) -> peewee.ColumnBase:
    """Return a column written so that SQLite uses no index for it."""
    return peewee.NodeList((peewee.SQL("+"), node), glue="")


class MatchFunction:
    """The function that these conditions call; `failure` is the exception that it raised, which SQLite hides."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None

    def __call__(self, match: str, column: bytes | None) -> bool:
        """Return True if the condition, a Match as JSON, holds for the value of a column."""
        try:
            return _decoded(match).accepts(None if column is None else readable(column))
        except BaseException as error:
            self.failure = error
            raise

    def raise_failure(self) -> None:
        """Raise what the function has raised since the last call of this method, such as a KeyboardInterrupt."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure


def register_functions(db: sqlite3.Connection) -> MatchFunction:
    """Register the function that these conditions call, and return it."""
    match = MatchFunction()
    db.create_function("nerve_match", 2, match, deterministic=True)
    return match


def readable(text: bytes) -> str:
    """Decode a column; bytes that are not UTF-8, which only another program can have written, become escapes."""
    return text.decode("utf-8", "backslashreplace")


def _condition(n: int, shape: ConditionShape) -> peewee.Node:
    column = _COLUMNS.get(shape.field, LogRow.payload)
    values = [named(f"match{n}_{i}") for i in range(shape.values)]
    if values:
        return belongs_to(unindexed(column), values) if shape.field == "sense" else unindexed(column).in_(values)
    # As bytes: text that is not UTF-8 would make SQLite's driver fail before the function could look at it.
    return fn.nerve_match(named(f"match{n}"), peewee.Cast(column, "BLOB"))


def _plain_values(match: Match) -> tuple[str, ...]:
    """Return the values that SQL itself compares with the column; none if that takes a function."""
    if match.op != "=":
        return ()
    if match.field == "sense":
        return sense_keys(match)
    return match.values if match.field in _PLAIN else ()


@functools.lru_cache(maxsize=256)
def _decoded(match: str) -> Match:
    return msgspec.json.decode(match, type=Match)
