"""Files that the manifest doesn't know: taken in when they are what an interrupted archiver has completed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nerve.errors import StoreError
from nerve.events.model import Log
from nerve.store.archive.directory import ArchiveDirectory
from nerve.store.archive.manifest import ArchivedRange, FileName, RowCounter
from nerve.store.jsonl import from_line, to_line
from nerve.store.utc_days import day_end, day_start

MOST_OPEN_RUNS = 10_000
"""More runs than this are never open at once: a file that lacks entries of so many was not made of this log."""

_MOVE_AWAY = "the file is left alone: move it away"
_END = (2**63, b"")


class Found(NamedTuple):
    """What a file holds, and the runs that were open when it was made, so that their entries are not in it."""

    tally: RowCounter
    open_runs: frozenset[str]


def examine(shelf: ArchiveDirectory, name: FileName, archived: tuple[ArchivedRange, ...], rows: Iterable[Log]) -> Found:
    """Find out what a file holds that the manifest doesn't know.

    `rows` are those of its day that are in the table and not archived, with raw payloads and in order of their id.
    Raises StoreError unless it holds entries of that day that are not archived yet, in order; and each of the rows
    up to its last one, as it is in the table, but for those of runs of which it has nothing.
    """
    tally = RowCounter()
    for number, line in enumerate(shelf.lines(name), 1):
        entry = _entry_of(name.day, tally.last_id, line, f"{shelf.path(name)}, line {number}")
        if any(stretch.holds(entry.id, entry.ref_id) for stretch in archived):
            raise StoreError(f"{shelf.path(name)}, line {number}: entry {entry.id} is archived already; {_MOVE_AWAY}")
        tally.add([entry.id])
    open_runs = _left_out(shelf, name, (row for row in rows if row.id <= tally.last_id))
    if not tally.rows or open_runs is None or not _has_nothing_of(shelf, name, open_runs):
        raise StoreError(f"{shelf.path(name)} is not of this archive: it lacks rows that the log has; {_MOVE_AWAY}")
    return Found(tally, open_runs)


def _entry_of(day: str, previous_id: int, line: bytes, place: str) -> Log:
    """Read a line that must hold an entry of `day`, with an id above `previous_id`."""
    try:
        entry = from_line(line)
    except ValueError as error:
        raise StoreError(f"{place}: damaged ({error}); {_MOVE_AWAY}") from None
    if not day_start(day) <= entry.ts < day_end(day) or entry.id <= previous_id:
        raise StoreError(f"{place}: entry {entry.id} (ts {entry.ts}) doesn't belong there; {_MOVE_AWAY}")
    return entry


def _left_out(shelf: ArchiveDirectory, name: FileName, rows: Iterable[Log]) -> frozenset[str] | None:
    """Give the runs of the rows that are not in the file; None when it can't be that those were open then."""
    left_out: set[str] = set()
    lines = _numbered(shelf.lines(name))
    number, line = next(lines, _END)
    for row in rows:
        while number < row.id:
            number, line = next(lines, _END)
        if number == row.id and line != to_line(row):
            return None
        if number != row.id:
            if row.ref_id is None or len(left_out) >= MOST_OPEN_RUNS:
                return None
            left_out.add(row.ref_id)
    return frozenset(left_out)


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    return ((from_line(line).id, line) for line in lines)


def _has_nothing_of(shelf: ArchiveDirectory, name: FileName, runs: frozenset[str]) -> bool:
    return not runs or all(from_line(line).ref_id not in runs for line in shelf.lines(name))
