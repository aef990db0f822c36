"""A new writer waits for the producers that its predecessor knew; whoever stays away is forgotten in the end."""

from __future__ import annotations

import os

import pytest
from support.eventqueue import event, names, tend
from support.writer import Stage, vanish

from nerve.eventqueue import Lane
from nerve.eventqueue.sender import RECONNECT_MS
from nerve.workers.writer import FIRST_COMMIT_SECONDS, LANE_MEMORY_SECONDS, PATIENCE_SECONDS


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
