"""LogWriter: appends to the log; lives in the writer, or in a command while no engine runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

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

INSERT_SIZES = (250, 10, 1)
"""Rows of one INSERT, the most first: a statement costs more than a row, the more so with a trigger on the table."""

_FIELDS = (LogRow.source, LogRow.type, LogRow.ref_id, LogRow.payload, LogRow.ts)
_LISTED = peewee.SQL("(SELECT value FROM json_each(?))", ["[]"])
"""Ids as one parameter, a list in JSON: a statement for each row would take twice the time."""

_BLANK = ("", "", "", "", 0)
_LANE = "lane:"
ARCHIVE_RUN = "archive_run"
"""What the archiver's last run is remembered under, in the table meta."""

RECORDED_FILES = "recorded_files"
"""Under this, for how many files of the archive the log has the entry that says so."""

_LOST = ErrorDetail(kind="lost", message="the engine died while this run was open")


class _Lane(msgspec.Struct, frozen=True):
    """Where a producer stands: the position in its lane, and when that was committed (unix ms)."""

    seq: int
    ts: int


class ArchiveRun(msgspec.Struct, frozen=True):
    """A run of the archiver: when it ended (unix ms), the files that it made, and the rows that went into them."""

    ts: int
    files: int
    rows: int


class LogWriter(WritableDatabase):
    """Appends events, remembers where their producers stand and which runs are open, and deletes what is archived."""

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
        """Open the log at `path`, and make it (for its owner alone) when it isn't there; its folder must be."""
        return cls(path, clock or SystemClock())

    @property
    def committed(self) -> int:
        """How many rows this object has appended."""
        return self._committed

    @property
    def log_id(self) -> str:
        """The id that the log was given when it was made; none for one that is older than such ids."""
        with sqlite_failures(self._path):
            return get_meta(self._connection, "log_id") or ""

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit events in their order, and with them where their producers then stand: all of it, or nothing."""
        now = self._clock.stamp().ts
        lanes = {_LANE + producer: _text(_Lane(seq, now)) for producer, seq in positions.items()}
        if events or lanes:
            self._write(events, lanes)

    def position(self, producer: str) -> int:
        """Return how far the lane of a producer is committed; 0 for one that is not known."""
        with sqlite_failures(self._path):
            value = get_meta(self._connection, _LANE + producer)
        return 0 if value is None else self._lane(value).seq

    def forget(self, *producers: str) -> None:
        """Forget producers that will not come back."""
        self._forget_lanes([_LANE + producer for producer in producers])

    def producers(self) -> list[str]:
        """Give the producers whose position is known."""
        with sqlite_failures(self._path):
            lanes = fetch(self._connection, MetaRow.select(MetaRow.key).where(MetaRow.key.startswith(_LANE)))
        return [key.removeprefix(_LANE) for (key,) in lanes]

    def begin_boot(self, boot_id: str, now: Stamp) -> int:
        """Complete, as lost, the runs that an earlier boot has left open; gives how many those were.

        Nothing is written for the boot that the log knows already, whose writer was only restarted.
        """
        with sqlite_failures(self._path):
            if get_meta(self._connection, "boot_id") == boot_id:
                return 0
        lost = list(self._open_runs)
        self._write([event for run in lost for event in _lost(now, run)], {"boot_id": boot_id})
        return len(lost)

    def purge_chunk(self, day: str, last_id: int, limit: int = 1000, open_runs: Sequence[str] = ()) -> int:
        """Delete up to `limit` rows of the UTC day `day` with id <= `last_id`: rows that are in the archive.

        Those of `open_runs` stay. Gives how many went; fewer than `limit` means that none is left. They go in the order
        of their ts, which an index serves: a chunk costs the same however large the day is.
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
        """Append what is to be said of the archive's file with this number, unless that has been done.

        They are numbered from 1 on, and told in that order: so each is told once, however often an archiver dies.
        """
        if number > self._number(RECORDED_FILES, 0):
            self._write([event], {RECORDED_FILES: str(number)})

    def note_archive_run(self, run: ArchiveRun) -> None:
        """Remember the archiver's last run."""
        with self._transaction() as connection:
            connection.execute(self._remember, (ARCHIVE_RUN, _text(run)))

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
        """Insert events and give the id of the first; the others follow, since nobody else inserts."""
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
        raise StoreError(f"{day[:40]!r} is no day: write it as 2026-11-23")
    return day_start(day), day_end(day)


def _text(value: msgspec.Struct | list[int]) -> str:
    return msgspec.json.encode(value).decode()
