"""Which days are archived: those older than the retention, and more while the log is larger than its limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from nerve.config.logs_section import LogsConfig
from nerve.events.model import ArchiveReason
from nerve.store.filters import Filter, Match
from nerve.store.table.reader import LogReader
from nerve.store.utc_days import FIRST_TS, day_end, day_of, day_start


class DueDay(NamedTuple):
    """A UTC day that is due, and the reason."""

    day: str
    reason: ArchiveReason


class DayPlan(NamedTuple):
    """A UTC day that is due, the reason, and the number of its rows that would be archived."""

    day: str
    reason: ArchiveReason
    rows: int


def ended_days(reader: LogReader, now_ms: int, retention_s: float = 0.0) -> Iterator[str]:
    """Yield the UTC days that have rows and ended at least `retention_s` seconds before `now_ms`, in order."""
    cutoff = now_ms - int(retention_s * 1000)
    ts = reader.first_ts(FIRST_TS)
    while ts is not None and ts < cutoff and day_end(day_of(ts)) <= cutoff:
        yield day_of(ts)
        ts = reader.first_ts(day_end(day_of(ts)))


def due_days(reader: LogReader, now_ms: int, logs: LogsConfig) -> Iterator[DueDay]:
    """Yield the days that are due: those older than the retention, then others while the log is still too large."""
    old = list(ended_days(reader, now_ms, logs.retention))
    yield from (DueDay(day, "retention") for day in old)
    for day in ended_days(reader, now_ms):
        if not oversize(reader, logs):
            return
        if day not in old:
            yield DueDay(day, "max_size")


def oversize(reader: LogReader, logs: LogsConfig) -> int:
    """Return by how many bytes the log exceeds `max_size`; 0 if it doesn't."""
    return 0 if logs.max_size is None else max(0, reader.live_bytes() - logs.max_size)


def plan(reader: LogReader, now_ms: int, logs: LogsConfig) -> list[DayPlan]:
    """Return the days that an archiver would archive now; changes nothing, so the size of a day is an estimate."""
    open_runs = tuple(reader.open_runs(reader.last_id()))
    old = list(ended_days(reader, now_ms, logs.retention))
    days = [DayPlan(day, "retention", _rows_to_go(reader, day, open_runs)) for day in old]
    if oversize(reader, logs) and logs.max_size is not None:
        total = reader.count_between(-(2**63), 2**63 - 1)
        may_stay = total * logs.max_size // reader.live_bytes()
        going = sum(day.rows for day in days)
        for day in ended_days(reader, now_ms):
            if day not in old and total - going > may_stay:
                days.append(DayPlan(day, "max_size", _rows_to_go(reader, day, open_runs)))
                going += days[-1].rows
    return [day for day in days if day.rows]


def count_rows(reader: LogReader, day: str, until_id: int | None = None) -> int:
    """Count the rows of a day in the table with an id up to `until_id`."""
    return reader.count_between(day_start(day), day_end(day) - 1, until_id=until_id)


def _rows_to_go(reader: LogReader, day: str, open_runs: tuple[str, ...]) -> int:
    if not open_runs:
        return count_rows(reader, day)
    staying = Filter(since=day_start(day), until=day_end(day) - 1, matches=(Match("ref", "=", open_runs),))
    return count_rows(reader, day) - sum(1 for _ in reader.stream_raw(staying))
