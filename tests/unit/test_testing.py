"""nerve.testing: a compute sees, and leaves behind, what it would in a worker."""

from __future__ import annotations

import asyncio
import logging
import math
import signal as signals
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from nerve import Log, SenseContext, Signal, Trigger, query_logs
from nerve.errors import PayloadError, SenseLoadError, StoreError, WorkspaceError
from nerve.testing import load, run

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
NOON_MS = 1_795_435_200_000


def quiet(ctx: SenseContext) -> None:
    """Do nothing."""


# What comes out.


def test_a_signal_is_returned_as_another_sense_would_receive_it() -> None:
    """It has been through JSON: a tuple is a list then, and a moment a text."""
    assert run(lambda ctx: {"at": (NOON, 1)}).signal == {"at": ["2026-11-23T12:00:00Z", 1]}


def test_a_silent_compute_has_no_signal_no_events_and_no_error() -> None:
    """None is silence."""
    result = run(quiet)
    assert (result.signal, result.events, result.error, result.logging) == (None, [], None, [])
    assert result.raise_on_error() is result


def test_events_are_in_order_and_have_the_run_as_their_ref_id() -> None:
    """Those of log and of log_many alike."""
    seen = []

    def compute(ctx: SenseContext) -> None:
        seen.append(ctx.run_id)
        ctx.log("first", 1)
        ctx.log_many([("second", 2), ("third", None)])

    events = run(compute, sense="disk", now=NOON).events
    assert events == [
        Log(1, "sense", "first", seen[0], 1, NOON_MS),
        Log(2, "sense", "second", seen[0], 2, NOON_MS),
        Log(3, "sense", "third", seen[0], None, NOON_MS),
    ]
    assert seen[0].startswith("disk/")


def test_a_payload_that_can_not_be_stored_is_an_error_among_the_events() -> None:
    """As in the log, the run itself goes on."""
    result = run(lambda ctx: ctx.log("reading", math.nan))
    assert [(entry.source, entry.type, entry.payload["kind"]) for entry in result.events] == [
        ("system", "error", "payload")
    ]
    assert result.error is None


def test_secrets_are_masked_as_in_the_log() -> None:
    """In what is logged; what is signalled goes to other senses as it is."""

    def compute(ctx: SenseContext) -> dict[str, str]:
        ctx.log("login", {"password": "hunter2"})
        return {"token": "hunter2"}

    result = run(compute)
    assert (result.events[0].payload, result.signal) == ({"password": "***"}, {"token": "hunter2"})


def test_an_exception_is_an_error_with_its_traceback_and_can_be_raised_again() -> None:
    """What the compute logged before it is kept."""

    def compute(ctx: SenseContext) -> None:
        ctx.log("before")
        raise ValueError("too hot")

    result = run(compute)
    assert [entry.type for entry in result.events] == ["before"]
    assert result.error
    assert (result.error.kind, result.error.message) == ("compute", "ValueError: too hot")
    assert "in compute" in (result.error.traceback or "")
    with pytest.raises(ValueError, match="too hot"):
        result.raise_on_error()


def test_a_signal_that_can_not_be_stored_is_an_error_of_kind_payload() -> None:
    """Raised again, it is a PayloadError."""
    result = run(lambda ctx: object())
    assert result.error
    assert result.error.kind == "payload"
    with pytest.raises(PayloadError):
        result.raise_on_error()


def test_ctrl_c_ends_the_test() -> None:
    """A person who interrupts the tests is not an error of a compute."""

    def compute(ctx: SenseContext) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(compute)


def test_logging_is_captured_from_info_up() -> None:
    """Level, logger, message and extra are there as in the log; the root logger is left as it was."""
    root = logging.getLogger()
    before = (root.level, list(root.handlers))

    def compute(ctx: SenseContext) -> None:
        logger = logging.getLogger("demo")
        logger.debug("not recorded")
        logger.info("%d %%", 93, extra={"disk": "/"})
        logger.warning("full")

    result = run(compute, now=NOON)
    assert [(entry.source, entry.type, entry.payload, entry.ts) for entry in result.logging] == [
        ("logging", "info", {"disk": "/", "logger": "demo", "message": "93 %"}, NOON_MS),
        ("logging", "warning", {"logger": "demo", "message": "full"}, NOON_MS),
    ]
    assert result.events == []
    assert (root.level, root.handlers) == before


def test_an_async_compute_is_run_to_its_end() -> None:
    """It may wait and log in between."""

    async def compute(ctx: SenseContext) -> str:
        await asyncio.sleep(0)
        ctx.log("waited")
        return ctx.sense

    result = run(compute)
    assert (result.signal, [entry.type for entry in result.events]) == ("test", ["waited"])


def test_a_run_leaves_the_signal_handlers_of_the_process_alone() -> None:
    """A test runner may use the alarm itself; and a compute can be run in any thread."""
    numbers = (signals.SIGALRM, signals.SIGUSR1)
    before = [signals.getsignal(number) for number in numbers]
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(run(lambda ctx: 1).signal))
    thread.start()
    thread.join()
    run(quiet)
    assert results == [1]
    assert [signals.getsignal(number) for number in numbers] == before


# What goes in.


def test_without_arguments_a_run_is_one_by_interval() -> None:
    """It has no signal."""
    seen = run(lambda ctx: [ctx.trigger.kind, ctx.trigger.signal, ctx.signal]).signal
    assert seen == ["interval", None, None]


def test_a_payload_becomes_a_signal_of_another_sense() -> None:
    """The compute sees what JSON keeps of it."""
    seen = run(lambda ctx: [ctx.trigger.kind, ctx.signal.sense, ctx.signal.payload], signal={"used": (1, 2)}).signal
    assert seen == ["signal", "other", {"used": [1, 2]}]


def test_a_manual_run_may_have_a_payload() -> None:
    """Nobody's run sent it."""
    seen = run(lambda ctx: [ctx.trigger.reflex, ctx.signal.payload, ctx.signal.run_id], signal=7, trigger="manual")
    assert seen.signal == [None, 7, None]
    assert run(lambda ctx: ctx.signal is None, trigger="manual").signal is True


def test_a_signal_or_a_trigger_can_be_given_in_full() -> None:
    """Nothing of them is changed."""
    sent = Signal("disk", {"used": 0.93}, "disk/1", 5)
    assert run(lambda ctx: ctx.signal == sent, signal=sent).signal is True
    trigger = Trigger("signal", "on-disk", sent, 2, 4)
    assert run(lambda ctx: ctx.trigger == trigger and ctx.signal == sent, trigger=trigger).signal is True


@pytest.mark.parametrize(
    "arguments",
    [
        {"signal": 1, "trigger": "interval"},
        {"trigger": "signal"},
        {"signal": 1, "trigger": Trigger("manual", None, None, 0, 0)},
        {"now": datetime(2026, 11, 23)},  # noqa: DTZ001 - the missing timezone is what is refused
        {"logs": [{"source": "sense"}]},
        {"logs": [{"source": "sense", "type": "reading", "text": 1}]},
    ],
)
def test_arguments_that_do_not_fit_each_other_are_refused(arguments: dict[str, Any]) -> None:
    """A test that could not happen in an engine should not pass."""
    with pytest.raises(ValueError, match=r"signal|timezone|log entry"):
        run(quiet, **arguments)


def test_a_signal_that_no_sense_could_have_sent_is_refused() -> None:
    """Its payload must be JSON."""
    with pytest.raises(PayloadError):
        run(quiet, signal=object())


def test_now_is_the_time_of_the_run() -> None:
    """As unix ms or as a datetime."""
    for now in (NOON, NOON_MS):
        result = run(lambda ctx: [ctx.trigger.scheduled_ts, ctx.signal.ts], signal=1, now=now)
        assert result.signal == [NOON_MS, NOON_MS]


# The log and the databases.


def test_query_logs_applies_its_filters_to_the_given_entries() -> None:
    """They are in a real log, in the given order; each form of an entry will do."""
    logs = [
        Log(99, "sense", "reading", "disk/1", {"used": 0.1}, NOON_MS - 60_000),
        ("sense", "reading", {"used": 0.2}),
        {"source": "system", "type": "error", "ref_id": "disk/1", "payload": {"kind": "compute"}},
        {"source": "sense", "type": "reading", "ts": NOON},
    ]

    def compute(ctx: SenseContext) -> list[list[object]]:
        def ids(**filters: Any) -> list[object]:
            return [entry.id for entry in ctx.query_logs(**filters)]

        return [
            ids(),
            ids(source="sense"),
            ids(ref_id="disk/1"),
            ids(since=NOON),
            ids(until=NOON_MS - 1),
            ids(type="reading", limit=2),
            ids(archived=True),
        ]

    everything = [1, 2, 3, 4]
    assert run(compute, logs=logs, now=NOON).raise_on_error().signal == [
        everything,
        [1, 2, 4],
        [1, 3],
        [2, 3, 4],
        [1],
        [2, 4],
        everything,
    ]


def test_query_logs_finds_what_the_compute_has_logged_itself() -> None:
    """Also what it has logged since its last query."""

    def compute(ctx: SenseContext) -> list[int]:
        counts = [len(ctx.query_logs())]
        for _ in range(2):
            ctx.log("n")
            counts.append(len(ctx.query_logs(ref_id=ctx.run_id)))
        return counts

    assert run(compute).signal == [0, 1, 2]


def test_runs_with_the_same_home_share_the_log_and_the_databases(tmp_path: Path) -> None:
    """A sense finds its own database again, and can read that of another."""

    def disk(ctx: SenseContext) -> int:
        ctx.db.execute_sql("create table if not exists runs (n integer)")
        ctx.db.execute_sql("insert into runs values (1)")
        ctx.log("ran")
        [(count,)] = ctx.db.execute_sql("select count(*) from runs").fetchall()
        return int(count)

    def report(ctx: SenseContext) -> list[object]:
        [(count,)] = ctx.peer_db("disk").execute_sql("select count(*) from runs").fetchall()
        return [count, len(ctx.query_logs(type="ran"))]

    assert [run(disk, sense="disk", home=tmp_path).signal for _ in range(2)] == [1, 2]
    assert run(report, home=tmp_path).raise_on_error().signal == [2, 2]
    assert len(query_logs(tmp_path / "data" / "logs.db", type="ran")) == 2


def test_the_database_of_a_run_without_home_is_empty_each_time() -> None:
    """Nothing is left in the working directory, either."""
    create = "create table runs (n integer)"
    for _ in range(2):
        run(lambda ctx: ctx.db.execute_sql(create).rowcount).raise_on_error()


def test_a_peer_without_a_database_is_an_error_of_the_compute() -> None:
    """As in a worker."""
    result = run(lambda ctx: ctx.peer_db("disk"))
    with pytest.raises(StoreError, match="has no database"):
        result.raise_on_error()


def test_a_home_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A misspelt path must not be created."""
    with pytest.raises(WorkspaceError):
        run(quiet, home=tmp_path / "missing")


# Loading a file.


def test_a_loaded_sense_can_import_the_helpers_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is loaded as `senses.<name>`, as in a worker."""
    monkeypatch.setattr("sys.path", [*sys.path])
    (tmp_path / "nerve_test_units.py").write_text("def half(n): return n / 2\n")
    path = tmp_path / "nerve_test_disk.py"
    path.write_text("import nerve_test_units\ndef compute(ctx): return [nerve_test_units.half(3), __name__]\n")
    try:
        assert run(load(path)).signal == [1.5, "senses.nerve_test_disk"]
    finally:
        for name in ("nerve_test_units", "senses.nerve_test_disk"):
            sys.modules.pop(name, None)


@pytest.mark.parametrize("source", ["x = = 1", "1 / 0", "x = 1"])
def test_a_file_that_is_not_a_sense_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """The error names the file."""
    monkeypatch.setattr("sys.path", [*sys.path])
    path = tmp_path / "nerve_test_broken.py"
    path.write_text(source)
    with pytest.raises(SenseLoadError, match=r"nerve_test_broken\.py"):
        load(path)
    sys.modules.pop("senses.nerve_test_broken", None)
