"""Keeping the WAL small: when it is looked at, when it is emptied, and when the alarm is raised."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from support.entries import event

from nerve.clock import Stamp
from nerve.errors import DiskError
from nerve.events.model import ErrorDetail
from nerve.maintenance.checkpoints import (
    ALARM_BYTES,
    LARGE_BYTES,
    LOOK_SECONDS,
    RETRY_SECONDS,
    WAIT_MS,
    Checkpointer,
    CheckpointState,
)
from nerve.store import LogWriter

MB = 1024 * 1024


class ManualClock:
    """A clock that goes on when the test says so."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        """Monotonic seconds."""
        return self.time

    def stamp(self) -> Stamp:
        """The moment."""
        return Stamp(round(self.time * 1e3), round(self.time * 1e9))


class Owner:
    """A connection whose WAL has the size that the test says; `emptied_to` is what an attempt to empty it leaves."""

    def __init__(self) -> None:
        self.size = 0
        self.emptied_to: int | DiskError | None = 0
        self.waits: list[int] = []

    def wal_bytes(self) -> int:
        """Give its size."""
        return self.size

    def checkpoint(self, wait_ms: int) -> bool:
        """Empty it, if the test lets it be emptied."""
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
def test_what_follows_from_its_size(alarmed_before: bool, size: int, again_in: float | None, alarmed: bool) -> None:
    """The table: a large one is looked at again soon; the alarm begins above its bound, and ends at half of it."""
    seen = CheckpointState(look_at=9.0, looked_at=1.0, alarmed=alarmed_before).looked(size, 10.0)
    assert seen == CheckpointState(None if again_in is None else 10.0 + again_in, 10.0, alarmed)


def test_it_is_looked_at_soon_after_a_commit_and_never_without_one() -> None:
    """The first commit has it looked at at once, further ones LOOK_SECONDS after the last look, and once for all."""
    watch = CheckpointState()
    assert not watch.is_due(1e9)
    watch = watch.committed(100.0)
    assert watch.is_due(100.0)
    watch = watch.looked(0, 100.0).committed(100.1)
    assert watch.look_at == 100.0 + LOOK_SECONDS
    assert watch.committed(100.9) == watch
    assert watch.looked(0, 101.0).look_at is None


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that stands still."""
    return ManualClock()


@pytest.fixture
def alarms() -> list[ErrorDetail]:
    """Give the list of the alarms that have been raised."""
    return []


def look(keeper: Checkpointer, clock: ManualClock) -> None:
    """Have a commit happen, and the next look follow."""
    keeper.committed()
    assert keeper.look_at is not None
    clock.time = max(clock.time, keeper.look_at)
    keeper.tend()


def test_a_small_one_is_left_alone(clock: ManualClock, alarms: list[ErrorDetail]) -> None:
    """What commits leave behind by themselves costs nothing but a look."""
    owner = Owner()
    keeper = Checkpointer(owner, clock, alarms.append)
    owner.size = LARGE_BYTES
    look(keeper, clock)
    assert (owner.waits, alarms, keeper.look_at) == ([], [], None)


def test_a_large_one_is_emptied(clock: ManualClock, alarms: list[ErrorDetail]) -> None:
    """One attempt is enough where no reader is in the way, whatever its size: nobody need know."""
    owner = Owner()
    keeper = Checkpointer(owner, clock, alarms.append)
    owner.size = 10 * ALARM_BYTES
    look(keeper, clock)
    assert (owner.size, owner.waits, alarms, keeper.look_at) == (0, [WAIT_MS], [], None)


def test_nothing_is_done_before_it_is_due(clock: ManualClock, alarms: list[ErrorDetail]) -> None:
    """While a reader is in the way, attempts keep their distance, and no commit brings the next one forward."""
    owner = Owner()
    owner.size, owner.emptied_to = LARGE_BYTES + 1, None
    keeper = Checkpointer(owner, clock, alarms.append)
    look(keeper, clock)
    for _ in range(3):
        keeper.committed()
        keeper.tend()
    assert len(owner.waits) == 1
    clock.time += RETRY_SECONDS
    keeper.tend()
    assert len(owner.waits) == 2


def test_the_alarm_is_raised_once_for_each_reader_that_stays(clock: ManualClock, alarms: list[ErrorDetail]) -> None:
    """It goes off when the WAL passes the bound, and again only after it has been back under half of that."""
    owner = Owner()
    owner.emptied_to = None
    keeper = Checkpointer(owner, clock, alarms.append)
    for size in (ALARM_BYTES, ALARM_BYTES + 1, 3 * ALARM_BYTES, ALARM_BYTES, ALARM_BYTES + 1):
        owner.size = size
        look(keeper, clock)
    assert [alarm.kind for alarm in alarms] == ["wal"]
    owner.emptied_to = 0
    look(keeper, clock)
    owner.size, owner.emptied_to = 70 * MB, None
    look(keeper, clock)
    assert len(alarms) == 2
    assert "grown to 70MB" in alarms[1].message


def test_a_disk_that_refuses_is_tried_again(
    clock: ManualClock, alarms: list[ErrorDetail], caplog: pytest.LogCaptureFixture
) -> None:
    """The WAL may grow where the file it belongs to can't: that is said, and the next attempt empties it."""
    owner = Owner()
    owner.size, owner.emptied_to = LARGE_BYTES + 1, DiskError("the disk is full")
    keeper = Checkpointer(owner, clock, alarms.append)
    look(keeper, clock)
    assert "the WAL can't be emptied: the disk is full" in caplog.text
    owner.emptied_to = 0
    look(keeper, clock)
    assert (owner.size, len(owner.waits)) == (0, 2)


def test_a_real_reader_is_in_the_way_until_it_goes(
    tmp_path: Path, clock: ManualClock, alarms: list[ErrorDetail], monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite keeps what a read transaction may still need; once that has ended, the file of the WAL is empty."""
    monkeypatch.setattr("nerve.maintenance.checkpoints.LARGE_BYTES", 0)
    monkeypatch.setattr("nerve.maintenance.checkpoints.ALARM_BYTES", 100_000)
    monkeypatch.setattr("nerve.maintenance.checkpoints.WAIT_MS", 1)
    db = tmp_path / "logs.db"
    with closing(LogWriter.open(db)) as writer:
        keeper = Checkpointer(writer, clock, alarms.append)
        with closing(sqlite3.connect(f"file:{db}?mode=ro", uri=True, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT count(*) FROM logs").fetchone() == (0,)
            writer.append([event(payload="x" * 100_000)], {})
            look(keeper, clock)
            assert len(alarms) == 1
            assert writer.wal_bytes() > 100_000
        look(keeper, clock)
        assert writer.wal_bytes() == 0
    assert len(alarms) == 1
