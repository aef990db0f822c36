"""Python's logging: QueueHandlers in all processes, and one QueueListener that commits each record to SQLite.

`python -m bench.peers.stdlib_logging PROCESSES RECORDS` prints records a second, until the last one is committed.
"""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import sqlite3
import sys
import time
from contextlib import closing
from multiprocessing.synchronize import Barrier

SCHEMA = "CREATE TABLE records(id INTEGER PRIMARY KEY, level TEXT, logger TEXT, message TEXT, created REAL)"
INSERT = "INSERT INTO records(level, logger, message, created) VALUES (?, ?, ?, ?)"
_fork = multiprocessing.get_context("fork")


class SQLiteHandler(logging.Handler):
    """A handler that commits each record on its own."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(SCHEMA)

    def emit(self, record: logging.LogRecord) -> None:
        """Insert the record without a transaction, so that it is committed at once."""
        self._connection.execute(INSERT, (record.levelname, record.name, record.getMessage(), record.created))

    def close(self) -> None:
        """Close the handler and its database."""
        self._connection.close()
        super().close()


def log(records: multiprocessing.Queue[logging.LogRecord], count: int, barrier: Barrier) -> None:
    """Log this number of records (child)."""
    logger = logging.getLogger("reading")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(records))
    barrier.wait()
    for n in range(count):
        logger.info("n=%d value=%s unit=%s", n, 0.5, "percent")


def main(processes: str, count: str) -> None:
    """Log on all processes at once, and print the rate."""
    records: multiprocessing.Queue[logging.LogRecord] = _fork.Queue()
    barrier = _fork.Barrier(int(processes) + 1)
    share = int(count) // int(processes)
    children = [_fork.Process(target=log, args=(records, share, barrier)) for _ in range(int(processes))]
    for child in children:
        child.start()
    handler = SQLiteHandler("records.db")
    listener = logging.handlers.QueueListener(records, handler)
    listener.start()
    barrier.wait()
    began = time.monotonic()
    for child in children:
        child.join()
    listener.stop()  # after handling everything that is in the queue
    seconds = time.monotonic() - began
    handler.close()
    with closing(sqlite3.connect("records.db")) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM records").fetchone()
    if rows != share * len(children):
        raise RuntimeError(f"{rows} of {share * len(children)} records were committed")
    sys.stdout.write(str(rows / seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
