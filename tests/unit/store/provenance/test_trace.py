"""trace_run: the causal tree of a run, from its first cause down to all effects."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.archives import append, archive_before
from support.entries import sql
from support.runs import START, begun, ended, failed, run_id, said

from nerve.store.archive.manifest import ManifestEntry
from nerve.store.archive.reader import ArchivedFiles
from nerve.store.archive.row_filter import RowFilter
from nerve.store.full_log import FullLog
from nerve.store.provenance import archived_runs
from nerve.store.provenance import trace as trace_module
from nerve.store.provenance.trace import Trace, TraceLimits, trace_run
from nerve.store.provenance.traced_run import MOST_ENTRIES, TracedRun
from nerve.store.query import open_log
from nerve.store.schema import Row
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

CPU, ALERT, MAIL, DISK, OTHER = (run_id(sense, n) for n, sense in enumerate(["cpu", "alert", "mail", "disk", "other"]))
GONE = run_id("gone", 50)

Tracing = Callable[..., Trace]


@pytest.fixture(params=["table", "full log"])
def trace(request: pytest.FixtureRequest, db: Path, writer: LogWriter) -> Iterator[Tracing]:
    """A function that traces a run, once with each RunSource."""
    with ExitStack() as stack:

        def run(asked: str, **limits: int) -> Trace:
            log = stack.enter_context(open_log(db, archived=request.param == "full log", keep_damaged=True))
            return trace_run(log.runs(), asked, TraceLimits(**limits))

        yield run


@pytest.fixture
def story(writer: LogWriter) -> None:
    """A manual run signals and triggers two runs, one of which triggers a third; a fifth run is separate."""
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
    """Return the senses of a tree, nested."""
    return {child.sense: shape(child) for child in run.caused}


def every(run: TracedRun) -> Iterator[TracedRun]:
    """Yield the runs of a tree, from the top."""
    yield run
    for child in run.caused:
        yield from every(child)


@pytest.mark.usefixtures("story")
@pytest.mark.parametrize("asked", [CPU, ALERT, MAIL, DISK])
def test_each_run_of_a_tree_yields_the_same_tree(trace: Tracing, asked: str) -> None:
    """It goes up to the root and down again, and marks the requested run."""
    found = trace(asked)
    assert (found.root, found.above, found.is_rooted, found.is_counted) == (CPU, 0, True, True)
    assert shape(found.tree) == {"alert": {"mail": {}}, "disk": {}}
    assert [run.run for run in every(found.tree) if run.asked] == [asked]


@pytest.mark.usefixtures("story")
def test_runs_have_their_start_and_end(trace: Tracing) -> None:
    """They have their trigger, times, lateness, duration, status and errors."""
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
def test_own_entries_are_included_on_request(trace: Tracing) -> None:
    """By default they are left out."""
    assert [entry.payload for entry in trace(CPU, own=True).tree.entries] == [{"n": 1}]
    assert trace(CPU).tree.entries == ()


def test_own_entries_are_limited_and_counted(trace: Tracing, writer: LogWriter) -> None:
    """The start and the end of the run are found after any number of entries."""
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


def test_depth_limits_the_levels_above_and_below(trace: Tracing, writer: LogWriter) -> None:
    """The distance of the root, and the number of runs left out below, are exact."""
    runs = chain(writer, 3000)
    found = trace(runs[1500], depth=4)
    assert [run.run for run in every(found.tree)] == runs[1496:1505]
    assert (found.root, found.above) == (runs[0], 1496)
    assert [run.more_runs for run in every(found.tree)] == [0] * 8 + [3000 - 1505]
    alone = trace(runs[5], depth=0)
    assert (alone.tree.run, alone.tree.caused, alone.tree.more_runs, alone.above) == (runs[5], (), 2994, 5)


def test_limit_prefers_the_relatives_of_the_requested_run(trace: Tracing, writer: LogWriter) -> None:
    """Its causes are always included, then its effects, then other runs; the rest is counted."""
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


def test_counting_stops_at_its_limit(trace: Tracing, writer: LogWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then `is_counted` is false, and for a root that is too far away, `is_rooted`."""
    monkeypatch.setattr(trace_module, "MOST_STEPS", 20)
    runs = chain(writer, 100)
    found = trace(runs[50], depth=1)
    assert (found.root, found.is_rooted, found.is_counted) == (runs[30], False, False)
    assert found.tree.caused[0].caused[0].more_runs == 20


def test_cycle_of_causes_ends(trace: Tracing, writer: LogWriter) -> None:
    """Nerve writes none, but another program may have."""
    a, b, own = run_id("a", 1), run_id("b", 2), run_id("own", 3)
    writer.append([begun(a, cause=b), begun(b, cause=a), begun(own, cause=own)], {})
    assert {run.run for run in every(trace(a).tree)} == {a, b}
    assert {run.run for run in every(trace(a, depth=0).tree)} == {a}
    assert [run.run for run in every(trace(own).tree)] == [own]


def test_cause_without_entries_is_missing(trace: Tracing, writer: LogWriter) -> None:
    """It is the root, also for its other effects."""
    writer.append([begun(CPU, cause=GONE), begun(DISK, cause=GONE)], {})
    found = trace(CPU)
    assert (found.root, found.tree.status, found.tree.start_ts) == (GONE, "missing", None)
    assert shape(found.tree) == {"cpu": {}, "disk": {}}


def test_damaged_entries_are_shown_as_far_as_possible(trace: Tracing, db: Path, writer: LogWriter) -> None:
    """A damaged start only hides the cause, and a damaged end has the status `unknown`."""
    writer.append([begun(ALERT, cause=CPU)], {})
    insert = "INSERT INTO logs (source, type, ref_id, payload, ts) VALUES ('reflex', ?, ?, ?, ?)"
    for kind, payload in (("run_start", "{oops"), ("run_complete", '{"status": 7}')):
        sql(db, insert, [kind, CPU, payload, START])
    tree = trace(ALERT).tree
    assert (tree.run, tree.status, tree.trigger, tree.start_ts) == (CPU, "unknown", None, START)


def test_run_older_than_the_watermark_is_archived(db: Path, writer: LogWriter) -> None:
    """Without the archive, only the age of a run says that it has moved."""
    writer.append([begun(CPU), begun(ALERT, cause=CPU, n=86_400)], {})
    writer.purge_chunk("2026-11-23", 1)
    with LogReader(db) as reader:
        found = trace_run(reader.runs(), ALERT, TraceLimits())
    assert (found.root, found.tree.status) == (CPU, "archived")


@pytest.mark.parametrize(("remembered", "reads"), [(1000, 8), (100, 20)])
def test_long_chain_of_causes_takes_a_few_scans_of_the_archive(
    db: Path, monkeypatch: pytest.MonkeyPatch, remembered: int, reads: int
) -> None:
    """Each scan remembers as many causes as REMEMBERED permits, so that not each step takes one."""
    line = [run_id("step", n) for n in range(1000)]
    append(db, [begun(run, cause=cause, n=n) for n, (run, cause) in enumerate(zip(line, [None, *line], strict=False))])
    append(db, [ended(run, n=n) for n, run in enumerate(line)])
    archive_before(db, 24)
    opened, rows = [], ArchivedFiles.rows

    def keep_and_open(files: ArchivedFiles, entry: ManifestEntry, row_filter: RowFilter) -> Generator[Row, None, None]:
        opened.append(entry)
        return rows(files, entry, row_filter)

    monkeypatch.setattr(ArchivedFiles, "rows", keep_and_open)
    monkeypatch.setattr(archived_runs, "REMEMBERED", remembered)
    with FullLog(db) as log:
        found = trace_run(log.runs(), line[-1], TraceLimits())
    assert (found.root, found.above, found.is_rooted) == (line[0], 1000 - 21, True)
    assert len(opened) <= reads
