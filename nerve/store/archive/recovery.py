"""Examining files that are not in the manifest: those completed by an interrupted archiver are adopted."""

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
"""More runs are never open at once: a file that lacks entries of more runs was not made from this log."""

_MOVE_AWAY = "the file is left alone: move it away"
_END = (2**63, b"")


class FileContents(NamedTuple):
    """The entries of a file, and the runs that were open when it was made, whose entries are not in it."""

    counter: RowCounter
    open_runs: frozenset[str]


def examine(
    directory: ArchiveDirectory, name: FileName, archived: tuple[ArchivedRange, ...], rows: Iterable[Log]
) -> FileContents:
    """Return the contents of a file that is not in the manifest.

    `rows` are those of its day that are in the table and not archived, with raw payloads, in the order of their ids.
    Raises StoreError unless the file has entries of that day that are not archived yet, in order, and among them all of
    the rows up to its last entry, as they are in the table, except those of runs of which it has no entry.
    """
    counter = RowCounter()
    for number, line in enumerate(directory.lines(name), 1):
        entry = _entry_of(name.day, counter.last_id, line, f"{directory.path(name)}, line {number}")
        if any(earlier.holds(entry.id, entry.ref_id) for earlier in archived):
            raise StoreError(
                f"{directory.path(name)}, line {number}: entry {entry.id} is archived already; {_MOVE_AWAY}"
            )
        counter.add([entry.id])
    open_runs = _left_out(directory, name, (row for row in rows if row.id <= counter.last_id))
    if not counter.rows or open_runs is None or not _has_nothing_of(directory, name, open_runs):
        raise StoreError(f"{directory.path(name)} is not of this archive: it lacks rows that the log has; {_MOVE_AWAY}")
    return FileContents(counter, open_runs)


def _entry_of(day: str, previous_id: int, line: bytes, place: str) -> Log:
    """Decode a line, which must have an entry of `day` with an id above `previous_id`. Raises StoreError."""
    try:
        entry = from_line(line)
    except ValueError as error:
        raise StoreError(f"{place}: damaged ({error}); {_MOVE_AWAY}") from None
    if not day_start(day) <= entry.ts < day_end(day) or entry.id <= previous_id:
        raise StoreError(f"{place}: entry {entry.id} (ts {entry.ts}) doesn't belong there; {_MOVE_AWAY}")
    return entry


def _left_out(directory: ArchiveDirectory, name: FileName, rows: Iterable[Log]) -> frozenset[str] | None:
    """Return the runs of the rows that are not in the file; None if those can't have been open when it was made."""
    left_out: set[str] = set()
    lines = _numbered(directory.lines(name))
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


def _has_nothing_of(directory: ArchiveDirectory, name: FileName, runs: frozenset[str]) -> bool:
    return not runs or all(from_line(line).ref_id not in runs for line in directory.lines(name))
