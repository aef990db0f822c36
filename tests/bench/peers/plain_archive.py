"""An archive by hand: one SELECT to a file of JSON lines, then one DELETE, while another process keeps inserting.

`python -m bench.peers.plain_archive DB RETENTION EVENTS` (seconds, events a second) prints the seconds that it took.
The database is copied before.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from multiprocessing.synchronize import Event
from pathlib import Path

BATCH = 10
INSERT = "INSERT INTO logs(source, type, ref_id, payload, ts) VALUES ('sense', 'incoming', 'incoming/1', ?, ?)"
_fork = multiprocessing.get_context("fork")


def opened(db: Path) -> sqlite3.Connection:
    """Open the log as durable as nerve's is."""
    connection = sqlite3.connect(db, isolation_level=None, timeout=120)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    return connection


def insert(db: Path, rate: int, running: Event, stop: Event) -> None:
    """Insert so many rows a second, each batch committed (child)."""
    with closing(opened(db)) as connection:
        began, batch = time.monotonic(), 0
        while not stop.is_set():
            now = time.time_ns() // 1_000_000
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, [(f'{{"n":{n}}}', now) for n in range(BATCH)])
            connection.execute("COMMIT")
            running.set()
            batch += 1
            time.sleep(max(0.0, began + batch * BATCH / rate - time.monotonic()))


@contextmanager
def incoming(db: Path, rate: int) -> Iterator[None]:
    """Keep inserting from another process."""
    running, stop = _fork.Event(), _fork.Event()
    child = _fork.Process(target=insert, args=(db, rate, running, stop))
    child.start()
    running.wait(30)
    try:
        yield
    finally:
        stop.set()
        child.join()


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
    """Archive a copy of the database, and print the time."""
    copy = Path("copy.db").absolute()
    shutil.copyfile(db, copy)
    cutoff = time.time_ns() // 1_000_000 - round(float(retention) * 1000)
    with incoming(copy, int(rate)):
        began = time.monotonic()
        archive(copy, cutoff)
        seconds = time.monotonic() - began
    copy.unlink()
    sys.stdout.write(str(seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
