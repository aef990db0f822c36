"""How many workers a pool has: what is missing is forked, what is too many or worn ends between two runs."""

from __future__ import annotations

import signal

import pytest
from support.pool import NOW, Rig, run_of

from nerve.config.config import MAX_WORKERS
from nerve.processes.messages import Finish, Ready
from nerve.processes.pool import Limits

# Filling.


def test_a_pool_forks_what_is_missing_and_watches_it() -> None:
    """As many workers as its size, once; each is free from when it says that it is ready."""
    rig = Rig(size=3)
    rig.pool.fill(NOW)
    rig.pool.fill(NOW)
    assert len(rig.children) == len(rig.pool.workers) == 3
    assert rig.watched == [child.pid for child in rig.children]
    assert rig.pool.free == 0
    rig.children[1].says(Ready())
    for worker in rig.workers():
        assert list(rig.pool.hear(worker, NOW)) == []
    assert (rig.pool.free, [worker.state for worker in rig.workers()]) == (1, ["idle"] * 3)


def test_a_pool_that_can_not_fork_tries_again_later() -> None:
    """It never gives up, never asks at once, and says when it will try."""
    rig = Rig()
    rig.can_fork = False
    now = NOW
    for _ in range(30):
        rig.pool.fill(now)
        assert rig.pool.workers == {}
        due = rig.pool.next_moment()
        assert due is not None
        assert now <= due <= now + 2
        now = max(due, now + 0.01)
    rig.can_fork = True
    rig.pool.fill(now + 2)
    assert len(rig.pool.workers) == 2


def test_a_worker_that_dies_idle_is_replaced() -> None:
    """At once or a little later; nothing has ended with it."""
    rig = Rig()
    rig.start()
    dead = rig.children[0]
    dead.ends(-signal.SIGKILL)
    assert list(rig.pool.reap(NOW)) == []
    assert dead.closed
    assert dead.pid not in rig.pool.workers
    assert dead.pid in rig.forgotten
    due = rig.pool.next_moment()
    assert due is not None
    rig.pool.fill(due)
    assert len(rig.pool.workers) == 2


def test_workers_that_never_come_to_serve_are_forked_more_and_more_slowly() -> None:
    """A worker that breaks at its start must not make for a storm of forks."""
    rig = Rig(size=1)
    now, waits = NOW, []
    for _ in range(8):
        rig.pool.fill(now)
        rig.children[-1].ends(1)
        assert list(rig.pool.reap(now)) == []
        due = rig.pool.next_moment()
        assert due is not None
        waits.append(due - now)
        now = due
    assert waits == sorted(waits)
    assert waits[-1] > waits[1] > 0
    rig.pool.fill(now)
    rig.children[-1].says(Ready())
    assert list(rig.pool.hear(rig.workers()[0], NOW)) == []
    rig.children[-1].ends(0)
    assert list(rig.pool.reap(now)) == []
    assert (rig.pool.next_moment() or 0) - now < waits[-1]


# More workers, and fewer.


def test_a_larger_pool_forks_at_once(rig: Rig) -> None:
    """The next turn of the loop is due at once, and it forks what is missing."""
    rig.pool.resize(5, NOW)
    due = rig.pool.next_moment()
    assert due is not None
    assert due <= NOW
    rig.start()
    assert (len(rig.children), rig.pool.free, rig.pool.next_moment()) == (5, 5, None)


def test_a_smaller_pool_gives_up_the_idle_ones_first() -> None:
    """They are told to finish, get no run from then on, and are not replaced; who is busy is left alone."""
    rig = Rig(size=4)
    rig.start()
    run = run_of()
    worker, child = rig.busy(run)
    rig.pool.resize(1, NOW)
    assert rig.serving() == [worker]
    assert child.told == [run]
    idle = [other for other in rig.children if other is not child]
    assert [other.told for other in idle] == [[Finish()]] * 3
    assert (rig.pool.free, worker.state) == (0, "busy")
    for other in idle:
        other.ends(0)
    assert list(rig.pool.reap(NOW)) == []
    rig.pool.fill(NOW)
    assert list(rig.pool.workers.values()) == [worker]
    rig.complete(worker)
    assert (worker.state, rig.pool.free) == ("idle", 1)


def test_a_busy_worker_too_many_finishes_after_its_run() -> None:
    """As many as it takes, in the order in which they end; nobody is interrupted."""
    rig = Rig(size=3)
    rig.start()
    workers = [rig.busy(run_of("a", number))[0] for number in range(3)]
    rig.pool.resize(2, NOW)
    assert rig.serving() == workers
    rig.complete(workers[1])
    assert [worker.state for worker in workers] == ["busy", "stopping", "busy"]
    rig.complete(workers[0])
    assert [worker.state for worker in workers] == ["idle", "stopping", "busy"]
    assert [child.signals for child in rig.children] == [[], [], []]
    assert rig.children[1].told[-1] == Finish()
    assert [child.told.count(Finish()) for child in rig.children] == [0, 1, 0]


def test_a_pool_that_shrinks_and_grows_again_before_anybody_has_ended(rig: Rig) -> None:
    """Who was told to finish does; others come in their places, so that there are as many as were asked for."""
    rig.pool.resize(1, NOW)
    rig.pool.resize(3, NOW)
    rig.start()
    assert (len(rig.serving()), len(rig.workers()), rig.pool.free) == (3, 4, 3)


def test_from_one_worker_to_as_many_as_there_can_be_and_back() -> None:
    """Every run that was begun on the way ends as it would have."""
    rig = Rig(size=1)
    rig.start()
    for size in (1, MAX_WORKERS, 1):
        rig.pool.resize(size, NOW)
        rig.start()
        assert len(rig.serving()) == max(size, len(rig.pool.busy))
        while rig.pool.free:
            rig.busy(run_of("a", len(rig.pool.busy)))
    for worker in rig.pool.busy:
        rig.complete(worker)
    assert len(rig.serving()) == 1


def test_a_closed_pool_does_not_grow(rig: Rig) -> None:
    """The engine stops: whoever asks for more workers then gets none."""
    rig.pool.close(NOW)
    rig.pool.resize(10, NOW)
    rig.pool.fill(NOW)
    assert (len(rig.children), rig.pool.next_moment()) == (2, None)
    assert [child.told for child in rig.children] == [[Finish()]] * 2


# Recycling.


@pytest.mark.parametrize(
    ("limits", "runs", "rss_bytes", "worn"),
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
def test_a_worker_is_worn_when_it_is_over_a_limit(
    limits: Limits, runs: int, rss_bytes: int | None, *, worn: bool
) -> None:
    """Its runs up to `max_runs`, its memory up to and with `max_rss`; without limits it lasts for ever."""
    assert limits.worn(runs, rss_bytes) is worn


def test_a_worn_worker_is_replaced_between_two_runs(rig: Rig) -> None:
    """After its last run it is told to finish, and its successor is forked without delay."""
    rig.pool.limits = Limits(max_runs=2, max_rss=1000)
    rig.pool.resize(1, NOW)
    [worker] = rig.serving()
    rig.busy(run_of())
    rig.complete(worker, 1000)
    assert (worker.state, worker.rss_bytes) == ("idle", 1000)
    rig.busy(run_of())
    rig.complete(worker, 5)
    assert (worker.state, rig.child_of(worker).told[-1]) == ("stopping", Finish())
    rig.start()
    [successor] = rig.serving()
    rig.busy(run_of())
    rig.complete(successor, 1001)
    assert successor.state == "stopping"
    assert rig.pool.next_moment() is not None
    assert (rig.pool.next_moment() or 0) <= NOW
