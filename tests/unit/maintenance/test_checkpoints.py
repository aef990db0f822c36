"""The Checkpointer: when it checks and empties the WAL, and when it raises the alarm."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.entries import event

from nerve.errors import DiskError
from nerve.events.model import ErrorDetail
from nerve.maintenance.checkpoints import (
    ALARM_BYTES,
    CHECK_SECONDS,
    LARGE_BYTES,
    RETRY_SECONDS,
    WAIT_MS,
    Checkpointer,
    CheckpointState,
)
from nerve.store.table.writer import LogWriter

MB = 1024 * 1024


class Connection:
    """A connection whose WAL has the size that the test sets, and `emptied_to` after a checkpoint."""

    def __init__(self) -> None:
        self.size = 0
        self.emptied_to: int | DiskError | None = 0
        self.waits: list[int] = []

    def wal_bytes(self) -> int:
        """Return the size."""
        return self.size

    def checkpoint(self, wait_ms: int) -> bool:
        """Empty the WAL, unless the test prevents it."""
        self.waits.append(wait_ms)
        if isinstance(self.emptied_to, DiskError):
            raise self.emptied_to
        if self.emptied_to is None:
            return False
        self.size = self.emptied_to
        return True


@pytest.mark.parametrize(
    ("alarmed_before", "size", "again_in", "alarmed"),
    [
        (False, 0, None, False),
        (False, LARGE_BYTES, None, False),
        (False, LARGE_BYTES + 1, RETRY_SECONDS, False),
        (False, ALARM_BYTES, RETRY_SECONDS, False),
        (False, ALARM_BYTES + 1, RETRY_SECONDS, True),
        (True, ALARM_BYTES, RETRY_SECONDS, True),
        (True, ALARM_BYTES // 2 + 1, RETRY_SECONDS, True),
        (True, ALARM_BYTES // 2, RETRY_SECONDS, False),
        (True, 0, None, False),
    ],
)
def test_state_after_a_check_depends_on_the_size(
    alarmed_before: bool, size: int, again_in: float | None, alarmed: bool
) -> None:
    """A large WAL is checked again soon; the alarm begins above its bound, and ends at half of it."""
    state = CheckpointState(next_check=9.0, last_check=1.0, alarmed=alarmed_before).checked(size, 10.0)
    assert state == CheckpointState(None if again_in is None else 10.0 + again_in, 10.0, alarmed)


def test_check_is_due_only_after_a_commit() -> None:
    """The check is due at once, or CHECK_SECONDS after the last one; further commits don't move it."""
    state = CheckpointState()
    assert not state.is_due(1e9)
    state = state.committed(100.0)
    assert state.is_due(100.0)
    state = state.checked(0, 100.0).committed(100.1)
    assert state.next_check == 100.0 + CHECK_SECONDS
    assert state.committed(100.9) == state
    assert state.checked(0, 101.0).next_check is None


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def alarms() -> list[ErrorDetail]:
    """The alarms that have been raised."""
    return []


def commit_and_check(checkpointer: Checkpointer, clock: FakeClock) -> None:
    """Note a commit, and do the check that follows it."""
    checkpointer.committed()
    due = checkpointer.next_deadline()
    assert due is not None
    clock.time = max(clock.time, due)
    checkpointer.maintain()


def test_small_wal_is_not_emptied(clock: FakeClock, alarms: list[ErrorDetail]) -> None:
    """A WAL of the size that commits leave behind costs only a check."""
    connection = Connection()
    checkpointer = Checkpointer(connection, clock, alarms.append)
    connection.size = LARGE_BYTES
    commit_and_check(checkpointer, clock)
    assert (connection.waits, alarms, checkpointer.next_deadline()) == ([], [], None)


def test_large_wal_is_emptied(clock: FakeClock, alarms: list[ErrorDetail]) -> None:
    """Without readers one attempt is enough for a WAL of any size, and there is no alarm."""
    connection = Connection()
    checkpointer = Checkpointer(connection, clock, alarms.append)
    connection.size = 10 * ALARM_BYTES
    commit_and_check(checkpointer, clock)
    assert (connection.size, connection.waits, alarms, checkpointer.next_deadline()) == (0, [WAIT_MS], [], None)


def test_next_attempt_waits_when_a_reader_prevented_the_last_one(clock: FakeClock, alarms: list[ErrorDetail]) -> None:
    """Attempts are RETRY_SECONDS apart, and no commit brings the next one forward."""
    connection = Connection()
    connection.size, connection.emptied_to = LARGE_BYTES + 1, None
    checkpointer = Checkpointer(connection, clock, alarms.append)
    commit_and_check(checkpointer, clock)
    for _ in range(3):
        checkpointer.committed()
        checkpointer.maintain()
    assert len(connection.waits) == 1
    clock.advance(RETRY_SECONDS)
    checkpointer.maintain()
    assert len(connection.waits) == 2


def test_alarm_is_raised_once_per_long_reader(clock: FakeClock, alarms: list[ErrorDetail]) -> None:
    """The alarm is raised above its bound, and again only after the WAL has been below half of that."""
    connection = Connection()
    connection.emptied_to = None
    checkpointer = Checkpointer(connection, clock, alarms.append)
    for size in (ALARM_BYTES, ALARM_BYTES + 1, 3 * ALARM_BYTES, ALARM_BYTES, ALARM_BYTES + 1):
        connection.size = size
        commit_and_check(checkpointer, clock)
    assert [alarm.kind for alarm in alarms] == ["wal"]
    connection.emptied_to = 0
    commit_and_check(checkpointer, clock)
    connection.size, connection.emptied_to = 70 * MB, None
    commit_and_check(checkpointer, clock)
    assert len(alarms) == 2
    assert "grown to 70MB" in alarms[1].message


def test_checkpoint_is_retried_when_the_disk_failed(
    clock: FakeClock, alarms: list[ErrorDetail], caplog: pytest.LogCaptureFixture
) -> None:
    """A DiskError is logged as a warning, and the next attempt empties the WAL."""
    connection = Connection()
    connection.size, connection.emptied_to = LARGE_BYTES + 1, DiskError("the disk is full")
    checkpointer = Checkpointer(connection, clock, alarms.append)
    commit_and_check(checkpointer, clock)
    assert "the WAL can't be emptied: the disk is full" in caplog.text
    connection.emptied_to = 0
    commit_and_check(checkpointer, clock)
    assert (connection.size, len(connection.waits)) == (0, 2)


def test_real_wal_is_emptied_once_its_reader_has_ended(
    tmp_path: Path, clock: FakeClock, alarms: list[ErrorDetail], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps the WAL while a read transaction may need it; after its end, the file is empty."""
    monkeypatch.setattr("nerve.maintenance.checkpoints.LARGE_BYTES", 0)
    monkeypatch.setattr("nerve.maintenance.checkpoints.ALARM_BYTES", 100_000)
    monkeypatch.setattr("nerve.maintenance.checkpoints.WAIT_MS", 1)
    db = tmp_path / "logs.db"
    with closing(LogWriter.open(db)) as writer:
        checkpointer = Checkpointer(writer, clock, alarms.append)
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM logs").fetchone() == (0,)
            writer.append([event(payload="x" * 100_000)], {})
            commit_and_check(checkpointer, clock)
            assert len(alarms) == 1
            assert writer.wal_bytes() > 100_000
        commit_and_check(checkpointer, clock)
        assert writer.wal_bytes() == 0
    assert len(alarms) == 1
