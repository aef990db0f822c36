"""What a Filter asks of a row, as SQL: written for its form alone, with a named parameter for each of its values."""

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
"""The values of named parameters; there may be more of them than a statement names."""


class IdRange(NamedTuple):
    """Which bounds a filter has for the moment and the id of a row."""

    since: bool
    until: bool
    after_id: bool
    until_id: bool

    @classmethod
    def of(cls, wanted: Filter) -> IdRange:
        """Tell which ones `wanted` has."""
        return cls(
            since=wanted.since is not None,
            until=wanted.until is not None,
            after_id=wanted.after_id is not None,
            until_id=wanted.until_id is not None,
        )

    def times(self, ts: peewee.ColumnBase) -> list[peewee.Node]:
        """Give what is asked of the moment of a row."""
        asked: list[peewee.Node] = []
        if self.since:
            asked.append(ts >= named("since"))
        if self.until:
            asked.append(ts <= named("until"))
        return asked

    def ids(self, id: peewee.ColumnBase) -> list[peewee.Node]:
        """Give what is asked of the id of a row."""
        asked: list[peewee.Node] = []
        if self.after_id:
            asked.append(id > named("after_id"))
        if self.until_id:
            asked.append(id <= named("until_id"))
        return asked


class ConditionShape(NamedTuple):
    """The form of a demand: its field, and how many parameters its values take; 0 where a function is to judge it."""

    field: str
    values: int

    @classmethod
    def of(cls, demand: Match) -> ConditionShape:
        """Give the form of a demand; those on the payload are all alike."""
        return cls(demand.field if demand.field in _COLUMNS else "payload", len(_plain_values(demand)))


def named(parameter: str) -> peewee.SQL:
    """Give the place of a parameter in a statement that is written once, whatever its value will be."""
    return peewee.SQL(f":{parameter}")


def bound_values(wanted: Filter) -> Values:
    """Give the values of what a filter asks for, and of the limit."""
    return {
        "since": wanted.since,
        "until": wanted.until,
        "after_id": wanted.after_id,
        "until_id": wanted.until_id,
        "limit": wanted.limit,
    }


def conditions(demands: Sequence[ConditionShape]) -> list[peewee.Node]:
    """Give what is demanded of a row, in a form that no index serves."""
    return [_condition(place, demand) for place, demand in enumerate(demands)]


def demand_values(demands: Iterable[Match]) -> Values:
    """Give the values of what `conditions` asks for."""
    values: Values = {}
    for place, demand in enumerate(demands):
        plain = _plain_values(demand)
        values.update((f"demand{place}_{n}", value) for n, value in enumerate(plain))
        if not plain:
            values[f"demand{place}"] = msgspec.json.encode(demand).decode()
    return values


def sense_keys(demand: Match) -> tuple[str, ...]:
    """Give what `belongs_to` takes for each sense that is demanded: none for what can't be the name of one."""
    # A run id is the name of the sense, "/" and more; "0" is the character after "/".
    names = [name for name in demand.values if name == sense_of(name)]
    return tuple(key for name in names for key in (name, f"{name}/", f"{name}0"))


def belongs_to(ref_id: peewee.ColumnBase, keys: Sequence[peewee.SQL]) -> peewee.Expression:
    """Ask for what belongs to one of the senses that have these keys: to the two ranges of each."""
    ranges = [
        (ref_id == name) | ((ref_id >= begin) & (ref_id < end))
        for name, begin, end in zip(keys[::3], keys[1::3], keys[2::3], strict=True)
    ]
    return functools.reduce(operator.or_, ranges)


def is_error() -> peewee.Node:
    """Ask for what a person on call wants to see, in a form that no index serves."""
    return peewee.NodeList((unindexed(IS_ERROR), peewee.SQL("= 1")))


def unindexed(node: peewee.Node) -> peewee.ColumnBase:
    """Write a column so that SQLite doesn't look for an index on it."""
    return peewee.NodeList((peewee.SQL("+"), node), glue="")


class MatchFunction:
    """The function that these conditions call; `failure` is what it has raised, of which SQLite tells nothing."""

    def __init__(self) -> None:
        self.failure: BaseException | None = None

    def __call__(self, demand: str, column: bytes | None) -> bool:
        """Return True if a column holds what is demanded."""
        try:
            return _demand(demand).accepts(None if column is None else readable(column))
        except BaseException as error:
            self.failure = error
            raise

    def raise_failure(self) -> None:
        """Raise what the function has raised since this was called last, such as a KeyboardInterrupt."""
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure


def register_functions(db: sqlite3.Connection) -> MatchFunction:
    """Teach a database the function that these conditions call, and return it."""
    match = MatchFunction()
    db.create_function("nerve_match", 2, match, deterministic=True)
    return match


def readable(text: bytes) -> str:
    """Give the text of a column; what is no UTF-8 in it, which only a stranger can have written, as escapes."""
    return text.decode("utf-8", "backslashreplace")


def _condition(place: int, demand: ConditionShape) -> peewee.Node:
    column = _COLUMNS.get(demand.field, LogRow.payload)
    values = [named(f"demand{place}_{n}") for n in range(demand.values)]
    if values:
        return belongs_to(unindexed(column), values) if demand.field == "sense" else unindexed(column).in_(values)
    # As bytes: what a stranger wrote need not be text, and would fail here, before any function could look at it.
    return fn.nerve_match(named(f"demand{place}"), peewee.Cast(column, "BLOB"))


def _plain_values(demand: Match) -> tuple[str, ...]:
    """Give what SQL itself compares the column with; nothing where that takes a function."""
    if demand.op != "=":
        return ()
    if demand.field == "sense":
        return sense_keys(demand)
    return demand.values if demand.field in _PLAIN else ()


@functools.lru_cache(maxsize=256)
def _demand(text: str) -> Match:
    return msgspec.json.decode(text, type=Match)
