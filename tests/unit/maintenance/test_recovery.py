"""What a dead engine has left is written once and in order, and what is not a lane harms nobody."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.clock import FakeClock
from support.eventqueue import event

from nerve.errors import DiskError
from nerve.eventqueue import Lane, Wakeup, lane_reader
from nerve.eventqueue.lane import pack
from nerve.eventqueue.lane_file import HEAD, TAIL, LaneFile, create_lane_file
from nerve.eventqueue.left_behind import LeftBehind, left_behind
from nerve.ids import uuid7_hex
from nerve.maintenance import recovery
from nerve.maintenance.recovery import recover
from nerve.store.filters import Filter
from nerve.store.table.reader import LogReader
from nerve.store.table.writer import LogWriter

EARLIER, LATER, NOW = "0" * 31 + "1", "0" * 31 + "2", "0" * 31 + "3"


class Dead:
    """An engine that has died with these events in its lanes."""

    def __init__(self, folder: Path, db: Path) -> None:
        self.folder = folder
        self.db = db
        self.wakeup = Wakeup()
        self.clock = FakeClock()

    def left(self, name: str, *moments: int, boot: str = EARLIER) -> Path:
        """Leave a lane with an event for each moment (monotonic ns)."""
        path = self.folder / f"{name}.lane"
        create_lane_file(path, name, boot, 16 * 1024)
        lane = Lane(path, self.wakeup)
        for moment in moments:
            assert lane.publish(pack([event(f"{name}@{moment}", moment)]))
        lane.close()
        return path

    def recover(self, boot: str | None = None) -> int:
        """Do what the writer of the next start does."""
        with closing(LogWriter.open(self.db)) as store:
            return recover(store, self.folder, self.clock, boot)

    def logged(self) -> list[str]:
        """The types of the entries, in order; of errors, their messages."""
        with LogReader(self.db) as reader:
            return [
                log.payload["message"] if log.type == "error" else log.type for log in reader.query(Filter(limit=None))
            ]

    def positions(self) -> list[str]:
        """The producers whose positions are remembered."""
        with closing(LogWriter.open(self.db)) as store:
            return store.producers()


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[Dead]:
    """An engine that has died, and left nothing yet."""
    folder = tmp_path / "lanes"
    folder.mkdir()
    made = Dead(folder, tmp_path / "logs.db")
    yield made
    made.wakeup.close()


def test_the_lanes_of_a_boot_are_merged_in_order_of_their_stamps(dead: Dead) -> None:
    """A run_start precedes what its run has logged, whichever lane is read first; nothing is left behind."""
    dead.left("a-worker", 2, 4, 6)
    dead.left("kernel", 1, 3, 5, 7)
    assert dead.recover() == 7
    assert [name.partition("@")[2] for name in dead.logged()] == list("1234567")
    assert list(dead.folder.iterdir()) == []
    assert dead.positions() == []


def test_boots_come_one_after_the_other_whatever_their_clocks_showed(dead: Dead) -> None:
    """The monotonic clock begins again with the machine; the id of a boot does not."""
    dead.left("worker-2", 1, 2, boot=LATER)
    dead.left("worker-1", 1000, 2000, boot=EARLIER)
    dead.recover()
    assert dead.logged() == ["worker-1@1000", "worker-1@2000", "worker-2@1", "worker-2@2"]


def test_the_lanes_of_the_engine_that_runs_are_left_alone(dead: Dead) -> None:
    """They have producers, and their writer."""
    dead.left("old", 1)
    path = dead.left("new", 2, boot=NOW)
    assert dead.recover(NOW) == 1
    assert list(dead.folder.iterdir()) == [path]


def test_what_is_committed_is_not_written_again(dead: Dead) -> None:
    """The log knows its positions, also where the acknowledgement was never stored."""
    path = dead.left("worker", 1, 2)
    file = LaneFile(path)
    with closing(LogWriter.open(dead.db)) as store:
        store.append([event("worker@1", 1), event("worker@2", 2)], {"worker": file.words[HEAD]})
    file.close()
    assert dead.recover() == 0
    assert dead.logged() == ["worker@1", "worker@2"]
    assert (dead.positions(), list(dead.folder.iterdir())) == ([], [])


@pytest.mark.parametrize("step", ["append", "forget", "remove"])
def test_a_recovery_that_is_killed_goes_on_the_next_time(
    dead: Dead, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before or after any of its steps."""
    dead.left("one", 1, 3)
    dead.left("two", 2, 4)

    for after in (False, True):
        target = recovery.EventReceiver if step == "remove" else LogWriter
        original: Callable[..., object] = getattr(target, step)

        def dies(*arguments: object, original: Callable[..., object] = original, after: bool = after) -> None:
            if after:
                original(*arguments)
            raise KeyboardInterrupt

        with monkeypatch.context() as patched:
            patched.setattr(target, step, dies)
            with pytest.raises(KeyboardInterrupt):
                dead.recover()
    dead.recover()
    assert [name.partition("@")[2] for name in dead.logged()] == list("1234")
    assert (dead.positions(), list(dead.folder.iterdir())) == ([], [])


def test_a_full_disk_leaves_everything_where_it_is(dead: Dead, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has started the engine is told; the next start tries again."""
    dead.left("worker", 1)

    def full(*_: object) -> None:
        raise DiskError("the disk is full")

    with monkeypatch.context() as patched:
        patched.setattr(LogWriter, "append", full)
        with pytest.raises(DiskError):
            dead.recover()
    assert left_behind(dead.folder).lanes == 1
    assert dead.recover() == 1


def test_what_makes_no_sense_is_reported_once_and_the_rest_is_written(
    dead: Dead, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corrupt lane gives its sound part, a damaged file is put aside."""
    monkeypatch.setattr(lane_reader, "REREAD_SECONDS", 0.0)
    dead.left("good", 5)
    corrupt = dead.left("corrupt", 1)
    file = LaneFile(corrupt)
    size, file.words[HEAD] = file.words[HEAD], file.words[HEAD] + 64
    file.close()
    os.truncate(dead.left("truncated", 2), 5000)
    (dead.folder / "text.lane").write_text("no lane at all")
    dead.recover()
    entries = dead.logged()
    assert {"good@5", "corrupt@1"} <= set(entries)
    errors = [entry for entry in entries if "@" not in entry]
    assert len(errors) == 3
    assert any(f"frame at {size}" in error and "64 bytes of events were not readable" in error for error in errors)
    assert sorted(path.name for path in dead.folder.iterdir()) == ["text.aside", "truncated.aside"]
    assert dead.recover() == 0
    assert dead.logged() == entries
    assert dead.positions() == []


def test_a_producer_that_is_about_to_be_killed_is_waited_for(dead: Dead, monkeypatch: pytest.MonkeyPatch) -> None:
    """The system ends it; what it publishes until then is written, too. One that stays is not waited for for ever."""
    path = dead.left("worker", 1)
    lane = Lane(path, dead.wakeup)
    looks: list[float] = []

    def dies_after_a_while(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            lane.close()

    monkeypatch.setattr(recovery.time, "sleep", dies_after_a_while)
    dead.recover()
    assert len(looks) == 3
    stays = Lane(dead.left("stays", 2), dead.wakeup)
    monkeypatch.setattr(recovery.time, "sleep", lambda _seconds: dead.clock.advance(0.5))
    dead.recover()
    assert dead.logged() == ["worker@1", "stays@2"]
    stays.close()


def test_positions_without_a_lane_are_forgotten(dead: Dead) -> None:
    """Those of an older version, and of lanes that a writer has removed just before it died."""
    with closing(LogWriter.open(dead.db)) as store:
        store.append([], {"worker-123/abc": 5})
    dead.left("running", 1, boot=NOW)
    with closing(LogWriter.open(dead.db)) as store:
        store.append([], {"running": 0})
    dead.recover(NOW)
    assert dead.positions() == ["running"]


def test_what_is_left_is_counted_without_touching_it(dead: Dead) -> None:
    """Lanes with nothing to write don't count, nor does what is not a lane."""
    assert left_behind(dead.folder).lanes == 0
    dead.left("empty")
    full = dead.left("full", 1, 2)
    (dead.folder / "text.lane").write_text("no lane")
    file = LaneFile(full)
    size = file.words[HEAD]
    assert left_behind(dead.folder) == LeftBehind(1, size)
    file.words[TAIL] = 8
    assert left_behind(dead.folder).bytes == size - 8
    file.close()
    assert len(list(dead.folder.iterdir())) == 3
    assert left_behind(dead.folder / "nowhere").lanes == 0


def test_a_lane_belongs_to_the_log_that_has_seen_it(
    dead: Dead, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another log, in the place of the first, does not get its events."""
    dead.left(f"worker-{uuid7_hex()}", 1)
    other = Dead(dead.folder, tmp_path / "other.db")
    with monkeypatch.context() as patched:
        patched.setattr(recovery, "remove_lanes", lambda *_: None)
        dead.recover()
    other.recover()
    [report] = other.logged()
    assert "another log" in report
    other.wakeup.close()
