"""When the writer commits, with what, and when it sleeps."""

from __future__ import annotations

import select
import socket

import pytest
from support.eventqueue import event, names
from support.writer import A_WHILE, Stage

from nerve.eventqueue.group_commit import GROUP_SECONDS, group_seconds
from nerve.processes.messages import Committed
from nerve.workers import writer as writer_module
from nerve.workers.writer import SECOND_LOOK_SECONDS


def test_after_a_pause_it_commits_at_once(stage: Stage) -> None:
    """An event is committed and acknowledged in the turn that reads it."""
    producer = stage.producer()
    producer.publish(event("a"))
    stage.turns(1)
    assert names(stage.store.events) == ["a"]
    assert producer.lane.settled


def test_under_load_commits_carry_many(stage: Stage) -> None:
    """What comes just after a commit waits for the next one, and the writer sleeps until then."""
    producer = stage.producer()
    producer.publish(event("a"))
    stage.turns(1)
    for name in "bcd":
        producer.publish(event(name))
        stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(GROUP_SECONDS)
    stage.clock.time += GROUP_SECONDS
    stage.turns(1)
    assert [names(commit) for commit in stage.store.commits] == [["a"], ["b", "c", "d"]]


def test_after_a_long_commit_more_is_gathered_for_the_next(stage: Stage) -> None:
    """Its pages are then written once for many rows."""
    producer = stage.producer()
    stage.store.before_append = lambda: setattr(stage.clock, "time", stage.clock.time + 0.008)
    for name in "abc":
        producer.publish(event(name))
        stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(group_seconds(0.008))


def test_a_lane_that_is_half_full_does_not_wait(stage: Stage) -> None:
    """Its producer would have to."""
    producer = stage.producer()
    producer.publish(event("a"))
    stage.turns(1)
    producer.publish(event("b"))
    stage.turns(1)
    producer.publish(event("c", payload="x" * 30_000))
    stage.turns(1)
    producer.publish(event("d", payload="x" * 30_000))
    stage.turns(1)
    assert [names(commit) for commit in stage.store.commits] == [["a"], ["b", "c", "d"]]


def test_a_full_group_does_not_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long backlog each turn commits one group, the earliest first, until less than a group is left."""
    monkeypatch.setattr(writer_module, "MAX_GROUP_EVENTS", 2)
    producer = stage.producer()
    for n in range(7):
        producer.publish(event(str(n), n))
    stage.turns(3)
    assert [names(commit) for commit in stage.store.commits] == [["0", "1"], ["2", "3"], ["4", "5"]]
    stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(GROUP_SECONDS)
    stage.clock.time += GROUP_SECONDS
    stage.turns(1)
    assert names(stage.store.events)[-1] == "6"


def test_nothing_is_acknowledged_before_it_is_committed(stage: Stage) -> None:
    """A producer whose lane is settled can rely on it."""
    producer = stage.producer()
    producer.publish(event("a"))
    seen: list[bool] = []
    stage.store.before_append = lambda: seen.append(producer.lane.settled)
    stage.turns(1)
    assert seen == [False]
    assert producer.lane.settled


def test_the_kernel_is_told_of_a_commit_that_it_waits_for(stage: Stage) -> None:
    """And of no other: an engine at rest hears nothing."""
    kernel = stage.producer("kernel")
    kernel.publish(event("a"))
    stage.turns(1)
    assert stage.told() == []
    kernel.publish(event("b"))
    kernel.lane.notify_at(kernel.lane.head)
    stage.clock.time += A_WHILE
    stage.turns(2)
    assert stage.told() == [Committed()]


def test_a_lane_is_known_before_what_it_caused_is_taken(stage: Stage) -> None:
    """The kernel names a lane before it forks its producer: what that has caused must not be taken without it."""
    first = stage.producer("first")
    first.publish(event("before"))
    stage.turns(1)
    stage.clock.time += A_WHILE
    cause = stage.producer("cause")

    def late() -> None:
        cause.publish(event("cause", stage.clock.stamp().mono))
        first.publish(event("effect", stage.clock.stamp().mono))

    look = stage.writer._receiver.wake_on_publish
    stage.writer._receiver.wake_on_publish = lambda: (look(), late())[0]  # type: ignore[method-assign]
    stage.writer._selector.unregister(stage.link)  # as if it had come just after the descriptors were looked at
    stage.turns(1)
    assert sorted(names(stage.store.events)) == ["before", "cause", "effect"]
    stage.writer._selector.register(stage.link, 1, stage.writer._receive)


def test_an_offence_is_an_entry_of_the_log(stage: Stage) -> None:
    """Who breaks the rules of the socket is recorded, though nobody sends anything else."""
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(stage.workspace.event_socket))
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
        stage.turns(3)
    assert [error.kind for error in stage.errors()] == ["wire"]


def test_an_idle_writer_looks_once_more_and_sleeps(stage: Stage) -> None:
    """With nothing to do it waits for ever, until somebody publishes."""
    producer = stage.producer()
    stage.turns(3)
    assert stage.timeouts == [SECOND_LOOK_SECONDS, None, None]
    producer.publish(event("a"))
    assert select.select([stage.wakeup], [], [], 0)[0]
    stage.turns(1)
    assert names(stage.store.events) == ["a"]
    assert not select.select([stage.wakeup], [], [], 0)[0]
    stage.clock.time += A_WHILE
    stage.turns(3)
    assert stage.timeouts[-1] is None


def test_what_is_published_while_it_falls_asleep_is_seen(stage: Stage) -> None:
    """Also by a producer that did not yet see that it has to ring."""
    producer = stage.producer()
    stage.turns(3)
    look = stage.writer._receiver.wake_on_publish

    def publish_unheard() -> None:
        look()
        producer.publish(event("a"))
        stage.wakeup.clear()

    stage.writer._receiver.wake_on_publish = publish_unheard  # type: ignore[method-assign]
    stage.turns(1)
    assert stage.timeouts[-1] == 0.0
    assert names(stage.store.events) == ["a"]
