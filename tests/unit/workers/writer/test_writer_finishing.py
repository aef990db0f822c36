"""The writer ends last: told to finish, or left behind by its kernel, it commits whatever is published."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from support.eventqueue import Call, event, names, short_folder
from support.waiting import wait_until
from support.writer import Stage

from nerve.clock import SystemClock
from nerve.processes.messages import Finish
from nerve.store.archive.order_messages import Purge
from nerve.workers import writer as writer_module
from nerve.workers.writer import ORPHAN_LOOK_SECONDS, ORPHAN_SECONDS


def test_finishing_commits_whatever_is_published(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what is in more than one group, or was left by the dead; no lane and no position remains."""
    monkeypatch.setattr(writer_module, "MAX_GROUP_EVENTS", 2)
    alive, dead = stage.producer("alive"), stage.producer("dead")
    for n in range(4):
        dead.publish(event(f"dead {n}"))
    dead.die()
    for n in range(5):
        alive.publish(event(f"alive {n}"))
    stage.kernel.send(Finish())
    stage.writer.run()
    assert sorted(names(stage.store.events)) == [*(f"alive {n}" for n in range(5)), *(f"dead {n}" for n in range(4))]
    assert alive.lane.settled
    assert list(stage.folder.iterdir()) == []
    assert stage.store.positions == {}


def test_finishing_with_nothing_to_do_is_quick(stage: Stage) -> None:
    """An idle writer that is told to finish looks around once, and returns."""
    stage.producer()
    stage.turns(1)
    stage.timeouts.clear()
    stage.kernel.send(Finish())
    stage.writer.run()
    assert len(stage.timeouts) <= 2
    assert stage.store.commits == []


def test_an_orphan_ends_with_its_last_producer(stage: Stage) -> None:
    """When the kernel is gone, the writer stays until the other producers are too, and commits their last words."""
    producer = stage.producer()
    stage.turns(1)
    stage.kernel.close()
    stage.turns(1)
    assert not stage.writer._finished()
    stage.turns(3)
    assert stage.timeouts[-1] == pytest.approx(ORPHAN_LOOK_SECONDS)
    producer.publish(event("last words"))
    producer.die()
    stage.writer.run()
    assert names(stage.store.events) == ["last words"]
    assert list(stage.folder.iterdir()) == []


def test_an_orphan_does_not_wait_for_ever(stage: Stage) -> None:
    """A producer that stays does not keep it; what is not committed by then stays in its lane for the next start."""
    producer = stage.producer()
    stage.turns(1)
    stage.kernel.close()
    stage.turns(2)
    producer.publish(event("early"))
    stage.turns(2)
    producer.publish(event("late"))
    stage.clock.time += ORPHAN_SECONDS
    stage.writer.run()
    assert names(stage.store.events) == ["early"]
    assert not producer.lane.settled
    assert [path.name for path in stage.folder.iterdir()] == ["p.lane"]


def test_an_orphan_has_no_time_for_orders(stage: Stage) -> None:
    """An order whose sender died with the kernel is dropped, and does not hold up the end."""
    archiver = stage.archiver()
    stage.store.rows = 10**9
    archiver.send(Purge(1, "2026-11-23", 10**9))
    stage.turns(2)
    archiver.close()
    stage.kernel.close()
    stage.writer.run()
    assert len(stage.store.done) <= 5


def test_it_serves_until_it_is_told_to_finish() -> None:
    """With real time and real waiting: events are committed as they come, and `run` returns after Finish."""
    with ExitStack() as stack:
        stage = Stage(stack.enter_context(short_folder()), SystemClock(), stack)
        run = Call(stage.writer.run)
        producer = stage.producer()
        for name in "abc":
            producer.publish(event(name))
            wait_until(lambda: producer.lane.settled, "it is committed")
        assert run.blocked
        stage.kernel.send(Finish())
        run.result()
        assert names(stage.store.events) == ["a", "b", "c"]
