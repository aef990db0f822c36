"""The archiver's loop over a real log, with the test as its kernel and its writer."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.entries import event

from nerve.clock import Stamp
from nerve.config.logs_section import LogsConfig
from nerve.events.model import LogEvent
from nerve.ipc.channel import Channel
from nerve.ipc.progress import ArchiveProgress
from nerve.maintenance.order_messages import Conclude, Done, Order, Purge, Vacuum
from nerve.maintenance.order_socket import PendingOrder
from nerve.maintenance.orders import OrderExecutor
from nerve.processes.messages import (
    Archived,
    ArchiveNow,
    ArchiverReport,
    ArchiveSettings,
    Finish,
    FromChild,
    GetReport,
    Ready,
    Rescan,
    ToChild,
)
from nerve.store import LogWriter
from nerve.store.archive.export import ROWS_AT_ONCE
from nerve.store.utc_days import DAY_MS, day_start
from nerve.workspace import Workspace
from workers import archiver as archiver_module
from workers.archiver import ORDER_ATTEMPTS, PROGRESS_SECONDS, ArchiverWorker

START = day_start("2026-11-23") + 5
OLD = day_start("2026-11-20")
LOGS = LogsConfig(retention=DAY_MS / 1000, archive_interval=3600.0)


class ManualClock:
    """A clock that goes on when the test says so, or by `tick` each time that it is asked."""

    def __init__(self) -> None:
        self.time = 1000.0
        self.tick = 0.0

    def now(self) -> float:
        """Monotonic seconds."""
        self.time += self.tick
        return self.time

    def stamp(self) -> Stamp:
        """The moment."""
        return Stamp(START, round(self.time * 1e9))


class WriterQueue:
    """The event queue to a writer that carries out orders at once."""

    def __init__(self, writer: LogWriter, clock: ManualClock) -> None:
        self.writer = writer
        self.orders: list[Order] = []
        self.deaths = 0
        self._upkeep = OrderExecutor(writer, clock, lambda: False)

    def send(self, events: Sequence[LogEvent]) -> None:
        """Append."""
        self.writer.append(events, {})

    def ask(self, order: Order, _timeout: float) -> Done | None:
        """Carry an order out, unless the writer has just died."""
        self.orders.append(order)
        if self.deaths:
            self.deaths -= 1
            return None
        request: Any = SimpleNamespace(order=order, rows=0)
        while not (done := self._step(request)):
            pass
        return done

    def _step(self, request: PendingOrder) -> Done | None:
        return self._upkeep.step(request)


class Stage:
    """An archiver whose loop is turned by hand."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        workspace = Workspace(home)
        workspace.prepare()
        self.archive_dir = workspace.archive_dir
        self.clock: Any = ManualClock()
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

    def tell(self, *messages: Any) -> None:
        """Send messages, and let the archiver hear them and work."""
        for message in messages:
            self.kernel.send(message)
        self.archiver._hear(0.0)
        self.archiver._work()

    def report(self) -> ArchiverReport:
        """Ask how it is."""
        self.tell(GetReport())
        (report,) = [said for said in self.kernel.receive() if isinstance(said, ArchiverReport)]
        return report

    def files(self) -> list[str]:
        """Name the archive's files."""
        return sorted(path.name for path in self.archive_dir.glob("2*"))


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """Give an archiver that has done its first run, of nothing."""
    with ExitStack() as stack:
        stage = Stage(tmp_path, stack)
        stage.tell()
        yield stage


def test_it_runs_at_each_interval_and_when_asked(stage: Stage) -> None:
    """What it is asked for does not change when the next one is due; who asked hears the outcome."""
    stage.log(3)
    stage.tell()
    assert stage.files() == []
    stage.tell(ArchiveNow(30 * 86400.0, vacuum=False), ArchiveNow(LOGS.retention, vacuum=True))
    assert stage.kernel.receive() == [Archived(0, 0), Archived(1, 3)]
    assert isinstance(stage.queue.orders[-1], Vacuum)
    stage.log(2)
    stage.clock.time += LOGS.archive_interval
    stage.tell()
    assert stage.files() == ["2026-11-20.1.jsonl", "2026-11-20.jsonl"]
    assert not [said for said in stage.kernel.receive() if isinstance(said, Archived)]


def test_new_settings_are_taken_and_the_next_run_is_planned_anew(stage: Stage) -> None:
    """As if it had been them all along: what is overdue by now is done at once."""
    stage.log(3)
    stage.clock.time += 100
    stage.tell(ArchiveSettings(30 * 86400.0, 7200.0, "zstd", None))
    assert stage.report().next_ts == START + 7_100_000
    stage.tell(ArchiveSettings(LOGS.retention, 60.0, "zstd", None))
    assert stage.files() == ["2026-11-20.jsonl.zst"]
    assert stage.report().next_ts == START + 60_000


def test_a_new_bound_of_the_size_is_taken(stage: Stage) -> None:
    """And it is told as long as it is exceeded."""
    stage.log(3, ts=START)
    stage.tell(ArchiveSettings(LOGS.retention, 1.0, None, 5000))
    stage.clock.time += 1
    stage.tell()
    (problem,) = stage.report().problems
    assert "larger than logs.max_size (4.9KB)" in problem


def test_a_restarted_archiver_knows_the_last_run(stage: Stage) -> None:
    """It is in the log."""
    stage.log(3)
    stage.tell(ArchiveNow(LOGS.retention, vacuum=False))
    stage.kernel.receive()
    report = stage.report()
    assert (report.last_ts, report.archived_up_to, report.next_ts) == (START, "2026-11-20", START + 3_600_000)


def test_the_kernel_is_heard_in_the_middle_of_a_run(stage: Stage) -> None:
    """It is told how far the run is, gets its report, and what it asks for besides comes next."""
    stage.log(3 * ROWS_AT_ONCE)
    stage.clock.tick = PROGRESS_SECONDS
    stage.kernel.send(ArchiveNow(LOGS.retention, vacuum=False))
    stage.archiver._hear(0.0)
    stage.kernel.send(GetReport())
    stage.kernel.send(ArchiveNow(LOGS.retention, vacuum=False))
    stage.archiver._work()
    said = stage.kernel.receive()
    kinds = [type(message) for message in said]
    assert kinds.count(ArchiverReport) == 1
    assert kinds.index(ArchiverReport) < kinds.index(Archived)
    assert [message for message in said if isinstance(message, Archived)] == [
        Archived(1, 3 * ROWS_AT_ONCE),
        Archived(0, 0),
    ]
    assert [message.archived for message in said if isinstance(message, ArchiveProgress)][:2] == [0, ROWS_AT_ONCE]


@pytest.mark.parametrize("end", [lambda kernel: kernel.send(Finish()), lambda kernel: kernel.close()])
def test_a_run_ends_in_the_middle_when_the_engine_does(stage: Stage, end: Callable[[Channel[Any]], None]) -> None:
    """Nothing half done is left, and nothing is deleted."""
    stage.log(3 * ROWS_AT_ONCE)
    stage.clock.time += LOGS.archive_interval
    stage.clock.tick = PROGRESS_SECONDS
    end(stage.kernel)
    stage.archiver.serve()
    assert stage.files() == []
    assert not list(stage.archive_dir.glob("*.tmp"))
    assert not [order for order in stage.queue.orders if isinstance(order, Purge)]


def test_rows_are_deleted_some_at_an_order(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long purge leaves time to hear the kernel; the last order is the one that finds fewer."""
    monkeypatch.setattr(archiver_module, "ORDER_ROWS", 100)
    stage.log(250)
    stage.tell(ArchiveNow(LOGS.retention, vacuum=False))
    purges = [order for order in stage.queue.orders if isinstance(order, Purge)]
    assert [(order.day, order.last_id, order.most) for order in purges] == [("2026-11-20", 250, 100)] * 3
    assert isinstance(stage.queue.orders[-1], Conclude)


def test_an_order_is_given_again_when_the_writer_has_died(stage: Stage) -> None:
    """Some times; then the run fails, and the next one makes up for it."""
    stage.log(3)
    stage.queue.deaths = ORDER_ATTEMPTS - 1
    stage.tell(ArchiveNow(LOGS.retention, vacuum=False))
    stage.log(2)
    stage.queue.deaths = ORDER_ATTEMPTS
    stage.tell(ArchiveNow(LOGS.retention, vacuum=False), ArchiveNow(LOGS.retention, vacuum=False))
    first, failed, last = stage.kernel.receive()
    assert (first, last) == (Archived(1, 3), Archived(1, 2))
    assert isinstance(failed, Archived)
    assert failed.error is not None
    assert "the writer went away again and again" in failed.error


def test_a_message_that_is_not_for_it_is_only_noted(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The archiver goes on."""
    stage.tell(Rescan(1))
    assert "the kernel sent the archiver a Rescan" in caplog.text


def test_it_says_that_it_serves_and_ends_when_told_to(stage: Stage) -> None:
    """In between it sleeps until it is due, or hears something."""
    stage.kernel.send(Finish())
    stage.archiver.serve()
    assert stage.kernel.receive() == [Ready()]
