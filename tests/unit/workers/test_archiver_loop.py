"""The ArchiverWorker's loop over a real log; the test is its kernel and its writer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.clock import FakeClock
from support.entries import event

from nerve.config.logs_section import LogsConfig
from nerve.events.model import LogEvent
from nerve.ipc.channel import Channel
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.maintenance.order_socket import PendingOrder
from nerve.maintenance.orders import OrderExecutor
from nerve.processes.messages import (
    ArchiveNow,
    ArchiverReport,
    Finish,
    FromChild,
    GetReport,
    Ready,
    Rescan,
    SetLogsConfig,
    ToChild,
)
from nerve.store.archive import export
from nerve.store.archive.export import ROWS_AT_ONCE
from nerve.store.archive.order_messages import Conclude, Done, Order, Purge, Vacuum
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS, day_start
from nerve.workers.archiver import ORDER_ATTEMPTS, PROGRESS_SECONDS, ArchiverWorker
from nerve.workspace import Workspace

START = day_start("2026-11-23") + 5
OLD = day_start("2026-11-20")
LOGS = LogsConfig(retention=DAY_MS / 1000, archive_interval=3600.0)


class WriterQueue:
    """The event queue of a writer that executes orders at once."""

    def __init__(self, writer: LogWriter, clock: FakeClock) -> None:
        self.writer = writer
        self.orders: list[Order] = []
        self.deaths = 0
        self._executor = OrderExecutor(writer, clock, lambda: False)

    def send(self, events: Sequence[LogEvent]) -> None:
        """Append events."""
        self.writer.append(events, {})

    def ask(self, order: Order, _timeout: float) -> Done | None:
        """Execute an order, unless the writer has just died."""
        self.orders.append(order)
        if self.deaths:
            self.deaths -= 1
            return None
        request: Any = SimpleNamespace(order=order, rows=0)
        while not (done := self._step(request)):
            pass
        return done

    def _step(self, request: PendingOrder) -> Done | None:
        return self._executor.step(request)


class Stage:
    """An archiver whose loop is run by the test, step by step."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        workspace = Workspace(home)
        workspace.prepare()
        self.archive_dir = workspace.archive_dir
        self.clock = FakeClock(wall_ms=START)
        self.writer = stack.enter_context(closing(LogWriter.open(workspace.logs_db)))
        self.queue: Any = WriterQueue(self.writer, self.clock)
        ours, theirs = socket.socketpair()
        self.kernel: Channel[FromChild] = stack.enter_context(closing(Channel(ours, FromChild)))
        link: Channel[ToChild] = stack.enter_context(closing(Channel(theirs, ToChild)))
        revision = SimpleNamespace(config=SimpleNamespace(logs=LOGS))
        context: Any = SimpleNamespace(boot=SimpleNamespace(workspace=workspace, revision=revision))
        self.archiver = ArchiverWorker(context, link, self.queue, self.queue, self.clock)

    def log(self, rows: int, ts: int = OLD) -> None:
        """Append rows of an old day."""
        self.writer.append([event(ref_id=None, ts=ts) for _ in range(rows)], {})

    def send(self, *messages: Any) -> None:
        """Send messages, and let the archiver receive them and work."""
        for message in messages:
            self.kernel.send(message)
        self.archiver._receive(0.0)
        self.archiver._work()

    def report(self) -> ArchiverReport:
        """Return the archiver's report."""
        self.send(GetReport())
        (report,) = [message for message in self.kernel.receive() if isinstance(message, ArchiverReport)]
        return report

    def files(self) -> list[str]:
        """Return the names of the archive's files."""
        return sorted(path.name for path in self.archive_dir.glob("2*"))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An archiver that has done its first run, with nothing to do."""
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack)
        stage.send()
        yield stage


def test_archiver_runs_at_each_interval_and_on_request(stage: Stage) -> None:
    """A requested run reports its outcome, and doesn't change when the next one is due."""
    stage.log(3)
    stage.send()
    assert stage.files() == []
    stage.send(ArchiveNow(30 * 86400.0, vacuum=False), ArchiveNow(LOGS.retention, vacuum=True))
    assert stage.kernel.receive() == [Archived(0, 0), Archived(1, 3)]
    assert isinstance(stage.queue.orders[-1], Vacuum)
    stage.log(2)
    stage.clock.time += LOGS.archive_interval
    stage.send()
    assert stage.files() == ["2026-11-20.1.jsonl", "2026-11-20.jsonl"]
    assert not [message for message in stage.kernel.receive() if isinstance(message, Archived)]


def test_new_settings_reschedule_the_next_run(stage: Stage) -> None:
    """The new interval counts from the last run: a run that is overdue then starts at once."""
    stage.log(3)
    stage.clock.time += 100
    stage.send(SetLogsConfig(LogsConfig(archive_interval=7200.0, compress="zstd")))
    assert stage.report().next_ts == START + 7_200_000
    stage.send(SetLogsConfig(replace(LOGS, archive_interval=60.0, compress="zstd")))
    assert stage.files() == ["2026-11-20.jsonl.zst"]
    assert stage.report().next_ts == START + 160_000


def test_new_max_size_is_applied(stage: Stage) -> None:
    """A log that exceeds it is reported."""
    stage.log(3, ts=START)
    stage.send(SetLogsConfig(replace(LOGS, archive_interval=1.0, max_size=5000)))
    stage.clock.time += 1
    stage.send()
    (problem,) = stage.report().problems
    assert "larger than logs.max_size (4.9KB)" in problem


def test_report_has_the_last_run_from_the_log(stage: Stage) -> None:
    """So does the report of an archiver that was restarted."""
    stage.log(3)
    stage.send(ArchiveNow(LOGS.retention, vacuum=False))
    stage.kernel.receive()
    report = stage.report()
    assert (report.last_ts, report.archived_up_to, report.next_ts) == (START, "2026-11-20", START + 3_600_000)


def test_messages_are_received_during_a_run(stage: Stage) -> None:
    """The kernel gets progress and its report meanwhile; a run that it requests is done next."""
    stage.log(3 * ROWS_AT_ONCE)
    stage.clock.tick = PROGRESS_SECONDS
    stage.kernel.send(ArchiveNow(LOGS.retention, vacuum=False))
    stage.archiver._receive(0.0)
    stage.kernel.send(GetReport())
    stage.kernel.send(ArchiveNow(LOGS.retention, vacuum=False))
    stage.archiver._work()
    messages = stage.kernel.receive()
    kinds = [type(message) for message in messages]
    assert kinds.count(ArchiverReport) == 1
    assert kinds.index(ArchiverReport) < kinds.index(Archived)
    assert [message for message in messages if isinstance(message, Archived)] == [
        Archived(1, 3 * ROWS_AT_ONCE),
        Archived(0, 0),
    ]
    assert [message.archived for message in messages if isinstance(message, ArchiveProgress)][:2] == [0, ROWS_AT_ONCE]


@pytest.mark.parametrize("end", [lambda kernel: kernel.send(Finish()), lambda kernel: kernel.close()])
def test_run_stops_when_the_engine_ends(stage: Stage, end: Callable[[Channel[Any]], None]) -> None:
    """No incomplete file is left, and no row is deleted."""
    stage.log(3 * ROWS_AT_ONCE)
    stage.clock.time += LOGS.archive_interval
    stage.clock.tick = PROGRESS_SECONDS
    end(stage.kernel)
    stage.archiver.serve()
    assert stage.files() == []
    assert not list(stage.archive_dir.glob("*.tmp"))
    assert not [order for order in stage.queue.orders if isinstance(order, Purge)]


def test_purge_is_split_into_orders(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two orders the kernel's messages are received; the last order deletes fewer rows than PURGE_ROWS."""
    monkeypatch.setattr(export, "PURGE_ROWS", 100)
    stage.log(250)
    stage.send(ArchiveNow(LOGS.retention, vacuum=False))
    purges = [order for order in stage.queue.orders if isinstance(order, Purge)]
    assert [(order.day, order.last_id, order.most) for order in purges] == [("2026-11-20", 250, 100)] * 3
    assert isinstance(stage.queue.orders[-1], Conclude)


def test_order_is_sent_again_when_the_writer_died(stage: Stage) -> None:
    """After ORDER_ATTEMPTS the run fails, and the next one does the rest."""
    stage.log(3)
    stage.queue.deaths = ORDER_ATTEMPTS - 1
    stage.send(ArchiveNow(LOGS.retention, vacuum=False))
    stage.log(2)
    stage.queue.deaths = ORDER_ATTEMPTS
    stage.send(ArchiveNow(LOGS.retention, vacuum=False), ArchiveNow(LOGS.retention, vacuum=False))
    first, failed, last = stage.kernel.receive()
    assert (first, last) == (Archived(1, 3), Archived(1, 2))
    assert isinstance(failed, Archived)
    assert failed.error is not None
    assert "the writer restarted repeatedly during an order" in failed.error


def test_unexpected_message_is_logged_and_ignored(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The archiver keeps running."""
    stage.send(Rescan(1))
    assert "the kernel sent the archiver a Rescan" in caplog.text


def test_serve_reports_ready_and_ends_on_finish(stage: Stage) -> None:
    """Nothing else is sent."""
    stage.kernel.send(Finish())
    stage.archiver.serve()
    assert stage.kernel.receive() == [Ready()]
