"""Finding a run by what a person has of its id: all of it, its beginning, its digits, or its last ones."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice

import peewee
from peewee import fn

from nerve.ids import sense_of
from nerve.store.schema import LogRow, fetch

_TYPED = re.compile(r"(?:(?P<sense>[a-z0-9_-]+)/)?(?P<ellipsis>…|\.\.\.)?(?P<digits>[a-z0-9_-]*)")
_AFTER_ALL = "~"  # greater than every character of an id


@dataclass(frozen=True, slots=True)
class RunName:
    """What was typed for a run: the name of its sense, if any, and the first (or, after an ellipsis, last) digits."""

    sense: str | None
    digits: str
    is_ending: bool

    @classmethod
    def parse(cls, text: str) -> RunName:
        """Read `cpu/01a2`, `cpu/…3f`, `01a2` or `…3f`; raises ValueError, with one line, for anything else."""
        found = _TYPED.fullmatch(text.strip().lower())
        if found is None or not (found["sense"] or found["digits"]):
            raise ValueError(f"{text!r} is no part of a run id: write it as `nerve logs` shows it, or its first digits")
        return cls(found["sense"], found["digits"], bool(found["ellipsis"] and found["digits"]))

    def fits(self, run_id: str) -> bool:
        """Tell whether the name can mean this run."""
        sense, _, digits = run_id.rpartition("/")
        if self.sense is not None and self.sense != sense:
            return False
        if self.is_ending:
            return digits.endswith(self.digits)
        return digits.startswith(self.digits) or (
            self.sense is None and (run_id.startswith(self.digits) or digits.endswith(self.digits))
        )

    def __str__(self) -> str:
        return f"{self.sense}/" * bool(self.sense) + "…" * self.is_ending + self.digits


def find_runs(db: sqlite3.Connection, name: RunName, at_most: int) -> list[str]:
    """Give the ids of up to `at_most` runs that `name` can mean, the newest of each sense first.

    Bare digits are taken for the beginning of an id, or of its digits, and where none begins so, for the end of one.
    """
    exact = str(name)
    if not name.is_ending and name.sense and fetch(db, LogRow.select(LogRow.id).where(LogRow.ref_id == exact).limit(1)):
        return [exact]
    for ways in _readings(db, name, at_most):
        found = {run for way in ways for run in islice(way, at_most)}
        if found:
            return sorted(found, key=_digits, reverse=True)[:at_most]
    return []


def _readings(db: sqlite3.Connection, name: RunName, at_most: int) -> Iterator[Iterator[Iterable[str]]]:
    """Give, for one reading of the name after the other, the runs that it can mean, in several parts."""
    roots = _senses(db) if name.sense is None else iter([name.sense])
    if not name.is_ending:
        by_digits = (_beginning(db, f"{root}/{name.digits}") for root in roots)
        yield by_digits if name.sense else chain([_beginning(db, name.digits)], by_digits)
    if name.is_ending or not name.sense:
        root = f"{name.sense}/" if name.sense else ""
        yield iter([_ending(db, root, name.digits, at_most)])


def _senses(db: sqlite3.Connection) -> Iterator[str]:
    """Give each name before a `/`, hopping through the index on ref_id from one to the next."""
    after = ""
    while (ref := _edge(db, fn.min, LogRow.ref_id > after)) is not None:
        # "0" is the character after "/": behind it is the next name.
        after = f"{sense_of(ref)}0" if "/" in ref else ref
        if "/" in ref:
            yield sense_of(ref)


def _beginning(db: sqlite3.Connection, start: str) -> Iterator[str]:
    """Give the runs whose id begins so, from the last one on, each found by one step through the index."""
    below = f"{start}{_AFTER_ALL}"
    while (ref := _edge(db, fn.max, LogRow.ref_id >= start, LogRow.ref_id < below)) is not None:
        below = ref
        if "/" in ref:
            yield ref


def _ending(db: sqlite3.Connection, root: str, digits: str, at_most: int) -> list[str]:
    """Give the runs whose id begins and ends so; goes through the index of all that begin so."""
    where = [
        LogRow.ref_id >= root,
        LogRow.ref_id < f"{root}{_AFTER_ALL}",
        fn.substr(LogRow.ref_id, -len(digits)) == digits,
    ]
    runs = LogRow.select(LogRow.ref_id).distinct().where(*where, fn.instr(LogRow.ref_id, "/") > 0)
    return [ref for (ref,) in fetch(db, runs.order_by(LogRow.ref_id.desc()).limit(at_most))]


def _edge(db: sqlite3.Connection, edge: Callable[[peewee.Node], peewee.Node], *where: peewee.Node) -> str | None:
    found: str | None = fetch(db, LogRow.select(edge(LogRow.ref_id)).where(*where))[0][0]
    return found


def _digits(run_id: str) -> str:
    return run_id.rpartition("/")[2]
