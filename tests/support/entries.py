"""Events to write, and plain SQL to inspect the log."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from nerve.events.model import LogEvent

NOON = 1_700_049_600_000
"""2023-11-15 12:00 UTC."""


def event(
    type: str = "reading",
    *,
    source: str = "sense",
    ref_id: str | None = "cpu/1",
    payload: object = None,
    ts: int = NOON,
) -> LogEvent:
    """Return an event, by default one that a sense logged."""
    return LogEvent(source, type, ref_id, json.dumps(payload), ts, 0)


def started(run: str, *, cause: str | None = None, ts: int = NOON) -> LogEvent:
    """Return the `run_start` of a run."""
    return event("run_start", source="reflex", ref_id=run, payload={"cause": cause}, ts=ts)


def completed(run: str, status: str = "ok", *, ts: int = NOON) -> LogEvent:
    """Return the `run_complete` of a run."""
    return event("run_complete", source="reflex", ref_id=run, payload={"status": status}, ts=ts)


def sql(db: Path, statement: str, parameters: Iterable[Any] = ()) -> list[Any]:
    """Run one statement with plain sqlite3, as any program could, and return its rows."""
    with closing(sqlite3.connect(db, isolation_level=None)) as connection:
        return connection.execute(statement, tuple(parameters)).fetchall()
