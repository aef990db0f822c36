"""`nerve archive`: what it says, with an engine and without one."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.entries import event

from nerve.control.protocol import Refused, RunArchive
from nerve.errors import NoRoomError
from nerve.ipc.progress import Archived
from nerve.maintenance import archiver as archiving
from nerve.store.table.writer import LogWriter
from nerve.store.utc_days import DAY_MS, day_of
from nerve.workspace import Workspace

TODAY = time.time_ns() // 1_000_000 // DAY_MS * DAY_MS
DAYS = [day_of(TODAY - ago * DAY_MS) for ago in (40, 35, 2)]


@pytest.fixture
def aged(workspace: Workspace) -> Workspace:
    """Give a workspace with 3 entries of 40 days ago, 4 of 35 days ago, 300 long ones of two days ago, and some new."""
    workspace.prepare()
    with closing(LogWriter.open(workspace.logs_db)) as writer:
        for ago, rows, size in ((40, 3, 1), (35, 4, 1), (2, 300, 2000), (-1, 2, 1)):
            writer.append([event(payload="x" * size, ts=TODAY - ago * DAY_MS) for _ in range(rows)], {})
    return workspace


def test_a_dry_run_says_what_would_go_and_why(aged: Workspace, command: Any) -> None:
    """A line a day; nothing is changed."""
    said = command("archive", "--dry-run")
    assert said == (f"{DAYS[0]}  3 entries\n{DAYS[1]}  4 entries\n", "", 0)
    aged.config_path.write_text("logs: {max_size: 100KB}\n")
    early = f"{DAYS[2]}  300 entries before its retention is over, as the log is larger than logs.max_size\n"
    assert command("archive", "--dry-run").out.endswith(early)
    assert not list(aged.archive_dir.iterdir())
    aged.config_path.write_text("")
    nothing = command("archive", "--dry-run", "--retention", "400d")
    assert nothing == ("", "nerve: nothing is older than the retention\n", 0)


def test_without_an_engine_it_does_a_run_itself(aged: Workspace, command: Any) -> None:
    """And says what it did; what is not quick would be told on the way."""
    said = command("archive")
    assert said == (f"nerve: archived 7 entries into 2 files in {aged.archive_dir}\n", "", 0)
    assert command("archive").out.startswith("nerve: archived 0 entries into 0 files")


def test_what_a_person_should_know_is_said_besides(
    aged: Workspace, command: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stray file, days that went early, a log that stays too large, and a rebuild that was skipped."""

    def refuse(_size: int, _folder: Path) -> None:
        raise NoRoomError("the rebuild of the database was skipped: no room")

    aged.config_path.write_text("logs: {max_size: 1KB}\n")
    (aged.archive_dir / "2020-01-01.jsonl").write_text("mine\n")
    monkeypatch.setattr(archiving, "check_room", refuse)
    said = command("archive", "--vacuum")
    assert said.code == 0
    stray, early, large, skipped = said.err.splitlines()
    assert "2020-01-01.jsonl, line 1: damaged" in stray
    assert early.endswith(f"because the log was larger than logs.max_size: {DAYS[2]}")
    assert large.startswith("nerve: the log is larger than logs.max_size (1KB)")
    assert skipped == "nerve: the rebuild of the database was skipped: no room"


def test_a_running_engine_is_asked_to(workspace: Workspace, engine: Any, command: Any) -> None:
    """With the same words as without one, and its refusal is a failure."""
    workspace.config_path.write_text("logs: {retention: 7d}\n")
    engine.replies = [Archived(2, 30, None, ("a day went early",)), Refused("the archiver is not there")]
    said = command("archive", "--vacuum")
    assert said == (
        f"nerve: archived 30 entries into 2 files in {workspace.archive_dir}\n",
        "nerve: a day went early\n",
        0,
    )
    failed = command("archive", "--retention", "1d")
    assert failed == ("", "nerve: the archiver is not there\n", 1)
    assert engine.requests == [RunArchive(7 * 86400.0, vacuum=True), RunArchive(86400.0, vacuum=False)]
