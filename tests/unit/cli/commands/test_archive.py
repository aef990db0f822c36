"""`nerve archive`: its output, with an engine and without one."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.commands import Command
from support.entries import event

from nerve.cli.commands.archive import _reporter
from nerve.control.protocol import Refused, RunArchive
from nerve.errors import NoRoomError
from nerve.ipc.progress import Archived, ArchiveProgress
from nerve.maintenance import archiver as archiving
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS, day_of
from nerve.workspace import Workspace

TODAY = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS
DAYS = [day_of(TODAY - ago * DAY_MS) for ago in (40, 35, 2)]


@pytest.fixture
def aged(workspace: Workspace) -> Workspace:
    """Return a workspace with 3 entries of 40 days ago, 4 of 35 days ago, 300 long ones of two days ago, and 2 new."""
    workspace.prepare()
    with closing(LogWriter.open(workspace.logs_db)) as writer:
        for ago, rows, size in ((40, 3, 1), (35, 4, 1), (2, 300, 2000), (-1, 2, 1)):
            writer.append([event(payload="x" * size, ts=TODAY - ago * DAY_MS) for _ in range(rows)], {})
    return workspace


def test_a_dry_run_lists_the_days_to_archive(aged: Workspace, command: Command) -> None:
    """Each day is a line, with the reason if it is archived early; no file is written."""
    result = command("archive", "--dry-run")
    assert result == (f"{DAYS[0]}  3 entries\n{DAYS[1]}  4 entries\n", "", 0)
    aged.config_path.write_text("logs: {max_size: 100KB}\n")
    early = f"{DAYS[2]}  300 entries (early: the log exceeds logs.max_size)\n"
    assert command("archive", "--dry-run").out.endswith(early)
    assert not list(aged.archive_dir.iterdir())
    aged.config_path.write_text("")
    nothing = command("archive", "--dry-run", "--retention", "400d")
    assert nothing == ("", "nerve: nothing to archive: no entry is older than the retention\n", 0)


def test_without_an_engine_the_command_archives_by_itself(aged: Workspace, command: Command) -> None:
    """The output is one line with the number of entries and files; a second run finds nothing to do."""
    result = command("archive")
    assert result == (f"nerve: archived 7 entries into 2 files in {aged.archive_dir}\n", "", 0)
    assert command("archive").out.startswith("nerve: archived 0 entries into 0 files")


def test_notes_of_the_archiver_are_printed_to_stderr(
    aged: Workspace, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are a stray file, days archived early, a log that is still too large, and a skipped rebuild."""

    def refuse(_size: int, _folder: Path) -> None:
        raise NoRoomError("the rebuild of the database was skipped: no room")

    aged.config_path.write_text("logs: {max_size: 1KB}\n")
    (aged.archive_dir / "2020-01-01.jsonl").write_text("mine\n")
    monkeypatch.setattr(archiving, "check_room", refuse)
    result = command("archive", "--vacuum")
    assert result.code == 0
    stray, early, large, skipped = result.err.splitlines()
    assert "2020-01-01.jsonl, line 1: damaged" in stray
    assert early.endswith(f"because the log was larger than logs.max_size: {DAYS[2]}")
    assert large.startswith("nerve: the log is larger than logs.max_size (1KB)")
    assert skipped == "nerve: the rebuild of the database was skipped: no room"


def test_a_running_engine_does_the_archiving(workspace: Workspace, engine: Any, command: Command) -> None:
    """The output is the same as without an engine; if the engine refuses, the command fails."""
    workspace.config_path.write_text("logs: {retention: 7d}\n")
    engine.replies = [Archived(2, 30, None, ("a day went early",)), Refused("the archiver is not running")]
    result = command("archive", "--vacuum")
    assert result == (
        f"nerve: archived 30 entries into 2 files in {workspace.archive_dir}\n",
        "nerve: a day went early\n",
        0,
    )
    failed = command("archive", "--retention", "1d")
    assert failed == ("", "nerve: the archiver is not running\n", 1)
    assert engine.requests == [RunArchive(7 * 86400.0, vacuum=True), RunArchive(86400.0, vacuum=False)]


def test_progress_counts_an_archived_and_a_deleted_entry_as_one_step_each() -> None:
    """Of 400 entries, 300 archived and 100 deleted are half of the work."""
    reported: list[tuple[str, int, int]] = []
    _reporter(lambda *step: reported.append(step))(ArchiveProgress("2026-11-20", archived=300, deleted=100, due=400))
    assert reported == [("2026-11-20 (300/400 archived, 100 deleted)", 400, 800)]
