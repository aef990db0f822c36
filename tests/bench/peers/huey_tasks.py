"""Huey's task, as its consumer and the driver import it: a queue in huey.db, as durable as nerve's log."""

from __future__ import annotations

from huey import SqliteHuey

huey = SqliteHuey(filename="huey.db", fsync=True)


@huey.task()
def nothing() -> int:
    """Do nothing; the result is stored, which None would not be."""
    return 1
