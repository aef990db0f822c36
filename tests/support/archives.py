"""Logs with an archive, made without an engine."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Literal

import msgspec

from nerve.config.logs_section import LogsConfig
from nerve.events.model import LogEvent
from nerve.maintenance.archiver import DirectBackend
from nerve.store.archive.export import Archive
from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.order_messages import Order, Purge
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS, day_of, day_start

FIRST_DAY = "2026-11-01"
NOW = day_start("2026-12-01")
"""The time of archiving: all days from FIRST_DAY to the end of the month have ended then."""


def at(day: int, ms: int = 0) -> int:
    """Return the time `day` days and `ms` ms after the beginning of FIRST_DAY, in unix ms."""
    return day_start(FIRST_DAY) + day * DAY_MS + ms


def folder_of(db: Path) -> Path:
    """Return the archive folder of the log at `db`."""
    return db.parent / "archive" / "logs"


class _Backend(DirectBackend):
    """Executes orders at once; with `purge` False it deletes nothing, as if it died before each deletion."""

    def __init__(self, writer: LogWriter, *, purge: bool) -> None:
        super().__init__(writer, lambda _progress: None)
        self._purges = purge

    def execute(self, order: Order) -> int:
        """Execute an order, or skip a deletion."""
        return 0 if isinstance(order, Purge) and not self._purges else super().execute(order)


def archive_before(
    db: Path, day: int, *, purge: bool = True, compress: Literal["zstd"] | None = None
) -> list[ManifestEntry]:
    """Archive the days before `day` in one run; return the manifest's entries of the files it made.

    Without `purge` nothing is deleted from the table, as if the run died after each file.
    """
    writer = LogWriter.open(db)
    logs = LogsConfig(retention=(NOW - at(day)) / 1000, compress=compress)
    try:
        archive = Archive(folder_of(db), db, _Backend(writer, purge=purge), lambda _reason: None)
        return [exported.entry for exported in archive.run_once(NOW, logs)]
    finally:
        writer.close()


def append(db: Path, events: Iterable[LogEvent]) -> None:
    """Append events with a writer that is opened and closed for it."""
    writer = LogWriter.open(db)
    writer.append(list(events), {})
    writer.close()


def write_large(db: Path, *, archived_days: int, rows_a_day: int) -> int:
    """Make, quickly, a log of runs of three entries each with all but its last day archived; return its last id.

    `rows_a_day` is a multiple of three.
    """
    LogWriter.open(db).close()
    with closing(sqlite3.connect(db)) as connection:
        (log_id,) = connection.execute("SELECT value FROM meta WHERE key = 'log_id'").fetchone()
        last = (archived_days + 1) * rows_a_day
        with connection:
            connection.executemany("INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?)", _rows(archived_days, rows_a_day))
            marks = {"watermark_ts": at(archived_days), "watermark_id": last - rows_a_day, "settled_below": last + 1}
            connection.executemany("INSERT INTO meta VALUES (?, ?)", [(key, str(mark)) for key, mark in marks.items()])
    folder_of(db).mkdir(parents=True)
    with (folder_of(db) / "manifest.jsonl").open("wb") as manifest:
        for day in range(archived_days):
            manifest.write(msgspec.json.encode(_file(folder_of(db), day, rows_a_day, log_id)) + b"\n")
    return last


def write_table(db: Path, rows: int) -> None:
    """Make, quickly, a log of `rows` entries (a multiple of three), all of FIRST_DAY and in the table."""
    LogWriter.open(db).close()
    with closing(sqlite3.connect(db)) as connection, connection:
        connection.executemany("INSERT INTO logs VALUES (?, ?, ?, ?, ?, ?)", _rows(0, rows))
        connection.execute("INSERT INTO meta VALUES ('settled_below', ?)", (str(rows + 1),))


def _rows(day: int, rows: int) -> Iterator[tuple[int, str, str, str, str, int]]:
    """Return the rows of a day, if each day before it has the same number of rows."""
    first, start, step = day * rows + 1, at(day), DAY_MS // rows
    for n in range(0, rows, 3):
        number, ts = first + n, start + n * step
        run = f"cpu/{ts:012x}7{number:019x}"
        begun = f'{{"sense":"cpu","reflex":"cpu-every-2s","trigger":"interval","cause":null,"scheduled_ts":{ts}}}'
        yield number, "reflex", "run_start", run, begun, ts
        yield number + 1, "sense", "reading", run, f'{{"percent":{n % 100}.5,"n":{n}}}', ts + 1
        yield number + 2, "reflex", "run_complete", run, '{"sense":"cpu","status":"ok","duration_ms":1.5}', ts + 2


def _file(folder: Path, day: int, rows: int, log_id: str) -> ManifestEntry:
    data = "".join(
        f'{{"id":{number},"source":"{source}","type":"{kind}","ref_id":"{ref}","payload":{payload},"ts":{ts}}}\n'
        for number, source, kind, ref, payload, ts in _rows(day, rows)
    ).encode()
    name = f"{day_of(at(day))}.jsonl"
    (folder / name).write_bytes(data)
    first, digest = day * rows + 1, hashlib.sha256(data).hexdigest()
    return ManifestEntry(
        day=day_of(at(day)),
        file=name,
        rows=rows,
        first_id=first,
        last_id=first + rows - 1,
        sha256=digest,
        bytes=len(data),
        ts=NOW,
        log_id=log_id,
    )
