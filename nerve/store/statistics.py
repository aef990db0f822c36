"""Statistics of each sense: its runs, failures and durations in a period, counted entry by entry."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from nerve.ids import sense_of
from nerve.store.durations import Durations
from nerve.store.provenance.traced_run import decode_end
from nerve.store.schema import Row

STEPS = 24
"""Number of parts that the period is divided into."""

LONGEST_MS = 2.0**53
"""Durations above this (or below 0) are invalid, and ignored."""

_GOOD = ("ok", "cancelled")


class LastError(msgspec.Struct, frozen=True, kw_only=True):
    """The last `system/error` of a sense; `ref_id` is the run, or the sense's name."""

    id: int
    ts: int
    ref_id: str
    kind: str | None
    exception: str | None
    message: str


class _ErrorPayload(msgspec.Struct, frozen=True):
    """The fields of a `system/error` payload that are used."""

    kind: str | None = None
    exception: str | None = None
    message: str = ""


class SenseStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The runs of a sense that have ended: their number by status and by time, and their durations.

    Durations are in ms, by nearest rank, and None if no run has one. Runs neither ok nor cancelled are failures.
    """

    name: str
    runs: int
    failures: int
    statuses: dict[str, int]
    p50_ms: float | None
    p95_ms: float | None
    max_ms: float | None
    last_error: LastError | None
    runs_over_time: tuple[int, ...]
    failures_over_time: tuple[int, ...]


class Statistics(msgspec.Struct, frozen=True):
    """All senses, by name, from `since` to `until` (unix ms), divided into parts of `step_ms`."""

    since: int
    until: int
    step_ms: int
    senses: tuple[SenseStatistics, ...]


@dataclass(slots=True)
class _Tally:
    """The counts of one sense."""

    statuses: dict[str, int] = field(default_factory=dict)
    durations: Durations = field(default_factory=Durations)
    runs: list[int] = field(default_factory=lambda: [0] * STEPS)
    failures: list[int] = field(default_factory=lambda: [0] * STEPS)
    last_error: Row | None = None


class Counting:
    """Counts entries, which must come ascending by id; those outside the period count for its first or last part."""

    def __init__(self, since: int, until: int) -> None:
        self._since = since
        self._until = until
        self._step_ms = max(1, -(-(until - since + 1) // STEPS))
        self._tallies: dict[str, _Tally] = {}

    def count_ends(self, rows: Iterable[Row]) -> None:
        """Count the `run_complete` of runs."""
        for (
            _id,
            _source,
            _type,
            ref_id,
            payload,
            ts,
        ) in rows:  # there may be millions, so each is decoded no further than necessary
            end, tally = decode_end(payload), self._tally(ref_id)
            tally.statuses[end.status] = tally.statuses.get(end.status, 0) + 1
            if end.duration_ms is not None and 0 <= end.duration_ms < LONGEST_MS:
                tally.durations.add(end.duration_ms)
            step = min(max(0, (ts - self._since) // self._step_ms), STEPS - 1)
            tally.runs[step] += 1
            if end.status not in _GOOD:
                tally.failures[step] += 1

    def note_errors(self, rows: Iterable[Row]) -> None:
        """Remember the last `system/error` of each sense."""
        for row in rows:
            ref_id = row[3]
            if ref_id and ("/" in ref_id or ref_id in self._tallies):  # else it is an error of a process
                self._tally(ref_id).last_error = row

    def result(self) -> Statistics:
        """Return the statistics of all entries so far."""
        senses = tuple(_statistics(name, tally) for name, tally in sorted(self._tallies.items()))
        return Statistics(self._since, self._until, self._step_ms, senses)

    def _tally(self, ref_id: str | None) -> _Tally:
        name = sense_of(ref_id or "")
        tally = self._tallies.get(name)
        if tally is None:
            tally = self._tallies[name] = _Tally()
        return tally


def _statistics(name: str, tally: _Tally) -> SenseStatistics:
    durations = tally.durations
    return SenseStatistics(
        name=name,
        runs=sum(tally.runs),
        failures=sum(tally.failures),
        statuses=dict(sorted(tally.statuses.items())),
        p50_ms=durations.percentile(50),
        p95_ms=durations.percentile(95),
        max_ms=durations.percentile(100),
        last_error=_last_error(tally.last_error) if tally.last_error else None,
        runs_over_time=tuple(tally.runs),
        failures_over_time=tuple(tally.failures),
    )


def _last_error(row: Row) -> LastError:
    number, _source, _type, ref_id, payload, ts = row
    try:
        error = msgspec.json.decode(payload, type=_ErrorPayload)
    except msgspec.DecodeError:  # a damaged payload is shown as text
        error = _ErrorPayload(message=payload)
    return LastError(id=number, ts=ts, ref_id=ref_id, kind=error.kind, exception=error.exception, message=error.message)
