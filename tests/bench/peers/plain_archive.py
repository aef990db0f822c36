"""An archive by hand: one SELECT to a file of JSON lines, then one DELETE, while another process keeps inserting.

`python -m bench.peers.plain_archive DB RETENTION EVENTS` (seconds, events a second) prints the seconds that it took,
the longest time that an insert took meanwhile (ms), and how many rows were inserted. The database is copied before.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sqlite3
import sys
import time
from contextlib import closing
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from bench.filling import copy_log

BATCH = 10
INSERT = "INSERT INTO logs(source, type, ref_id, payload, ts) VALUES ('sense', 'incoming', 'incoming/1', ?, ?)"
_fork = multiprocessing.get_context("fork")


def opened(db: Path) -> sqlite3.Connection:
    """Open the log with the durability of nerve's."""
    connection = sqlite3.connect(db, isolation_level=None, timeout=120)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def insert(db: Path, rate: int, stop: Event, parent: Connection) -> None:
    """Insert rows at this rate per second, batch by batch; send the longest time of a batch, and the rows (child)."""
    with closing(opened(db)) as connection:
        began, batches, longest = time.monotonic(), 0, 0.0
        while not stop.is_set():
            at = time.monotonic()
            now = time.time_ns() // 1_000_000
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [(f'{{"n":{n}}}', now) for n in range(BATCH)])
            connection.execute("COMMIT")
            longest = max(longest, time.monotonic() - at)
            batches += 1
            if batches == 1:
                parent.send(None)
            time.sleep(max(0.0, began + batches * BATCH / rate - time.monotonic()))
    parent.send((longest * 1000, batches * BATCH))


class Incoming:
    """A process that keeps inserting rows; a context manager."""

    def __init__(self, db: Path, rate: int) -> None:
        self._stop = _fork.Event()
        self._reports, theirs = _fork.Pipe(duplex=False)
        self._child = _fork.Process(target=insert, args=(db, rate, self._stop, theirs))
        self.longest_ms = 0.0
        self.rows = 0

    def __enter__(self) -> Incoming:
        self._child.start()
        self._reports.recv()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stop.set()
        self.longest_ms, self.rows = self._reports.recv()
        self._child.join()


def archive(db: Path, cutoff: int) -> None:
    """Write all rows before `cutoff` (unix ms) to a file, sync it, and delete them."""
    with closing(opened(db)) as connection, Path("archive.jsonl").open("w") as file:
        rows = connection.execute("SELECT id, source, type, ref_id, payload, ts FROM logs WHERE ts < ?", (cutoff,))
        names = [column[0] for column in rows.description]
        for row in rows:
            entry = dict(zip(names, row, strict=True))
            entry["payload"] = json.loads(entry["payload"])
            file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
        connection.execute("DELETE FROM logs WHERE ts < ?", (cutoff,))


def main(db: str, retention: str, rate: str) -> None:
    """Archive a copy of the database, and print the figures."""
    copy = Path("copy.db").absolute()
    copy_log(Path(db), copy)
    cutoff = time.time_ns() // 1_000_000 - round(float(retention) * 1000)
    with Incoming(copy, int(rate)) as incoming:
        began = time.monotonic()
        archive(copy, cutoff)
        seconds = time.monotonic() - began
    copy.unlink()
    sys.stdout.write(f"{seconds} {incoming.longest_ms} {incoming.rows}")


if __name__ == "__main__":
    main(*sys.argv[1:])
