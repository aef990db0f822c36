"""One run of the archiver: what is recorded, and what a person hears."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.entries import event

from nerve.clock import Stamp, SystemClock
from nerve.config.logs_section import LogsConfig
from nerve.errors import NoRoomError, StoreError
from nerve.events.model import LogEvent
from nerve.lock import WorkspaceLock
from nerve.maintenance import archiver as archiving
from nerve.maintenance.archiver import Archiver, DirectBackend, archive_alone, archived_up_to, last_run
from nerve.processes.messages import Archived
from nerve.store import ArchiveRun, LogReader, LogWriter, PurgeOrder
from nerve.store.utc_days import DAY_MS, day_start
from nerve.workspace import Workspace

OLD = day_start("2026-11-20")
NOW = day_start("2026-11-23") + 5
LOGS = LogsConfig(retention=DAY_MS / 1000)


class Today:
    """A clock that stands still."""

    def now(self) -> float:
        """Monotonic seconds."""
        return 0.0

    def stamp(self) -> Stamp:
        """The moment."""
        return Stamp(NOW, 0)


class Owner(DirectBackend):
    """Owns the log, and notes what it is asked for."""

    def __init__(self, writer: LogWriter) -> None:
        super().__init__(writer, lambda _progress: None)
        self.recorded: list[LogEvent] = []
        self.vacuums = 0

    def record(self, event: LogEvent) -> None:
        """Note an event."""
        self.recorded.append(event)

    def record_file(self, event: LogEvent, number: int) -> None:
        """Note it, and have it done."""
        self.recorded.append(event)
        super().record_file(event, number)

    def vacuum(self) -> None:
        """Count it."""
        self.vacuums += 1

    def payloads(self, type: str) -> list[Any]:
        """Give what was recorded of a type."""
        return [msgspec.json.decode(event.payload) for event in self.recorded if event.type == type]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Give a workspace with its folders."""
    found = Workspace(tmp_path)
    found.prepare()
    return found


@pytest.fixture
def writer(workspace: Workspace) -> Iterator[LogWriter]:
    """Give the writer of its log."""
    with closing(LogWriter.open(workspace.logs_db)) as opened:
        yield opened


@pytest.fixture
def owner(writer: LogWriter) -> Owner:
    """Give the log's owner."""
    return Owner(writer)


@pytest.fixture
def archiver(workspace: Workspace, owner: Owner) -> Archiver:
    """Give what does the runs."""
    return Archiver(workspace, owner, Today())


def test_a_run_records_its_files_and_is_remembered(
    workspace: Workspace, writer: LogWriter, owner: Owner, archiver: Archiver
) -> None:
    """Each file with its reason; who starts anew finds the last run and the watermark in the log."""
    writer.append([event(ts=OLD), event(ts=OLD), event(ts=NOW)], {})
    with LogReader(workspace.logs_db) as reader:
        assert (last_run(reader), archived_up_to(reader)) == (None, None)
        assert archiver.run(LOGS, vacuum=False) == Archived(1, 2)
        [recorded] = owner.payloads("archive")
        assert (recorded["rows"], recorded["file"], recorded["reason"]) == (2, "2026-11-20.jsonl", "retention")
        assert last_run(reader) == ArchiveRun(NOW, 1, 2)
        assert archived_up_to(reader) == "2026-11-20"
        assert archiver.run(LOGS, vacuum=False) == Archived(0, 0)
        assert last_run(reader) == ArchiveRun(NOW, 0, 0)


def test_a_damaged_memory_of_the_last_run_is_told(workspace: Workspace, writer: LogWriter) -> None:
    """With what it is."""
    writer._connection.execute("INSERT INTO meta VALUES ('archive_run', 'oops')")
    with LogReader(workspace.logs_db) as reader, pytest.raises(StoreError, match=r"damaged archive_run .* 'oops'"):
        last_run(reader)


def test_a_file_that_is_none_of_the_archive_is_recorded_once(
    workspace: Workspace, writer: LogWriter, owner: Owner, archiver: Archiver
) -> None:
    """A person hears of it as long as it is there; when it has gone and come back, it is recorded again."""
    stray = workspace.archive_dir / "2026-11-20.jsonl"
    for there, recorded in ((True, 1), (True, 1), (False, 1), (True, 2)):
        stray.unlink(missing_ok=True)
        if there:
            stray.write_text("hello\n")
        outcome = archiver.run(LOGS, vacuum=False)
        assert outcome.error is None
        assert len(outcome.notes) == there
        assert archiver.problems == outcome.notes
        assert len(owner.payloads("error")) == recorded
    assert owner.payloads("error")[0]["kind"] == "archive"
    assert "2026-11-20.jsonl, line 1: damaged" in archiver.problems[0]


def test_a_log_beyond_its_size_is_archived_early_and_it_is_said(
    workspace: Workspace, writer: LogWriter, owner: Owner, archiver: Archiver
) -> None:
    """Also that no more can be done today, which is recorded once."""
    yesterday, today = NOW - DAY_MS, NOW - 1
    writer.append([event(payload="x" * 1000, ts=ts) for ts in (yesterday, today) for _ in range(300)], {})
    logs = LogsConfig(retention=9 * DAY_MS / 1000, max_size=100_000)
    outcome = archiver.run(logs, vacuum=False)
    early, too_large = outcome.notes
    assert early.endswith("before the retention was over, as the log was larger than logs.max_size: 2026-11-22")
    assert too_large.startswith("the log is larger than logs.max_size (97.7KB): what is left is of today")
    assert owner.payloads("archive")[0]["reason"] == "max_size"
    assert archiver.run(logs, vacuum=False).notes == (too_large,)
    assert [error["kind"] for error in owner.payloads("error")] == ["disk"]


def test_a_rebuild_that_has_no_room_is_skipped_and_recorded(
    owner: Owner, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest of the run is done; with room, the rebuild is."""

    def refuse(size: int, _folder: Path) -> None:
        raise NoRoomError(f"no room for {size > 0}")

    assert archiver.run(LOGS, vacuum=True) == Archived(0, 0)
    assert owner.vacuums == 1
    monkeypatch.setattr(archiving, "check_room", refuse)
    assert archiver.run(LOGS, vacuum=True) == Archived(0, 0, notes=("no room for True",))
    assert owner.vacuums == 1
    assert owner.payloads("error") == [{"kind": "disk", "message": "no room for True"}]


def test_a_run_that_fails_says_how_far_it_came(
    writer: LogWriter, owner: Owner, archiver: Archiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The failure is recorded each time, and the next run goes on from there."""

    def refuse(_order: PurgeOrder) -> Iterator[int]:
        raise StoreError("the writer went away")

    writer.append([event(ts=OLD)], {})
    with monkeypatch.context() as patch:
        patch.setattr(owner, "purge", refuse)
        assert archiver.run(LOGS, vacuum=False) == Archived(1, 1, "the writer went away")
        assert archiver.run(LOGS, vacuum=False) == Archived(0, 0, "the writer went away")
    assert len(owner.payloads("error")) == 2
    assert archiver.problems == ("the writer went away",)
    assert archiver.run(LOGS, vacuum=False) == Archived(0, 0)
    assert archiver.problems == ()


def test_without_an_engine_it_is_all_done_at_once(workspace: Workspace) -> None:
    """Files, deletion, the space given back, and the rebuild."""
    with closing(LogWriter.open(workspace.logs_db)) as writer:
        writer.append([event(payload="x" * 2000, ts=OLD) for _ in range(300)], {})
    before = workspace.logs_db.stat().st_size
    heard = []
    with WorkspaceLock.acquire(workspace, wait=1.0, clock=SystemClock()):
        assert archive_alone(workspace, LOGS, heard.append, vacuum=False) == Archived(1, 300)
        assert workspace.logs_db.stat().st_size < before / 2
        assert archive_alone(workspace, LOGS, heard.append, vacuum=True) == Archived(0, 0)
    assert heard[-1].deleted == 300
