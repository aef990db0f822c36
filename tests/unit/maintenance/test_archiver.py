"""One run of the archiver: the events it records, and the problems it reports."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.clock import FakeClock
from support.entries import event

from nerve.clock import SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.errors import NoRoomError, StoreError
from nerve.events.model import LogEvent
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.lock import WorkspaceLock
from nerve.maintenance import archiver as archiver_module
from nerve.maintenance.archiver import Archiver, DirectBackend, archive_alone, archived_up_to, last_run
from nerve.store.archive.order_messages import Order, Purge, Record, Vacuum
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import ArchiveRun, LogWriter
from nerve.store.utc_days import DAY_MS, day_start
from nerve.workspace import Workspace

OLD = day_start("2026-11-20")
NOW = day_start("2026-11-23") + 5
LOGS = LogsConfig(retention=DAY_MS / 1000)


class Backend(DirectBackend):
    """Writes the log, and keeps what it was asked for."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(writer, lambda _progress: None)
        self.recorded: list[LogEvent] = []
        self.vacuums = 0

    def record(self, event: LogEvent) -> None:
        """Keep an event."""
        self.recorded.append(event)

    def execute(self, order: Order) -> int:
        """Execute an order, but only count rebuilds; keep the event of a file."""
        if isinstance(order, Vacuum):
            self.vacuums += 1
            return 0
        if isinstance(order, Record):
            self.recorded.append(order.event)
        return super().execute(order)

    def payloads(self, type: str) -> list[Any]:
        """Return the payloads of the events of a type."""
        return [msgspec.json.decode(event.payload) for event in self.recorded if event.type == type]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with its folders."""
    found = Workspace(tmp_path)
    found.prepare()
    return found


@pytest.fixture
def writer(workspace: Workspace) -> Iterator[LogWriter]:
    """The writer of its log."""
    with closing(LogWriter.open(workspace.logs_db)) as opened:
        yield opened


@pytest.fixture
def backend(writer: LogWriter) -> Backend:
    """A backend that writes the log."""
    return Backend(writer)


@pytest.fixture
def archiver(workspace: Workspace, backend: Backend) -> Archiver:
    """The archiver of the workspace."""
    return Archiver(workspace, backend, FakeClock(wall_ms=NOW))


def test_run_records_its_files_and_is_remembered(
    workspace: Workspace, writer: LogWriter, backend: Backend, archiver: Archiver
) -> None:
    """Each file is recorded with its reason; the last run and the watermark can be read from the log."""
    writer.append([event(ts=OLD), event(ts=OLD), event(ts=NOW)], {})
    with LogReader(workspace.logs_db) as reader:
        assert (last_run(reader), archived_up_to(reader)) == (None, None)
        assert archiver.run(LOGS, vacuum=False) == Archived(1, 2)
        [recorded] = backend.payloads("archive")
        assert (recorded["rows"], recorded["file"], recorded["reason"]) == (2, "2026-11-20.jsonl", "retention")
        assert last_run(reader) == ArchiveRun(NOW, 1, 2)
        assert archived_up_to(reader) == "2026-11-20"
        assert archiver.run(LOGS, vacuum=False) == Archived(0, 0)
        assert last_run(reader) == ArchiveRun(NOW, 0, 0)


def test_damaged_record_of_the_last_run_raises_store_error(workspace: Workspace, writer: LogWriter) -> None:
    """The message has the damaged value."""
    writer._connection.execute("INSERT INTO meta VALUES ('archive_run', 'oops')")
    with LogReader(workspace.logs_db) as reader, pytest.raises(StoreError, match=r"damaged archive_run .* 'oops'"):
        last_run(reader)


def test_foreign_file_in_the_folder_is_recorded_once(
    workspace: Workspace, writer: LogWriter, backend: Backend, archiver: Archiver
) -> None:
    """Every run reports it; it is recorded again only after it has been away."""
    stray = workspace.archive_dir / "2026-11-20.jsonl"
    for there, recorded in ((True, 1), (True, 1), (False, 1), (True, 2)):
        stray.unlink(missing_ok=True)
        if there:
            stray.write_text("hello\n")
        outcome = archiver.run(LOGS, vacuum=False)
        assert outcome.error is None
        assert len(outcome.notes) == there
        assert archiver.problems == outcome.notes
        assert len(backend.payloads("error")) == recorded
    assert backend.payloads("error")[0]["kind"] == "archive"
    assert "2026-11-20.jsonl, line 1: damaged" in archiver.problems[0]


def test_oversized_log_is_archived_early_and_reported(
    workspace: Workspace, writer: LogWriter, backend: Backend, archiver: Archiver
) -> None:
    """A log that stays too large, as today's entries can't be archived, is reported each time and recorded once."""
    yesterday, today = NOW - DAY_MS, NOW - 1
    writer.append([event(payload="x" * 1000, ts=ts) for ts in (yesterday, today) for _ in range(300)], {})
    logs = LogsConfig(retention=9 * DAY_MS / 1000, max_size=100_000)
    outcome = archiver.run(logs, vacuum=False)
    early, too_large = outcome.notes
    assert early.endswith("before the retention was over, because the log was larger than logs.max_size: 2026-11-22")
    assert too_large.startswith("the log is larger than logs.max_size (97.7KB): the rest is of today")
    assert backend.payloads("archive")[0]["reason"] == "max_size"
    assert archiver.run(logs, vacuum=False).notes == (too_large,)
    assert [error["kind"] for error in backend.payloads("error")] == ["disk"]


def test_vacuum_without_disk_space_is_skipped_and_recorded(
    backend: Backend, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the run succeeds; with enough space, the file is rebuilt."""

    def refuse(size: int, _folder: Path) -> None:
        raise NoRoomError(f"no room for {size > 0}")

    assert archiver.run(LOGS, vacuum=True) == Archived(0, 0)
    assert backend.vacuums == 1
    monkeypatch.setattr(archiver_module, "check_room", refuse)
    assert archiver.run(LOGS, vacuum=True) == Archived(0, 0, notes=("no room for True",))
    assert backend.vacuums == 1
    assert backend.payloads("error") == [{"kind": "disk", "message": "no room for True"}]


def test_failed_run_returns_its_progress_and_error(
    writer: LogWriter, backend: Backend, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is recorded each time, and the next run continues from there."""
    execute = backend.execute

    def refuse_purge(order: Order) -> int:
        if isinstance(order, Purge):
            raise StoreError("the writer went away")
        return execute(order)

    writer.append([event(ts=OLD)], {})
    with monkeypatch.context() as patch:
        patch.setattr(backend, "execute", refuse_purge)
        assert archiver.run(LOGS, vacuum=False) == Archived(1, 1, "the writer went away")
        assert archiver.run(LOGS, vacuum=False) == Archived(0, 0, "the writer went away")
    assert len(backend.payloads("error")) == 2
    assert archiver.problems == ("the writer went away",)
    assert archiver.run(LOGS, vacuum=False) == Archived(0, 0)
    assert archiver.problems == ()


def test_archive_alone_does_everything_at_once(workspace: Workspace) -> None:
    """One call writes files, deletes rows and returns unused space; with `vacuum` it rebuilds the file."""
    with closing(LogWriter.open(workspace.logs_db)) as writer:
        writer.append([event(payload="x" * 2000, ts=OLD) for _ in range(300)], {})
    before = workspace.logs_db.stat().st_size
    reports: list[ArchiveProgress] = []
    with WorkspaceLock.acquire(workspace, wait=1.0, clock=SystemClock()):
        assert archive_alone(workspace, LOGS, reports.append, vacuum=False) == Archived(1, 300)
        assert workspace.logs_db.stat().st_size < before / 2
        assert archive_alone(workspace, LOGS, reports.append, vacuum=True) == Archived(0, 0)
    assert reports[-1].deleted == 300
