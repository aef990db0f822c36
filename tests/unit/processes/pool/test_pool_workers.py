"""The number of workers: missing ones are forked, surplus ones and those over a limit exit between two runs."""

from __future__ import annotations

import signal

import pytest
from support.pool import NOW, PoolRig, recorded, with_code

from nerve.config.config import MAX_WORKERS
from nerve.processes.messages import Finish, Ready
from nerve.processes.pool import Limits

# Filling.


def test_a_pool_forks_and_watches_its_workers() -> None:
    """As many as its size, once; each is free after it has sent Ready."""
    rig = PoolRig(size=3)
    rig.pool.fill(NOW)
    rig.pool.fill(NOW)
    assert len(rig.children) == len(rig.pool.workers) == 3
    assert rig.watched == [child.pid for child in rig.children]
    assert rig.free == 0
    rig.children[1].says(Ready())
    for worker in rig.workers():
        assert rig.pool.receive(worker, NOW) == []
    assert (rig.free, [worker.state for worker in rig.workers()]) == (1, ["idle"] * 3)


def test_a_pool_that_can_not_fork_tries_again_later() -> None:
    """It never gives up, never tries again at once, and has a deadline for the next attempt."""
    rig = PoolRig()
    rig.can_fork = False
    now = NOW
    for _ in range(30):
        rig.pool.fill(now)
        assert rig.pool.workers == {}
        due = rig.pool.next_deadline()
        assert due is not None
        assert now <= due <= now + 2
        now = max(due, now + 0.01)
    rig.can_fork = True
    rig.pool.fill(now + 2)
    assert len(rig.pool.workers) == 2


def test_a_worker_that_dies_idle_is_replaced() -> None:
    """At once or a little later; no run has ended with it."""
    rig = PoolRig()
    rig.start()
    dead = rig.children[0]
    dead.ends(-signal.SIGKILL)
    assert rig.pool.reap(NOW) == []
    assert dead.closed
    assert dead.pid not in rig.pool.workers
    assert dead.pid in rig.forgotten
    due = rig.pool.next_deadline()
    assert due is not None
    rig.pool.fill(due)
    assert len(rig.pool.workers) == 2


def test_the_delay_grows_while_no_worker_gets_to_serve() -> None:
    """A worker that dies at its start must not cause a storm of forks; one that serves ends that."""
    rig = PoolRig(size=1)
    now, waits = NOW, []
    for _ in range(8):
        rig.pool.fill(now)
        rig.children[-1].ends(1)
        assert rig.pool.reap(now) == []
        due = rig.pool.next_deadline()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == sorted(waits)
    assert waits[-1] > waits[1] > 0
    rig.pool.fill(now)
    rig.children[-1].says(Ready())
    assert rig.pool.receive(rig.workers()[0], NOW) == []
    rig.children[-1].ends(0)
    assert rig.pool.reap(now) == []
    assert (rig.pool.next_deadline() or 0) - now < waits[-1]


# More workers, and fewer.


def test_a_larger_pool_forks_at_once(rig: PoolRig) -> None:
    """The next turn of the loop is due at once, and forks the missing workers."""
    rig.pool.resize(5, NOW)
    due = rig.pool.next_deadline()
    assert due is not None
    assert due <= NOW
    rig.start()
    assert (len(rig.children), rig.free, rig.pool.next_deadline()) == (5, 5, None)


def test_idle_workers_of_a_smaller_pool_finish_first() -> None:
    """They get Finish, no further run, and no successor; the busy one is left alone."""
    rig = PoolRig(size=4)
    rig.start()
    run = recorded()
    worker, child = rig.busy(run)
    rig.pool.resize(1, NOW)
    assert rig.serving() == [worker]
    assert child.received == [with_code(run)]
    idle = [other for other in rig.children if other is not child]
    assert [other.received for other in idle] == [[Finish()]] * 3
    assert (rig.free, worker.state) == (0, "busy")
    for other in idle:
        other.ends(0)
    assert rig.pool.reap(NOW) == []
    rig.pool.fill(NOW)
    assert list(rig.pool.workers.values()) == [worker]
    rig.complete(worker)
    assert (worker.state, rig.free) == ("idle", 1)


def test_surplus_busy_workers_finish_after_their_runs() -> None:
    """As many as are surplus, in the order in which their runs end; none is interrupted."""
    rig = PoolRig(size=3)
    rig.start()
    workers = [rig.busy(recorded("a", number))[0] for number in range(3)]
    rig.pool.resize(2, NOW)
    assert rig.serving() == workers
    rig.complete(workers[1])
    assert [worker.state for worker in workers] == ["busy", "stopping", "busy"]
    rig.complete(workers[0])
    assert [worker.state for worker in workers] == ["idle", "stopping", "busy"]
    assert [child.signals for child in rig.children] == [[], [], []]
    assert rig.children[1].received[-1] == Finish()
    assert [child.received.count(Finish()) for child in rig.children] == [0, 1, 0]


def test_a_pool_that_shrinks_and_grows_at_once_has_as_many_workers_as_asked_for(rig: PoolRig) -> None:
    """A worker that got Finish does finish, and another one takes its place."""
    rig.pool.resize(1, NOW)
    rig.pool.resize(3, NOW)
    rig.start()
    assert (len(rig.serving()), len(rig.workers()), rig.free) == (3, 4, 3)


def test_a_pool_grows_to_the_maximum_and_shrinks_to_one() -> None:
    """Every run that began meanwhile ends as it would have."""
    rig = PoolRig(size=1)
    rig.start()
    for size in (1, MAX_WORKERS, 1):
        rig.pool.resize(size, NOW)
        rig.start()
        assert len(rig.serving()) == max(size, len(rig.pool.busy))
        while rig.free:
            rig.busy(recorded("a", len(rig.pool.busy)))
    for worker in rig.pool.busy:
        rig.complete(worker)
    assert len(rig.serving()) == 1


def test_a_closed_pool_does_not_grow(rig: PoolRig) -> None:
    """Once the engine stops, no worker is forked, whatever the size."""
    rig.pool.close(NOW)
    rig.pool.resize(10, NOW)
    rig.pool.fill(NOW)
    assert (len(rig.children), rig.pool.next_deadline()) == (2, None)
    assert [child.received for child in rig.children] == [[Finish()]] * 2


# Limits.


@pytest.mark.parametrize(
    ("limits", "runs", "rss_bytes", "exceeded"),
    [
        (Limits(), 10**9, 10**12, False),
        (Limits(max_runs=3), 2, None, False),
        (Limits(max_runs=3), 3, None, True),
        (Limits(max_rss=100), 10**9, 100, False),
        (Limits(max_rss=100), 1, 101, True),
        (Limits(max_rss=100), 1, None, False),
        (Limits(max_runs=3, max_rss=100), 1, 101, True),
    ],
)
def test_a_worker_exceeds_a_limit_with_its_last_run_or_above_its_memory(
    limits: Limits, runs: int, rss_bytes: int | None, *, exceeded: bool
) -> None:
    """It does `max_runs` runs, and its memory may be `max_rss` bytes; without limits nothing is exceeded."""
    assert limits.exceeded(runs, rss_bytes) is exceeded


def test_a_worker_that_exceeds_a_limit_is_replaced_between_two_runs(rig: PoolRig) -> None:
    """After its last run it gets Finish, and its successor is forked without delay."""
    rig.pool.limits = Limits(max_runs=2, max_rss=1000)
    rig.pool.resize(1, NOW)
    [worker] = rig.serving()
    rig.busy(recorded())
    rig.complete(worker, 1000)
    assert (worker.state, worker.rss_bytes) == ("idle", 1000)
    rig.busy(recorded())
    rig.complete(worker, 5)
    assert (worker.state, rig.child_of(worker).received[-1]) == ("stopping", Finish())
    rig.start()
    [successor] = rig.serving()
    rig.busy(recorded())
    rig.complete(successor, 1001)
    assert successor.state == "stopping"
    assert rig.pool.next_deadline() is not None
    assert (rig.pool.next_deadline() or 0) <= NOW
