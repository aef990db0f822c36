"""Finding runs in the table by a part of their id, through the index on ref_id."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

import peewee
from peewee import fn

from nerve.ids import sense_of
from nerve.store.provenance.run_name import RunName
from nerve.store.schema import LogRow, fetch

_AFTER_ALL = "~"  # greater than every character of an id


def find_runs(db: sqlite3.Connection, name: RunName, at_most: int) -> list[str]:
    """Return the ids of up to `at_most` runs that `name` can mean, the newest of each sense first.

    Digits without a sense are the beginning of an id or of its digits or, if none begins with them, the end of one.
    """
    exact = str(name)
    if not name.is_ending and name.sense and fetch(db, LogRow.select(LogRow.id).where(LogRow.ref_id == exact).limit(1)):
        return [exact]
    for parts in _readings(db, name, at_most):
        runs = {run for part in parts for run in islice(part, at_most)}
        if runs:
            return sorted(runs, key=_digits, reverse=True)[:at_most]
    return []


def _readings(db: sqlite3.Connection, name: RunName, at_most: int) -> Iterator[Iterator[Iterable[str]]]:
    """Yield, for each way to read the name in turn, the runs that it means, in several parts."""
    senses = _senses(db) if name.sense is None else iter([name.sense])
    if not name.is_ending:
        by_digits = (_starting_with(db, f"{sense}/{name.digits}") for sense in senses)
        yield by_digits if name.sense else chain([_starting_with(db, name.digits)], by_digits)
    if name.is_ending or not name.sense:
        prefix = f"{name.sense}/" if name.sense else ""
        yield iter([_ending_with(db, prefix, name.digits, at_most)])


def _senses(db: sqlite3.Connection) -> Iterator[str]:
    """Yield each name before a `/`, skipping through the index on ref_id from one to the next."""
    after = ""
    while (ref := _edge(db, fn.min, LogRow.ref_id > after)) is not None:
        # "0" is the character after "/": the next name is behind it.
        after = f"{sense_of(ref)}0" if "/" in ref else ref
        if "/" in ref:
            yield sense_of(ref)


def _starting_with(db: sqlite3.Connection, start: str) -> Iterator[str]:
    """Yield the runs whose id starts with `start`, the last one first, each by one step through the index."""
    below = f"{start}{_AFTER_ALL}"
    while (ref := _edge(db, fn.max, LogRow.ref_id >= start, LogRow.ref_id < below)) is not None:
        below = ref
        if "/" in ref:
            yield ref


def _ending_with(db: sqlite3.Connection, prefix: str, digits: str, at_most: int) -> list[str]:
    """Return the runs whose id starts with `prefix` and ends with `digits`; scans the index for the prefix."""
    where = [
        LogRow.ref_id >= prefix,
        LogRow.ref_id < f"{prefix}{_AFTER_ALL}",
        fn.substr(LogRow.ref_id, -len(digits)) == digits,
    ]
    runs = LogRow.select(LogRow.ref_id).distinct().where(*where, fn.instr(LogRow.ref_id, "/") > 0)
    return [ref for (ref,) in fetch(db, runs.order_by(LogRow.ref_id.desc()).limit(at_most))]


def _edge(db: sqlite3.Connection, edge: Callable[[peewee.Node], peewee.Node], *where: peewee.Node) -> str | None:
    ref: str | None = fetch(db, LogRow.select(edge(LogRow.ref_id)).where(*where))[0][0]
    return ref


def _digits(run_id: str) -> str:
    return run_id.rpartition("/")[2]
