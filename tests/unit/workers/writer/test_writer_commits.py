"""When the writer commits, with what, and when it sleeps."""

from __future__ import annotations

import socket

import pytest
from support.eventqueue import event, names
from support.writer import A_WHILE, Stage

from nerve.eventqueue import group_commit as grouping
from nerve.eventqueue.group_commit import GROUP_SECONDS, group_seconds
from nerve.workers import writer as writer_module
from nerve.workers.writer import RATE_SECONDS, Rate


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


def test_after_a_long_commit_more_is_gathered_for_the_next(stage: Stage) -> None:
    """Its pages are then written once for many rows."""
    lane = stage.lane()
    stage.store.before_append = lambda: setattr(stage.clock, "time", stage.clock.time + 0.008)
    for name in "abc":
        lane.submit([event(name)])
        stage.turns(1)
    assert stage.timeouts[-1] == pytest.approx(group_seconds(0.008))


def test_a_full_group_does_not_wait(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long backlog each turn commits one group, the earliest first."""
    monkeypatch.setattr(writer_module, "MAX_GROUP_EVENTS", 2)
    monkeypatch.setattr(grouping, "MAX_GROUP_EVENTS", 2)
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
