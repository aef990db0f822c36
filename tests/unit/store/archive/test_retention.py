"""Retention: which days are due, by their age and by the size of the log."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.entries import event, started

from nerve.config.logs_section import LogsConfig
from nerve.store.archive.retention import DayPlan, DueDay, due_days, oversize, plan
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS, day_start

NAMES = ["2026-11-19", "2026-11-20", "2026-11-21", "2026-11-22"]
NOW = day_start("2026-11-22") + 1000
LOGS = LogsConfig(retention=2 * DAY_MS / 1000)


@pytest.fixture
def filled(db: Path, writer: LogWriter) -> Path:
    """A log with 500 rows of about 1 KB on each day; the last day is today."""
    for day in NAMES:
        writer.append([event(payload="x" * 1000, ts=day_start(day)) for _ in range(500)], {})
    return db


def size(db: Path) -> int:
    """Return the size of the database without unused pages."""
    with LogReader(db) as reader:
        return reader.live_bytes()


def test_only_old_days_are_due_without_max_size(filled: Path) -> None:
    """The size of the log makes no difference."""
    with LogReader(filled) as reader:
        assert list(due_days(reader, NOW, LOGS)) == [DueDay(NAMES[0], "retention")]
        assert oversize(reader, LOGS) == 0


def test_oldest_days_are_due_until_the_log_is_below_max_size(filled: Path, writer: LogWriter) -> None:
    """Deleted rows count at once, though the file has not become smaller yet."""
    logs = replace(LOGS, max_size=size(filled) * 3 // 5)
    days = []
    with LogReader(filled) as reader:
        for due in due_days(reader, NOW, logs):
            days.append(due)
            writer.purge_chunk(due.day, 2000)
    assert days == [DueDay(NAMES[0], "retention"), DueDay(NAMES[1], "max_size")]


def test_today_is_never_due(filled: Path, writer: LogWriter) -> None:
    """Even if the log remains too large; `oversize` says by how much."""
    logs = replace(LOGS, max_size=100_000)
    with LogReader(filled) as reader:
        days = [due.day for due in due_days(reader, NOW, logs)]
        assert days == NAMES[:3]
        assert oversize(reader, logs) == reader.live_bytes() - 100_000
        assert oversize(reader, replace(logs, max_size=reader.live_bytes())) == 0


def test_plan_estimates_the_days_for_max_size(filled: Path) -> None:
    """Nothing is deleted, so the share of the rows is the estimate."""
    with LogReader(filled) as reader:
        logs = replace(LOGS, max_size=reader.live_bytes() * 3 // 5)
        assert plan(reader, NOW, logs) == [
            DayPlan(NAMES[0], "retention", 500),
            DayPlan(NAMES[1], "max_size", 500),
        ]
        assert plan(reader, NOW, LOGS) == [DayPlan(NAMES[0], "retention", 500)]


def test_plan_leaves_out_open_runs(db: Path, writer: LogWriter) -> None:
    """A day without rows to archive is left out."""
    first, second = day_start(NAMES[0]), day_start(NAMES[1])
    writer.append([started("a/1", ts=first), event(ref_id="a/1", ts=second), event(ref_id="b", ts=second)], {})
    with LogReader(db) as reader:
        assert plan(reader, NOW + 9 * DAY_MS, LOGS) == [DayPlan(NAMES[1], "retention", 1)]
