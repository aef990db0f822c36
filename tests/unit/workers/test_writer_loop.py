"""The writer's loop over a log in memory: when it commits, when it sleeps, and that a bad disk loses nothing."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from support.eventqueue import Call, MemoryLog, event, listen, names, short_folder, tend
from support.waiting import wait_until

from nerve.clock import Clock, Stamp, SystemClock
from nerve.errors import DiskError, StoreError
from nerve.eventqueue import Conclude, Done, Lane, Purge, Vacuum
from nerve.eventqueue.sender import RECONNECT_MS
from nerve.events import ErrorDetail, LogEvent
from nerve.messages import ArchiveNow, Finish, FromChild, Report, WriterReport
from nerve.store import ArchiveRun
from nerve.upkeep import Stride
from nerve.wire import Channel
from workers import writer as writer_module
from workers.writer import (
    DISK_RETRY_SECONDS,
    FIRST_COMMIT_SECONDS,
    GROUP_SECONDS,
    LANE_MEMORY_SECONDS,
    MAX_GROUP_EVENTS,
    ORPHAN_SECONDS,
    PATIENCE_SECONDS,
    RATE_SECONDS,
    Rate,
    Writer,
    commit_due,
)

A_WHILE = 100.0
"""Longer than anything but a vanished producer is remembered, in seconds."""


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


class MemoryStore(MemoryLog):
    """A log in memory that does as it is told: fail, or delete so many rows at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.committed = 0
        self.failures = 0
        self.rows = 0
        self.free_pages = 0
        self.wal = 0
        self.done: list[str] = []
        self.before_append: Callable[[], object] = lambda: None

    def append(self, events: Sequence[LogEvent], positions: Mapping[str, int]) -> None:
        """Commit, unless the disk is full."""
        self.before_append()
        self._fail()
        super().append(events, positions)
        self.committed += len(events)

    def forget(self, producer: str) -> None:
        """Forget a producer, unless the disk is full."""
        self._fail()
        super().forget(producer)

    def producers(self) -> list[str]:
        """The producers with a position."""
        return list(self.positions)

    def purge_chunk(self, day: str, last_id: int, limit: int, open_runs: Sequence[str]) -> int:
        """Delete as many rows as there are, up to `limit`."""
        self._fail()
        deleted = min(limit, self.rows)
        self.rows -= deleted
        self.done.append(f"purge {deleted} of {day} up to {last_id}")
        return deleted

    def incremental_vacuum(self, pages: int) -> int:
        """Give up to so many pages back; tells how many went."""
        went = min(pages, self.free_pages)
        self.free_pages -= went
        self.done.append(f"{went} pages")
        return went

    def vacuum(self) -> None:
        """Rebuild the file, unless there is no room."""
        if self.failures:
            raise StoreError("no room for a second copy")
        self.done.append("vacuum")

    def note_archive_run(self, run: ArchiveRun) -> None:
        """Remember it."""
        self.done.append(f"noted {run.rows} rows in {run.files} files at {run.ts}")

    def checkpoint(self) -> bool:
        """Empty the WAL."""
        self.done.append("checkpoint")
        return True

    def wal_bytes(self) -> int:
        """The size of the WAL."""
        return self.wal

    def _fail(self) -> None:
        if self.failures:
            self.failures -= 1
            raise DiskError("the disk is full")


class Stage:
    """A writer on its own, with the test as its kernel: each turn is taken by hand, and never waits."""

    def __init__(self, folder: Path, clock: Clock, stack: ExitStack) -> None:
        self.clock: Any = clock
        self.store = MemoryStore()
        self.address = folder / "events"
        self._stack = stack
        self.listener = stack.enter_context(listen(self.address))
        ours, theirs = socket.socketpair()
        self.kernel: Channel[FromChild] = stack.enter_context(closing(Channel(ours, FromChild)))
        self.link = theirs
        self.timeouts: list[float | None] = []
        self.ready = 0
        self.writer = self.start()

    def start(self) -> Writer:
        """Begin as the writer's process does."""
        context: Any = SimpleNamespace(boot=SimpleNamespace(listener=self.listener))
        link: Any = self._stack.enter_context(closing(Channel(self.link, self._incoming())))
        store: Any = self.store
        writer = Writer(context, link, store, self.clock)
        self._stack.callback(writer._selector.close)
        self._stack.callback(writer._receiver.close)
        return writer

    def take_over_waiting(self) -> None:
        """Have `select` return at once, and note for how long it would have waited, and for how many it found ready."""
        select = self.writer._selector.select

        def at_once(timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
            self.timeouts.append(timeout)
            ready = select(0)
            self.ready = len(ready)
            return ready

        self.writer._selector.select = at_once  # type: ignore[method-assign]

    def lane(self, producer: str = "p") -> Lane:
        """A producer that has joined."""
        lane = self._stack.enter_context(closing(Lane(self.address, producer)))
        tend(lane)
        self.writer._receiver.drain()
        tend(lane)
        return lane

    def turns(self, count: int = 3) -> None:
        """Take a few turns without letting time pass."""
        for _ in range(count):
            self.writer._turn()

    def errors(self) -> list[ErrorDetail]:
        """The errors that the writer has recorded."""
        found = [event for event in self.store.events if (event.source, event.type) == ("system", "error")]
        assert all(event.ref_id == "writer" for event in found)
        return [msgspec.json.decode(event.payload, type=ErrorDetail) for event in found]

    @staticmethod
    def _incoming() -> object:
        return Finish | Report | ArchiveNow


@pytest.fixture
def stage() -> Iterator[Stage]:
    """A writer that has long been up, whose clock stands still."""
    with ExitStack() as stack:
        made = Stage(stack.enter_context(short_folder()), ManualClock(), stack)
        made.take_over_waiting()
        made.clock.time += A_WHILE
        yield made


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch, stage: Stage) -> list[Callable[[], object]]:
    """What happens between two attempts of the writer, pause by pause; each lets its time pass."""
    script: list[Callable[[], object]] = []

    def pause() -> None:
        stage.clock.time += DISK_RETRY_SECONDS
        if script:
            script.pop(0)()

    monkeypatch.setattr(stage.writer, "_pause", pause)
    return script


# Decisions.


@pytest.mark.parametrize(
    ("oldest", "last_commit", "waiting", "due"),
    [
        (100.0, 50.0, 1, 100.0),
        (100.0, 100.0 - GROUP_SECONDS, 1, 100.0),
        (100.0, 99.999, 1, 99.999 + GROUP_SECONDS),
        (100.0, 100.0, 1, 100.0 + GROUP_SECONDS),
        (100.0, 100.0, MAX_GROUP_EVENTS - 1, 100.0 + GROUP_SECONDS),
        (100.0, 100.0, MAX_GROUP_EVENTS, 100.0),
    ],
    ids=["after a pause", "after just the pause", "soon after a commit", "at a commit", "almost full", "a full group"],
)
def test_when_to_commit(oldest: float, last_commit: float, waiting: int, due: float) -> None:
    """At once after a pause or with a full group, and else with what comes in the next moments."""
    assert commit_due(oldest, last_commit, waiting) == due


def test_the_rate_is_that_of_the_last_seconds() -> None:
    """What was committed longer ago counts no more, and nothing is a rate of zero."""
    rate = Rate()
    assert rate.per_second(0) == 0
    rate.add(10, 100)
    rate.add(12, 400)
    assert rate.per_second(12) == 500 / RATE_SECONDS
    assert rate.per_second(10 + RATE_SECONDS) == 500 / RATE_SECONDS
    assert rate.per_second(11 + RATE_SECONDS) == 400 / RATE_SECONDS
    assert rate.per_second(13 + RATE_SECONDS) == 0


# Commits.


def test_after_a_pause_it_commits_at_once(stage: Stage) -> None:
    """An event is committed and acknowledged in the turn that reads it."""
    lane = stage.lane()
    lane.submit([event("a")])
    stage.turns(1)
    assert names(stage.store.events) == ["a"]
    lane.receive()
    assert lane.settled


def test_under_load_commits_carry_many(stage: Stage) -> None:
    """What comes just after a commit waits for the next one, and the writer sleeps until then."""
    lane = stage.lane()
    lane.submit([event("a")])
    stage.turns(1)
    for name in "bcd":
        lane.submit([event(name)])
        stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(GROUP_SECONDS)
    stage.clock.time += GROUP_SECONDS
    stage.turns(1)
    assert [names(commit) for commit in stage.store.commits] == [["a"], ["b", "c", "d"]]


def test_a_full_group_does_not_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long backlog each turn commits one group, the earliest first."""
    monkeypatch.setattr(writer_module, "MAX_GROUP_EVENTS", 2)
    lane = stage.lane()
    for n in range(7):
        lane.submit([event(str(n), n)])
    stage.turns(3)
    assert [names(commit) for commit in stage.store.commits] == [["0", "1"], ["2", "3"], ["4", "5"]]
    stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(GROUP_SECONDS)
    stage.clock.time += GROUP_SECONDS
    stage.turns(1)
    assert names(stage.store.events)[-1] == "6"


def test_a_new_writer_reads_before_it_commits(stage: Stage) -> None:
    """What its predecessor left unacknowledged has time to come back, and so to be in order."""
    writer = stage.start()
    assert RECONNECT_MS / 1000 < FIRST_COMMIT_SECONDS
    lane = stage.lane()
    stage.writer._receiver.close()
    lane.receive()
    tend(lane)
    lane.submit([event("a")])
    stage.writer = writer
    stage.take_over_waiting()
    stage.turns(3)
    tend(lane)
    stage.turns(3)
    assert stage.store.commits == []
    assert stage.timeouts[-1] == pytest.approx(FIRST_COMMIT_SECONDS)
    stage.clock.time += FIRST_COMMIT_SECONDS
    stage.turns(1)
    assert names(stage.store.events) == ["a"]


def successor_of_one_who_knew(stage: Stage, producer: str) -> None:
    """Have a new writer take over from one that had committed something of this producer."""
    stage.store.positions[producer] = 0
    stage.writer._receiver.close()
    stage.writer = stage.start()
    stage.take_over_waiting()
    stage.lane("other").submit([event("effect", mono=2)])


def test_a_new_writer_waits_until_those_who_live_are_back(stage: Stage) -> None:
    """What they hold may be the cause of what is there already: it is committed with it, and before it."""
    me = f"worker-{os.getpid()}/1"
    successor_of_one_who_knew(stage, me)
    for _ in range(6):
        stage.clock.time += FIRST_COMMIT_SECONDS / 2
        stage.turns(1)
    assert stage.store.commits == []
    stage.lane(me).submit([event("cause", mono=1)])
    stage.turns(1)
    stage.clock.time += FIRST_COMMIT_SECONDS
    stage.turns(2)
    assert names(stage.store.events) == ["cause", "effect"]


def test_a_new_writer_that_gets_no_time_waits_all_the_same(stage: Stage) -> None:
    """On a busy machine the whole pause may pass before it can look who is missing."""
    successor_of_one_who_knew(stage, f"worker-{os.getpid()}/1")
    for _ in range(3):
        stage.clock.time += 4 * FIRST_COMMIT_SECONDS
        stage.turns(1)
    assert stage.store.commits == []


def test_a_new_writer_does_not_wait_for_the_dead(stage: Stage) -> None:
    """A producer whose process is gone will not be back."""
    successor_of_one_who_knew(stage, "worker-2147483646/1")
    stage.turns(1)
    stage.clock.time += FIRST_COMMIT_SECONDS
    stage.turns(1)
    assert names(stage.store.events) == ["effect"]


def test_the_patience_of_a_new_writer_has_an_end(stage: Stage) -> None:
    """A producer that is stopped holds the others up for so long, and no longer."""
    successor_of_one_who_knew(stage, f"worker-{os.getpid()}/1")
    began = stage.clock.time
    while not stage.store.commits:
        stage.clock.time += FIRST_COMMIT_SECONDS / 2
        stage.turns(1)
        assert stage.clock.time - began <= PATIENCE_SECONDS + 2 * FIRST_COMMIT_SECONDS
    assert stage.clock.time - began >= PATIENCE_SECONDS


def test_nothing_is_acknowledged_before_it_is_committed(stage: Stage) -> None:
    """A producer that hears of a commit can rely on it."""
    lane = stage.lane()
    lane.submit([event("a")])
    seen: list[bool] = []
    stage.store.before_append = lambda: seen.append((lane.receive(), lane.settled)[1])
    stage.turns(1)
    lane.receive()
    assert seen == [False]
    assert lane.settled


def test_an_offence_is_an_entry_of_the_log(stage: Stage) -> None:
    """Who breaks the rules of the queue is recorded, though nobody sends anything else."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(stage.address))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stage.turns(3)
    assert [error.kind for error in stage.errors()] == ["wire"]


def vanish(lane: Lane) -> None:
    """End a producer without a goodbye."""
    assert lane._channel is not None
    lane._channel.close()


def commit_later(stage: Stage, lane: Lane, seconds: float) -> None:
    """Let time pass, and have a commit come."""
    stage.clock.time += seconds
    lane.submit([event("later")])
    stage.turns(1)


def test_a_vanished_producer_is_forgotten_in_the_end(stage: Stage) -> None:
    """Nobody who was killed keeps his place in the log for ever, and whoever is there keeps it however silent."""
    silent, killed, busy = stage.lane("silent"), stage.lane("killed"), stage.lane("busy")
    for lane in (silent, killed):
        lane.submit([event("a")])
    stage.turns(1)
    vanish(killed)
    stage.turns(1)
    commit_later(stage, busy, LANE_MEMORY_SECONDS - 1)
    assert stage.store.positions == {"silent": 1, "killed": 1, "busy": 1}
    commit_later(stage, busy, 1)
    assert stage.store.positions == {"silent": 1, "busy": 2}


def test_a_producer_that_came_back_is_not_forgotten(stage: Stage) -> None:
    """What counts is how long it has been away without a break."""
    first, busy = stage.lane("back"), stage.lane("busy")
    first.submit([event("a")])
    stage.turns(1)
    vanish(first)
    stage.turns(1)
    stage.lane("back")
    commit_later(stage, busy, LANE_MEMORY_SECONDS + 1)
    assert stage.store.positions == {"back": 1, "busy": 1}


def test_a_new_writer_forgets_who_never_comes_back(stage: Stage) -> None:
    """Whom an earlier writer knew is remembered for as long as anybody else who is away."""
    stage.store.positions = {"of an earlier writer": 7}
    stage.writer._receiver.close()
    stage.writer = stage.start()
    stage.take_over_waiting()
    busy = stage.lane("busy")
    commit_later(stage, busy, LANE_MEMORY_SECONDS - 1)
    assert stage.store.positions == {"of an earlier writer": 7, "busy": 1}
    commit_later(stage, busy, 1)
    assert stage.store.positions == {"busy": 2}


# A bad disk.


def test_producers_wait_for_a_full_disk(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """Nothing is acknowledged and nothing lost; afterwards one entry tells about it."""
    lane = stage.lane()
    lane.submit([event("a")])
    stage.store.failures = 3
    settled: list[bool] = []
    naps += [lambda: settled.append((lane.receive(), lane.settled)[1])] * 3
    stage.turns(1)
    assert settled == [False, False, False]
    assert names(stage.store.events) == ["a"]
    lane.receive()
    assert lane.settled
    stage.clock.time += GROUP_SECONDS
    stage.turns(5)
    stage.clock.time += A_WHILE
    stage.turns(5)
    (error,) = stage.errors()
    assert error.kind == "disk"
    assert f"for {3 * DISK_RETRY_SECONDS:.1f} s (the disk is full)" in error.message


def test_the_kernel_is_told_why_nothing_is_written(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """While the disk is full the writer still answers; afterwards there is no outage."""
    stage.lane().submit([event("a")])
    stage.store.failures = 2
    naps.append(lambda: stage.kernel.send(Report()))
    stage.turns(1)
    stage.kernel.send(Report())
    stage.turns(1)
    outages = [report.outage for report in stage.kernel.receive() if isinstance(report, WriterReport)]
    assert outages == ["the disk is full", None]


def test_finishing_gives_a_full_disk_up(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """Told to finish while it can't write, the writer says how much is lost, and what was wrong."""
    lane = stage.lane()
    lane.submit([event("a"), event("b")])
    stage.store.failures = 1_000_000
    naps += [lambda: None, lambda: [lane.submit([event("c")]), stage.kernel.send(Finish())]]
    with pytest.raises(StoreError, match=r"is lost .*\b3\b.*the disk is full"):
        stage.writer.run()
    assert not naps


def test_an_orphan_gives_a_full_disk_up(stage: Stage, naps: list[Callable[[], object]]) -> None:
    """When the kernel is gone the writer tries for a moment more, and ends in time."""
    stage.lane().submit([event("a")])
    stage.store.failures = 1_000_000
    naps.append(stage.kernel.close)
    began = stage.clock.time
    with pytest.raises(StoreError, match=r"is lost .*\b1\b"):
        stage.writer.run()
    assert stage.clock.time - began == pytest.approx(ORPHAN_SECONDS, abs=2.1 * DISK_RETRY_SECONDS)


def test_between_attempts_it_hears_the_kernel_at_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message ends the pause; an orphan has nobody to hear, and does not spin."""
    naps: list[float] = []
    monkeypatch.setattr(time, "sleep", naps.append)
    with monkeypatch.context() as patched:
        patched.setattr(writer_module, "DISK_RETRY_SECONDS", 3600)
        stage.kernel.send(Finish())
        stage.writer._pause()
    stage.kernel.close()
    stage.turns(2)
    stage.writer._pause()
    assert naps == [DISK_RETRY_SECONDS]


def test_a_goodbye_on_a_full_disk_does_no_harm(stage: Stage) -> None:
    """The position stays, which is of no importance."""
    lane = stage.lane()
    lane.submit([event("a")])
    stage.turns(1)
    lane.receive()
    stage.store.failures = 1
    lane.close()
    stage.turns(2)
    assert stage.store.positions == {"p": 1}
    stage.clock.time += GROUP_SECONDS
    other = stage.lane("other")
    other.submit([event("b")])
    stage.turns(1)
    assert names(stage.store.events) == ["a", "b"]


# The end.


def test_finishing_commits_whatever_was_sent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is in more than one group, was sent by the dead, or came by a connection that nobody has accepted."""
    monkeypatch.setattr(writer_module, "MAX_GROUP_EVENTS", 2)
    lane, dead = stage.lane("alive"), stage.lane("dead")
    for n in range(4):
        dead.submit([event(f"dead {n}")])
    vanish(dead)
    for n in range(5):
        lane.submit([event(f"alive {n}")])
    late = Lane(stage.address, "late")
    with closing(late):
        assert late.connect()
        stage.kernel.send(Finish())
        before = len(stage.timeouts)
        stage.writer.run()
        assert sorted(names(stage.store.events)) == [
            *(f"alive {n}" for n in range(5)),
            *(f"dead {n}" for n in range(4)),
        ]
        tend(lane)
        assert lane.settled
        assert len(stage.timeouts) - before <= 7  # one for each group, and two more to see that nothing came


def test_finishing_with_nothing_to_do_is_quick(stage: Stage) -> None:
    """An idle writer that is told to finish looks around once, and returns."""
    stage.lane()
    stage.kernel.send(Finish())
    stage.writer.run()
    assert len(stage.timeouts) == 1
    assert stage.store.commits == []


def test_an_orphan_ends_with_its_last_producer(stage: Stage) -> None:
    """When the kernel is gone the writer sleeps until the others are too, and commits their last words."""
    lane = stage.lane()
    stage.kernel.close()
    stage.turns(1)
    assert not stage.writer._finished()
    stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(ORPHAN_SECONDS)
    assert stage.ready == 0
    lane.submit([event("last words")])
    vanish(lane)
    stage.writer.run()
    assert names(stage.store.events) == ["last words"]


def test_an_orphan_does_not_wait_for_ever(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A producer that stays does not keep it; what had been read by then is committed, however much it is."""
    monkeypatch.setattr(writer_module, "MAX_GROUP_EVENTS", 2)
    lane = stage.lane()
    stage.kernel.close()
    stage.turns(2)
    for n in range(9):
        lane.submit([event(str(n))])
    stage.clock.time += ORPHAN_SECONDS
    stage.writer.run()
    assert names(stage.store.events) == [str(n) for n in range(9)]


def test_an_orphan_has_no_time_for_orders(stage: Stage) -> None:
    """An order whose sender died with the kernel is dropped, and does not hold up the end."""
    archiver = stage.lane("archiver")
    stage.store.rows = 10**9
    archiver.order(Purge(1, "2026-11-23", 10**9))
    stage.turns(2)
    vanish(archiver)
    stage.kernel.close()
    stage.writer.run()
    assert len(stage.store.done) <= 4


# Orders, and what the kernel wants.


def test_a_purge_goes_in_chunks_between_commits(stage: Stage) -> None:
    """It is answered with the number of rows, and holds nobody up meanwhile."""
    archiver, lane = stage.lane("archiver"), stage.lane()
    first, second = Stride().size, Stride().after(Stride().size, 0.0).size
    stage.store.rows = first + second + 5
    archiver.order(Purge(7, "2026-11-23", 99))
    stage.turns(1)
    lane.submit([event("a")])
    stage.turns(1)
    assert stage.store.done == [f"purge {n} of 2026-11-23 up to 99" for n in (first, second)]
    assert names(stage.store.events) == ["a"]
    assert archiver.receive() == []
    stage.turns(1)
    assert archiver.receive() == [Done(7, first + second + 5)]
    assert stage.timeouts[-1] == 0
    stage.turns(1)
    assert stage.timeouts[-1] != 0


def test_a_purge_ends_where_its_order_does(stage: Stage) -> None:
    """So that the archiver hears of it every so many rows."""
    archiver = stage.lane("archiver")
    stage.store.rows = 1000
    archiver.order(Purge(1, "2026-11-23", 99, most=Stride().size + 7))
    stage.turns(2)
    assert archiver.receive() == [Done(1, Stride().size + 7)]
    assert stage.store.rows == 1000 - Stride().size - 7


def test_a_purge_of_nothing_is_answered(stage: Stage) -> None:
    """There may be no row left of an order that is given twice."""
    archiver = stage.lane("archiver")
    archiver.order(Purge(1, "2026-11-23", 99))
    stage.turns(1)
    assert archiver.receive() == [Done(1, 0)]


def test_an_order_that_fails_is_answered_with_the_reason(stage: Stage) -> None:
    """The next order is carried out all the same."""
    archiver = stage.lane("archiver")
    stage.store.rows, stage.store.failures = 5, 1
    archiver.order(Purge(1, "2026-11-23", 99))
    archiver.order(Purge(2, "2026-11-23", 99))
    stage.turns(2)
    assert archiver.receive() == [Done(1, 0, "the disk is full"), Done(2, 5)]


def test_the_file_is_rebuilt_on_order(stage: Stage) -> None:
    """It is answered when that is done, or couldn't be."""
    archiver = stage.lane("archiver")
    archiver.order(Vacuum(2))
    stage.turns(1)
    assert archiver.receive() == [Done(2, 0)]
    assert stage.store.done == ["vacuum"]
    stage.store.failures = 1
    archiver.order(Vacuum(3))
    stage.turns(1)
    assert archiver.receive() == [Done(3, 0, "no room for a second copy")]


def test_unused_space_is_given_back_when_there_is_time(stage: Stage) -> None:
    """After a run of the archiver, in steps, none of them while events wait; then the writer sleeps again."""
    archiver, lane = stage.lane("archiver"), stage.lane()
    stage.store.free_pages = Stride().size + 1
    lane.submit([event("first")])
    archiver.order(Conclude(1, 5, 2, 30))
    stage.turns(1)
    assert archiver.receive() == [Done(1, 0)]
    lane.submit([event("second")])
    stage.turns(2)
    assert stage.store.done == ["noted 30 rows in 2 files at 5"]
    stage.clock.time += GROUP_SECONDS
    stage.turns(3)
    assert names(stage.store.events) == ["first", "second"]
    assert stage.store.done[1:] == [f"{Stride().size} pages", "1 pages", "0 pages"]
    stage.clock.time += A_WHILE
    stage.turns(2)
    assert stage.timeouts[-1] is None


def test_it_reports_how_it_is(stage: Stage) -> None:
    """The kernel is told what is committed, how fast, how late, and what waits."""
    lane = stage.lane()
    stamp = stage.clock.stamp().mono
    stage.clock.time += 0.5
    lane.submit([event("a", stamp), event("b", stamp)])
    stage.turns(1)
    lane.submit([event("c", stamp)])
    stage.store.wal = 4096
    stage.turns(1)
    stage.kernel.send(Report())
    stage.turns(1)
    (report,) = stage.kernel.receive()
    assert isinstance(report, WriterReport)
    assert (report.committed, report.queue_depth, report.wal_bytes) == (2, 1, 4096)
    assert report.events_per_s == pytest.approx(2 / RATE_SECONDS)
    assert report.lag_ms == pytest.approx(500)


def test_a_message_that_is_not_for_it_is_only_noted(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """The writer goes on."""
    stage.kernel.send(ArchiveNow(1.0, vacuum=False))
    stage.turns(1)
    assert "the kernel sent the writer a ArchiveNow" in caplog.text
    lane = stage.lane()
    lane.submit([event("a")])
    stage.turns(1)
    assert names(stage.store.events) == ["a"]


def test_an_idle_writer_sleeps(stage: Stage) -> None:
    """With nothing to do it waits for ever: not before the first event, and, but for a look at the WAL, not after."""
    lane = stage.lane()
    stage.turns(1)
    assert stage.timeouts == [None]
    lane.submit([event("a")])
    stage.turns(1)
    stage.clock.time += A_WHILE
    stage.turns(2)
    assert stage.timeouts[-1] is None


def test_it_serves_until_it_is_told_to_finish() -> None:
    """With real time and real waiting: events are committed as they come, and `run` returns after Finish."""
    with ExitStack() as stack:
        stage = Stage(stack.enter_context(short_folder()), SystemClock(), stack)
        run = Call(stage.writer.run)
        lane = stack.enter_context(closing(Lane(stage.address, "p")))
        for name in "abc":
            lane.submit([event(name)])
            wait_until(lambda: (tend(lane), lane.settled)[1], "it is committed")
        assert run.blocked
        stage.kernel.send(Finish())
        run.result()
        assert names(stage.store.events) == ["a", "b", "c"]
