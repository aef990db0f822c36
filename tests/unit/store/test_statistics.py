"""Statistics of senses, counted from the log."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.entries import event, sql
from support.runs import START, begun, ended, failed, run_id

from nerve.clock import Stamp
from nerve.events import catalog
from nerve.events.model import ErrorDetail, Status
from nerve.store.filters import Filter
from nerve.store.statistics import STEPS, Counting, SenseStatistics, Statistics
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

SECOND = 1000


def counted(db: Path, since: int = START, until: int = START + STEPS * SECOND - 1) -> Statistics:
    """Count the whole log."""
    with LogReader(db) as reader:
        counting = Counting(since, until)
        counting.count_ends(reader.rows(Filter("reflex", "run_complete")))
        counting.note_errors(reader.rows(Filter("system", "error")))
    return counting.result()


def only(found: Statistics) -> SenseStatistics:
    """Return the only sense."""
    [one] = found.senses
    return one


def test_runs_are_counted_by_status(db: Path, writer: LogWriter) -> None:
    """A run that is neither ok nor cancelled is a failure; runs that have not ended don't count."""
    statuses: list[Status] = ["ok", "ok", "error", "timeout", "cancelled", "error"]
    runs = [run_id("cpu", n) for n in range(7)]
    writer.append([begun(run) for run in runs] + [ended(*pair) for pair in zip(runs, statuses, strict=False)], {})
    one = only(counted(db))
    assert (one.name, one.runs, one.failures) == ("cpu", 6, 3)
    assert one.statuses == {"cancelled": 1, "error": 2, "ok": 2, "timeout": 1}


def test_runs_without_a_duration_are_left_out_of_percentiles(db: Path, writer: LogWriter) -> None:
    """A lost run has no duration; a sense with lost runs only has no percentiles."""
    writer.append([ended(run_id("cpu", n), ms=float(n)) for n in range(1, 101)], {})
    writer.append([ended(run_id("cpu", 101), "lost", ms=None), ended(run_id("gone", 1), "lost", ms=None)], {})
    cpu, gone = counted(db).senses
    assert (cpu.p50_ms, cpu.p95_ms, cpu.max_ms, cpu.runs) == (50, 95, 100, 101)
    assert (gone.p50_ms, gone.p95_ms, gone.max_ms) == (None, None, None)


def test_period_is_divided_into_equal_parts(db: Path, writer: LogWriter) -> None:
    """A run counts where it ended, and outside of the period at its edge."""
    moments = [0, 0, 5, STEPS - 1, STEPS + 50, -50]
    writer.append([ended(run_id("cpu", n), "error" if n == 5 else "ok", n=n) for n in moments], {})
    found = counted(db)
    one = only(found)
    assert found.step_ms == SECOND
    assert [(step, n) for step, n in enumerate(one.runs_over_time) if n] == [(0, 3), (5, 1), (STEPS - 1, 2)]
    assert [step for step, n in enumerate(one.failures_over_time) if n] == [5]


def test_period_of_one_moment_is_one_part(db: Path, writer: LogWriter) -> None:
    """A single run ends in it."""
    writer.append([ended(run_id("cpu", 0))], {})
    assert only(counted(db, START, START)).runs_over_time[-1] == 1


def test_last_error_is_of_the_sense(db: Path, writer: LogWriter) -> None:
    """It is an error of its runs, or one with its name; errors of processes are ignored."""
    run = run_id("cpu", 1)
    writer.append([failed(run, "first"), ended(run, "error")], {})
    assert only(counted(db)).last_error.message == "first"  # type: ignore[union-attr]  # it is not None
    named = catalog.error(Stamp(START, 0), "cpu", ErrorDetail("sense_load", "invalid syntax"))
    process = catalog.error(Stamp(START, 0), "writer", ErrorDetail("process_died", "it was killed"))
    writer.append([named, process], {})
    error = only(counted(db)).last_error
    assert error is not None
    assert (error.id, error.ref_id, error.kind, error.exception) == (3, "cpu", "sense_load", None)
    assert error.message == "invalid syntax"


@pytest.mark.parametrize("payload", ["{oops", "[]", "7", '{"status": 3, "message": []}'])
def test_damaged_payloads_are_counted(db: Path, writer: LogWriter, payload: str) -> None:
    """An invalid status is `unknown`, and a failure; an invalid error is shown as text."""
    writer.append([event("x", ref_id="cpu")], {})
    insert = "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES (?, ?, 'cpu/1', ?, 1)"
    sql(db, insert, ["reflex", "run_complete", payload])
    sql(db, insert, ["system", "error", payload])
    one = only(counted(db))
    assert (one.statuses, one.failures, one.p50_ms) == ({"unknown": 1}, 1, None)
    assert one.last_error is not None
    assert one.last_error.message == payload


def test_empty_log_has_no_senses(db: Path, writer: LogWriter) -> None:
    """The period makes no difference."""
    assert counted(db).senses == ()
