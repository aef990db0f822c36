"""How the senses do, counted from the log."""

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
    """Give the one sense that there is."""
    [one] = found.senses
    return one


def test_runs_are_counted_by_status(db: Path, writer: LogWriter) -> None:
    """What is neither ok nor cancelled is a failure; runs that have not ended don't count."""
    statuses: list[Status] = ["ok", "ok", "error", "timeout", "cancelled", "error"]
    runs = [run_id("cpu", n) for n in range(7)]
    writer.append([begun(run) for run in runs] + [ended(*pair) for pair in zip(runs, statuses, strict=False)], {})
    one = only(counted(db))
    assert (one.name, one.runs, one.failures) == ("cpu", 6, 3)
    assert one.statuses == {"cancelled": 1, "error": 2, "ok": 2, "timeout": 1}


def test_durations_are_those_of_runs_that_have_one(db: Path, writer: LogWriter) -> None:
    """A lost run has none, and a sense without any has no percentiles."""
    writer.append([ended(run_id("cpu", n), ms=float(n)) for n in range(1, 101)], {})
    writer.append([ended(run_id("cpu", 101), "lost", ms=None), ended(run_id("gone", 1), "lost", ms=None)], {})
    cpu, gone = counted(db).senses
    assert (cpu.p50_ms, cpu.p95_ms, cpu.max_ms, cpu.runs) == (50, 95, 100, 101)
    assert (gone.p50_ms, gone.p95_ms, gone.max_ms) == (None, None, None)


def test_the_time_is_cut_into_equal_parts(db: Path, writer: LogWriter) -> None:
    """Each run counts where it ended; what lies outside counts at the edge."""
    moments = [0, 0, 5, STEPS - 1, STEPS + 50, -50]
    writer.append([ended(run_id("cpu", n), "error" if n == 5 else "ok", n=n) for n in moments], {})
    found = counted(db)
    one = only(found)
    assert found.step_ms == SECOND
    assert [(step, n) for step, n in enumerate(one.runs_over_time) if n] == [(0, 3), (5, 1), (STEPS - 1, 2)]
    assert [step for step, n in enumerate(one.failures_over_time) if n] == [5]


def test_no_time_at_all_is_one_part(db: Path, writer: LogWriter) -> None:
    """A single run ends somewhere."""
    writer.append([ended(run_id("cpu", 0))], {})
    assert only(counted(db, START, START)).runs_over_time[-1] == 1


def test_the_last_error_is_that_of_the_sense(db: Path, writer: LogWriter) -> None:
    """Errors of its runs and those that bear its name; not those of a process."""
    run = run_id("cpu", 1)
    writer.append([failed(run, "first"), ended(run, "error")], {})
    assert only(counted(db)).last_error.message == "first"  # type: ignore[union-attr]  # it has one
    named = catalog.error(Stamp(START, 0), "cpu", ErrorDetail("sense_load", "it is no Python"))
    process = catalog.error(Stamp(START, 0), "writer", ErrorDetail("process_died", "it was killed"))
    writer.append([named, process], {})
    error = only(counted(db)).last_error
    assert error is not None
    assert (error.id, error.ref_id, error.kind, error.exception) == (3, "cpu", "sense_load", None)
    assert error.message == "it is no Python"


@pytest.mark.parametrize("payload", ["{oops", "[]", "7", '{"status": 3, "message": []}'])
def test_what_is_damaged_is_counted_as_far_as_it_can_be(db: Path, writer: LogWriter, payload: str) -> None:
    """A status that can't be read is `unknown`, and a failure; an error that can't be read is its text."""
    writer.append([event("x", ref_id="cpu")], {})
    insert = "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES (?, ?, 'cpu/1', ?, 1)"
    sql(db, insert, ["reflex", "run_complete", payload])
    sql(db, insert, ["system", "error", payload])
    one = only(counted(db))
    assert (one.statuses, one.failures, one.p50_ms) == ({"unknown": 1}, 1, None)
    assert one.last_error is not None
    assert one.last_error.message == payload


def test_an_empty_log_has_no_senses(db: Path, writer: LogWriter) -> None:
    """Nothing is nothing."""
    assert counted(db).senses == ()
