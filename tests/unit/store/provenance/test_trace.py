"""The causal tree of a run: from its first cause down to all that came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.archives import append, archive_before
from support.entries import sql
from support.runs import START, begun, ended, failed, run_id, said

from nerve.store.archive.reader import ArchivedFiles
from nerve.store.full_log import FullLog
from nerve.store.provenance import archived_runs
from nerve.store.provenance import trace as trace_module
from nerve.store.provenance.archived_runs import ArchivedRuns
from nerve.store.provenance.logged_runs import LoggedRuns
from nerve.store.provenance.trace import RunSource, Trace, TraceLimits, trace_run
from nerve.store.provenance.traced_run import MOST_ENTRIES, TracedRun
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

CPU, ALERT, MAIL, DISK, OTHER = (run_id(sense, n) for n, sense in enumerate(["cpu", "alert", "mail", "disk", "other"]))
GONE = run_id("gone", 50)

Tracing = Callable[..., Trace]


@pytest.fixture(params=["table", "archive too"])
def trace(request: pytest.FixtureRequest, db: Path, writer: LogWriter) -> Iterator[Tracing]:
    """Trace a run, with both ways of reading runs."""
    with ExitStack() as stack:

        def run(asked: str, **bounds: int) -> Trace:
            runs: RunSource
            if request.param == "table":
                runs = LoggedRuns(stack.enter_context(LogReader(db, keep_damaged=True)))
            else:
                runs = ArchivedRuns(stack.enter_context(FullLog(db, keep_damaged=True)))
            return trace_run(runs, asked, TraceLimits(**bounds))

        yield run


@pytest.fixture
def story(writer: LogWriter) -> None:
    """A run by hand signals; two runs are fired by that, and one of them fires a third; a fifth stands alone."""
    first = [
        begun(CPU, kind="manual"),
        said(CPU, {"n": 1}),
        ended(CPU),
        begun(OTHER, n=4),
        ended(OTHER, "lost", ms=None),
    ]
    second = [begun(ALERT, cause=CPU, coalesced=2, n=1), failed(ALERT), ended(ALERT, "timeout", n=1)]
    third = [begun(DISK, cause=CPU, n=3), begun(MAIL, cause=ALERT, n=2)]
    writer.append([*first, *second, *third, ended(DISK, "cancelled", signal=False, n=3)], {})


def shape(run: TracedRun) -> dict[str, object]:
    """Give the senses of a tree, nested."""
    return {child.sense: shape(child) for child in run.caused}


def every(run: TracedRun) -> Iterator[TracedRun]:
    """Go through a tree, from the top."""
    yield run
    for child in run.caused:
        yield from every(child)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("asked", [CPU, ALERT, MAIL, DISK])
def test_the_same_tree_is_given_from_each_of_its_runs(trace: Tracing, asked: str) -> None:
    """It goes up to the root and down again, and marks the one that was asked for."""
    found = trace(asked)
    assert (found.root, found.above, found.is_rooted, found.is_counted) == (CPU, 0, True, True)
    assert shape(found.tree) == {"alert": {"mail": {}}, "disk": {}}
    assert [run.run for run in every(found.tree) if run.asked] == [asked]


@pytest.mark.usefixtures("story")
def test_each_run_tells_how_it_came_to_be_and_how_it_ended(trace: Tracing) -> None:
    """What started it, when, how late, how long it took, with which outcome, and its error."""
    runs = {run.sense: run for run in every(trace(CPU).tree)}
    cpu, alert, mail, disk = (runs[sense] for sense in ("cpu", "alert", "mail", "disk"))
    assert (cpu.trigger, cpu.reflex, cpu.cause, cpu.status, cpu.duration_ms) == ("manual", None, None, "ok", 5.5)
    assert (alert.trigger, alert.reflex, alert.cause, alert.status) == ("signal", "alert-reflex", CPU, "timeout")
    assert (alert.coalesced, alert.lateness_ms, alert.signal) == (2, 3, True)
    assert [error.payload["message"] for error in alert.errors] == ["boom"]
    assert (mail.status, mail.end_ts, mail.duration_ms) == ("open", None, None)
    assert (disk.status, disk.signal) == ("cancelled", False)
    assert cpu.end_ts is not None
    assert cpu.start_ts is not None
    assert cpu.end_ts - cpu.start_ts == 500
    lost = trace(OTHER).tree
    assert (lost.status, lost.trigger, lost.duration_ms, lost.caused) == ("lost", "interval", None, ())


@pytest.mark.usefixtures("story")
def test_own_entries_are_given_when_asked_for(trace: Tracing) -> None:
    """They are left out otherwise."""
    assert [entry.payload for entry in trace(CPU, own=True).tree.entries] == [{"n": 1}]
    assert trace(CPU).tree.entries == ()


def test_a_run_that_logged_much_is_cut_with_the_count(trace: Tracing, writer: LogWriter) -> None:
    """However many there are, its start and end are there."""
    many = [said(CPU, n) for n in range(MOST_ENTRIES + 7)]
    writer.append([begun(CPU), *many, ended(CPU)], {})
    tree = trace(CPU, own=True).tree
    assert [entry.payload for entry in tree.entries] == list(range(MOST_ENTRIES))
    assert (tree.more_entries, tree.status) == (7, "ok")


def chain(writer: LogWriter, length: int) -> list[str]:
    """Write runs each of which caused the next."""
    runs = [run_id("ping" if n % 2 else "pong", n) for n in range(length)]
    starts = [begun(run, cause=runs[n - 1] if n else None, n=n) for n, run in enumerate(runs)]
    writer.append(starts, {})
    return runs


def test_depth_bounds_the_levels_above_and_below(trace: Tracing, writer: LogWriter) -> None:
    """How far up the root is, and how many runs are left out below, is told exactly."""
    runs = chain(writer, 3000)
    found = trace(runs[1500], depth=4)
    assert [run.run for run in every(found.tree)] == runs[1496:1505]
    assert (found.root, found.above) == (runs[0], 1496)
    assert [run.more_runs for run in every(found.tree)] == [0] * 8 + [3000 - 1505]
    alone = trace(runs[5], depth=0)
    assert (alone.tree.run, alone.tree.caused, alone.tree.more_runs, alone.above) == (runs[5], (), 2994, 5)


def test_limit_bounds_the_runs_in_favour_of_the_one_asked_for(trace: Tracing, writer: LogWriter) -> None:
    """Its causes always have room, then what came of it, then the rest; what is left out is counted."""
    root, asked = run_id("root", 0), run_id("asked", 1)
    wide = [run_id("wide", n) for n in range(2, 52)]
    below = [run_id("below", n) for n in range(60, 65)]
    writer.append([begun(root), begun(asked, cause=root, n=1)], {})
    writer.append([begun(run, cause=root) for run in wide] + [begun(run, cause=asked) for run in below], {})
    tree = trace(asked, limit=10).tree
    assert [run.run for run in every(tree) if run.sense == "below"] == below
    assert [run.sense for run in every(tree)].count("wide") == 3
    assert tree.more_runs == 47
    assert sum(1 for _ in every(trace(asked, limit=1).tree)) == 2


def test_counting_what_is_left_out_has_an_end(
    trace: Tracing, writer: LogWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then the counts are said to be too small; and a root that is too far away is said to be none."""
    monkeypatch.setattr(trace_module, "MOST_STEPS", 20)
    runs = chain(writer, 100)
    found = trace(runs[50], depth=1)
    assert (found.root, found.is_rooted, found.is_counted) == (runs[30], False, False)
    assert found.tree.caused[0].caused[0].more_runs == 20


def test_runs_that_cause_each_other_end(trace: Tracing, writer: LogWriter) -> None:
    """Nothing of ours writes such, but what a stranger writes must not keep it going."""
    a, b, own = run_id("a", 1), run_id("b", 2), run_id("own", 3)
    writer.append([begun(a, cause=b), begun(b, cause=a), begun(own, cause=own)], {})
    assert {run.run for run in every(trace(a).tree)} == {a, b}
    assert {run.run for run in every(trace(a, depth=0).tree)} == {a}
    assert [run.run for run in every(trace(own).tree)] == [own]


def test_a_cause_that_the_log_never_had_is_missing(trace: Tracing, writer: LogWriter) -> None:
    """It stands at the top, for whatever else it caused."""
    writer.append([begun(CPU, cause=GONE), begun(DISK, cause=GONE)], {})
    found = trace(CPU)
    assert (found.root, found.tree.status, found.tree.start_ts) == (GONE, "missing", None)
    assert shape(found.tree) == {"cpu": {}, "disk": {}}


def test_a_damaged_start_hides_its_cause_and_nothing_else(trace: Tracing, db: Path, writer: LogWriter) -> None:
    """What a stranger wrote into the log is told as far as it can be."""
    writer.append([begun(ALERT, cause=CPU)], {})
    insert = "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ('reflex', ?, ?, ?, ?)"
    for kind, payload in (("run_start", "{oops"), ("run_complete", '{"status": 7}')):
        sql(db, insert, [kind, CPU, payload, START])
    tree = trace(ALERT).tree
    assert (tree.run, tree.status, tree.trigger, tree.start_ts) == (CPU, "unknown", None, START)


def test_what_has_moved_to_the_archive_is_said_to_be_there(db: Path, writer: LogWriter) -> None:
    """The table alone knows only that runs of that age have moved; with the archive they are there again."""
    writer.append([begun(CPU), begun(ALERT, cause=CPU, n=86_400)], {})
    writer.purge_chunk("2026-11-23", 1)
    with LogReader(db) as reader:
        found = trace_run(LoggedRuns(reader), ALERT, TraceLimits())
    assert (found.root, found.tree.status) == (CPU, "archived")


@pytest.mark.parametrize(("remembered", "reads"), [(1000, 8), (100, 20)])
def test_a_long_way_up_reads_the_archive_a_few_times(
    db: Path, monkeypatch: pytest.MonkeyPatch, remembered: int, reads: int
) -> None:
    """Not once for each step: the causes of a run are remembered on the way to it, as many as there is room for."""
    line = [run_id("step", n) for n in range(1000)]
    append(db, [begun(run, cause=cause, n=n) for n, (run, cause) in enumerate(zip(line, [None, *line], strict=False))])
    append(db, [ended(run, n=n) for n, run in enumerate(line)])
    archive_before(db, 24)
    opened, rows = [], ArchivedFiles.rows
    monkeypatch.setattr(ArchivedFiles, "rows", lambda *args: (opened.append(args[1]), rows(*args))[1])
    monkeypatch.setattr(archived_runs, "REMEMBERED", remembered)
    with FullLog(db) as log:
        found = trace_run(ArchivedRuns(log), line[-1], TraceLimits())
    assert (found.root, found.above, found.is_rooted) == (line[0], 1000 - 21, True)
    assert len(opened) <= reads
