"""LogWriter: appends to the log; lives in the writer process, or in a command while no engine runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import peewee

from nerve.clock import Clock, Stamp, SystemClock
from nerve.errors import StoreError
from nerve.events.catalog import error, run_complete
from nerve.events.model import ErrorDetail, LogEvent
from nerve.ids import sense_of
from nerve.store.error_mapping import sqlite_failures
from nerve.store.schema import LogRow, MetaRow, fetch, get_meta, sql_of
from nerve.store.table.connection import WritableDatabase
from nerve.store.table.open_runs import OpenRuns
from nerve.store.utc_days import day_end, day_start, is_day

if TYPE_CHECKING:
    from nerve.store.archive.order_messages import Conclude

INSERT_SIZES = (250, 10, 1)
"""Rows per INSERT, largest first: a statement costs more than a row, especially with a trigger on the table."""

_FIELDS = (LogRow.source, LogRow.type, LogRow.ref_id, LogRow.payload, LogRow.ts)
_LISTED = peewee.SQL("(SELECT value FROM json_each(?))", ["[]"])
"""Ids as one parameter, a JSON list: a statement for each row would take twice the time."""

_BLANK = ("", "", "", "", 0)
_LANE = "lane:"
ARCHIVE_RUN = "archive_run"
"""Key of the archiver's last run, in the table meta."""

RECORDED_FILES = "recorded_files"
"""Key of the number of archive files that the log has an entry for, in the table meta."""

_LOST = ErrorDetail(kind="lost", message="the engine died while this run was open")


class _Lane(msgspec.Struct, frozen=True):
    """The position in a producer's lane that is committed, and the time of the commit (unix ms)."""

    seq: int
    ts: int


class ArchiveRun(msgspec.Struct, frozen=True):
    """A run of the archiver as the table meta has it: its end (unix ms), the files it made, and their rows."""

    ts: int
    files: int
    rows: int


class LogWriter(WritableDatabase):
    """Appends events, keeps the positions of their producers and the open runs, and deletes archived rows."""

    def __init__(self, path: Path, clock: Clock) -> None:
        super().__init__(path)
        self._clock = clock
        self._inserts = [(n, sql_of(LogRow.insert_many([_BLANK] * n, fields=_FIELDS))) for n in INSERT_SIZES]
        self._delete_listed = sql_of(LogRow.delete().where(LogRow.id.in_(_LISTED)))
        fact = MetaRow.insert_many([("", "")], fields=[MetaRow.key, MetaRow.value])
        self._remember = sql_of(fact.on_conflict(conflict_target=[MetaRow.key], preserve=[MetaRow.value]))
        self._forget_one = sql_of(MetaRow.delete().where(MetaRow.key == ""))
        self._committed = 0
        try:
            with sqlite_failures(self._path):
                self._settled_below = self._number("settled_below", 1)
                self._open_runs = self._recall_open_runs()
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def open(cls, path: Path, clock: Clock | None = None) -> LogWriter:
        """Open the log at `path`, whose folder must exist; a missing file is created, readable by its owner alone."""
        return cls(path, clock or SystemClock())

    @property
    def committed(self) -> int:
        """The number of rows that this object has appended."""
        return self._committed

    @property
    def log_id(self) -> str:
        """The id that the log was given when it was made; none for one that is older than such ids."""
        with sqlite_failures(self._path):
            return get_meta(self._connection, "log_id") or ""

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit events in their order together with the new positions of their producers: all of it, or nothing."""
        now = self._clock.stamp().ts
        lanes = {_LANE + producer: _text(_Lane(seq, now)) for producer, seq in positions.items()}
        if events or lanes:
            self._write(events, lanes)

    def position(self, producer: str) -> int:
        """Return how far the lane of a producer is committed; 0 for an unknown one."""
        with sqlite_failures(self._path):
            value = get_meta(self._connection, _LANE + producer)
        return 0 if value is None else self._lane(value).seq

    def forget(self, *producers: str) -> None:
        """Delete the positions of producers whose lanes are gone."""
        self._forget_lanes([_LANE + producer for producer in producers])

    def producers(self) -> list[str]:
        """Return the producers that have a position."""
        with sqlite_failures(self._path):
            lanes = fetch(self._connection, MetaRow.select(MetaRow.key).where(MetaRow.key.startswith(_LANE)))
        return [key.removeprefix(_LANE) for (key,) in lanes]

    def begin_boot(self, boot_id: str, now: Stamp) -> int:
        """Complete the runs that an earlier boot left open as lost; return their number.

        Nothing is written if the log knows the boot already: then only its writer was restarted.
        """
        with sqlite_failures(self._path):
            if get_meta(self._connection, "boot_id") == boot_id:
                return 0
        lost = list(self._open_runs)
        self._write([event for run in lost for event in _lost(now, run)], {"boot_id": boot_id})
        return len(lost)

    def purge_chunk(self, day: str, last_id: int, limit: int = 1000, open_runs: Sequence[str] = ()) -> int:
        """Delete up to `limit` rows of the UTC day `day` with id <= `last_id`, all of which must be in the archive.

        Those of `open_runs` stay. Returns the number of deleted rows; fewer than `limit` means that none is left. Rows
        are deleted in the order of ts, through its index, so that a chunk costs the same in a day of any size.
        """
        start, end = _bounds(day)
        rows = LogRow.select(LogRow.id).where(LogRow.ts >= start, LogRow.ts < end, LogRow.id <= last_id)
        if open_runs:
            rows = rows.where(LogRow.ref_id.is_null() | LogRow.ref_id.not_in(open_runs))
        with self._transaction() as connection:
            ids = fetch(connection, rows.order_by(LogRow.ts, LogRow.id).limit(limit))
            if ids:
                self._raise_watermark(connection, end, max(ids)[0])
                connection.execute(self._delete_listed, [_text([row_id for (row_id,) in ids])])
        return len(ids)

    def record_file(self, event: LogEvent, number: int) -> None:
        """Append the event of the archive's file with this number, unless the log has it.

        Files are numbered from 1 and recorded in that order, so that each is recorded once even if an archiver dies.
        """
        if number > self._number(RECORDED_FILES, 0):
            self._write([event], {RECORDED_FILES: str(number)})

    def note_archive_run(self, run: Conclude) -> None:
        """Remember the archiver's last run."""
        with self._transaction() as connection:
            connection.execute(self._remember, (ARCHIVE_RUN, _text(ArchiveRun(run.ts, run.files, run.rows))))

    def _write(self, events: Sequence[LogEvent], facts: Mapping[str, str]) -> None:
        open_runs, settled_below = self._open_runs, self._settled_below
        with self._transaction() as connection:
            if events:
                first_id = self._insert(connection, events)
                marks = ((n, e.type, e.ref_id) for n, e in enumerate(events, first_id) if e.source == "reflex")
                open_runs = open_runs.after(marks)
                settled_below = open_runs.settled_below(first_id + len(events))
            if settled_below != self._settled_below:
                facts = {**facts, "settled_below": str(settled_below)}
            connection.executemany(self._remember, facts.items())
        self._open_runs, self._settled_below = open_runs, settled_below
        self._committed += len(events)

    def _insert(self, connection: sqlite3.Connection, events: Sequence[LogEvent]) -> int:
        """Insert events and return the id of the first one; the ids of the others follow, as nothing else inserts."""
        start = 0
        for size, insert in self._inserts:
            end = len(events) - (len(events) - start) % size
            connection.executemany(insert, (_values(events[at : at + size]) for at in range(start, end, size)))
            start = end
        (last_id,) = connection.execute("SELECT last_insert_rowid()").fetchone()
        return int(last_id) - len(events) + 1

    def _raise_watermark(self, connection: sqlite3.Connection, ts: int, id: int) -> None:
        marks = {"watermark_ts": ts, "watermark_id": id}
        raised = [(key, str(max(mark, self._number(key, mark)))) for key, mark in marks.items()]
        connection.executemany(self._remember, raised)

    def _forget_lanes(self, keys: Iterable[str]) -> None:
        with self._transaction() as connection:
            connection.executemany(self._forget_one, [(key,) for key in keys])

    def _number(self, key: str, default: int) -> int:
        value = get_meta(self._connection, key)
        try:
            return default if value is None else int(value)
        except ValueError:
            raise StoreError(f"{self._path} has a damaged {key} in its table meta: {value!r}") from None

    def _lane(self, value: str) -> _Lane:
        try:
            return msgspec.json.decode(value, type=_Lane)
        except msgspec.DecodeError as why:
            raise StoreError(f"{self._path} has a damaged position in its table meta ({why}): {value[:80]}") from None

    def _recall_open_runs(self) -> OpenRuns:
        marks = LogRow.select(LogRow.id, LogRow.type, LogRow.ref_id).where(
            LogRow.source == "reflex", LogRow.type.in_(["run_start", "run_complete"]), LogRow.id >= self._settled_below
        )
        return OpenRuns().after((row[0], row[1], row[2]) for row in fetch(self._connection, marks.order_by(LogRow.id)))


def _values(events: Iterable[LogEvent]) -> list[str | int | None]:
    return [value for e in events for value in (e.source, e.type, e.ref_id, e.payload, e.ts)]


def _lost(now: Stamp, run: str) -> tuple[LogEvent, LogEvent]:
    end = run_complete(now, run, sense_of(run), status="lost", duration_ms=None, signal=False, worker=None)
    return error(now, run, _LOST), end


def _bounds(day: str) -> tuple[int, int]:
    if not is_day(day):
        raise StoreError(f"{day[:40]!r} is not a valid day: write it as 2026-11-23")
    return day_start(day), day_end(day)


def _text(value: msgspec.Struct | list[int]) -> str:
    return msgspec.json.encode(value).decode()
