"""The writer ends last: told to finish, or left behind by its kernel, it commits whatever was sent."""

from __future__ import annotations

from contextlib import ExitStack, closing

import pytest
from support.eventqueue import Call, event, names, short_folder, tend
from support.waiting import wait_until
from support.writer import Stage, vanish

from nerve.clock import SystemClock
from nerve.eventqueue import Lane, Purge
from nerve.processes.messages import Finish
from nerve.workers import writer as writer_module
from nerve.workers.writer import ORPHAN_SECONDS


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
