"""Plain SQLite: `python -m bench.peers.plain_sqlite DB ROWS` inserts ready rows, and prints rows per second."""

from __future__ import annotations

import sqlite3
import sys
import time
from contextlib import closing

BATCH = 1_000
INSERT = "INSERT INTO logs(source, type, ref_id, payload, ts) VALUES (?, ?, ?, ?, ?)"

Row = tuple[str, str, str, str, int]


def ready_rows(count: int) -> list[Row]:
    """Return rows like those that nerve's computes log."""
    now = time.time_ns() // 1_000_000
    run = "writing0/01a20a77fb40781c9d7a588d402bb6e1"
    return [
        ("sense", "reading", run, f'{{"n":{n},"value":0.5,"unit":"percent"}}', now + n // 100) for n in range(count)
    ]


def main(db: str, count: str) -> None:
    """Insert the rows, BATCH per transaction, and print the rate."""
    rows = ready_rows(int(count))
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = FULL")
        began = time.monotonic()
        for at in range(0, len(rows), BATCH):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(INSERT, rows[at : at + BATCH])
            connection.execute("COMMIT")
        sys.stdout.write(str(len(rows) / (time.monotonic() - began)))


if __name__ == "__main__":
    main(*sys.argv[1:])
