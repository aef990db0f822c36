"""How the pool ends workers: those whose run is past its deadline, and all of them when the engine stops."""

from __future__ import annotations

import signal

from support.pool import GRACE, NOW, TIMEOUT, PoolRig, ok, recorded, with_code

from nerve.processes.messages import Finish
from nerve.processes.pool import TRACE_SECONDS

# Deadlines.


def test_a_worker_past_timeout_and_grace_period_is_asked_for_its_stack_and_then_killed(rig: PoolRig) -> None:
    """Not a moment earlier, and the loop knows each moment; the run ends as a timeout, with that stack."""
    _, child = rig.busy(recorded())
    deadline = NOW + TIMEOUT + GRACE
    assert rig.pool.next_deadline() == deadline
    rig.pool.enforce(deadline - 0.001)
    assert child.signals == []
    rig.pool.enforce(deadline)
    assert child.signals == [signal.SIGUSR2]
    assert rig.pool.next_deadline() == deadline + TRACE_SECONDS
    rig.pool.enforce(deadline + TRACE_SECONDS / 2)
    assert child.signals == [signal.SIGUSR2]
    rig.pool.enforce(deadline + TRACE_SECONDS)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    child.trace = "in compute"
    child.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(deadline + 1)
    assert (ended.result.status, ended.died) == ("timeout", True)
    assert ended.result.error
    assert (ended.result.error.kind, ended.result.error.traceback) == ("timeout", "in compute")
    assert "longer than its timeout of 30s" in ended.result.error.message


def test_a_killed_worker_that_still_exists_neither_spins_the_loop_nor_is_killed_again(rig: PoolRig) -> None:
    """A process can take its time to die; another one has its place meanwhile."""
    _, child = rig.busy(recorded())
    for late in range(60, 70):
        rig.pool.fill(NOW + late)
        rig.pool.enforce(NOW + late)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    assert rig.pool.next_deadline() is None
    assert len(rig.children) == 3


def test_a_result_just_before_the_kill_counts_and_the_dying_worker_gets_no_other_run(rig: PoolRig) -> None:
    """The messages that were in the link when it was killed are still handled."""
    run = recorded()
    worker, child = rig.busy(run)
    rig.pool.enforce(NOW + 60)
    rig.pool.enforce(NOW + 61)
    assert child.signals[-1] == signal.SIGKILL
    child.says(ok(run))
    assert [ended.result.status for ended in rig.pool.receive(worker, NOW)] == ["ok"]
    assert rig.free == 1
    child.ends(-signal.SIGKILL)
    assert rig.pool.reap(NOW + 61) == []
    rig.pool.fill(NOW + 61)
    assert len(rig.pool.workers) == 2


def test_a_result_before_the_kill_spares_the_worker(rig: PoolRig) -> None:
    """The stack that it wrote is dropped, so that it is not taken for that of a later run."""
    run = recorded()
    worker, child = rig.busy(run)
    rig.pool.enforce(NOW + 60)
    child.trace = "in compute"
    child.says(ok(run))
    assert len(rig.pool.receive(worker, NOW)) == 1
    rig.pool.enforce(NOW + 100)
    assert child.signals == [signal.SIGUSR2]
    rig.dispatch(recorded("a"), recorded("b"), now=NOW + 100)
    child.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(NOW + 101)
    assert ended.result.error
    assert (ended.result.status, ended.result.error.traceback) == ("died", None)


def test_each_run_has_its_own_deadline(rig: PoolRig) -> None:
    """The pool's next deadline is the earliest of them."""
    rig.busy(recorded("a"), now=NOW + 3)
    rig.busy(recorded("b"), now=NOW + 1)
    assert rig.pool.next_deadline() == NOW + 1 + TIMEOUT + GRACE
    rig.pool.enforce(NOW + 2 + TIMEOUT + GRACE)
    assert sorted(child.signals for child in rig.children) == [[], [signal.SIGUSR2]]


# The stop of the engine.


def test_workers_of_a_closed_pool_finish_once(rig: PoolRig) -> None:
    """Idle workers at once, busy ones after their result, and no new ones are forked; it may be closed twice."""
    run = recorded()
    worker, child = rig.busy(run)
    [idle] = [other for other in rig.children if other is not child]
    rig.pool.close(NOW)
    rig.pool.close(NOW)
    assert (idle.received, child.received) == ([Finish()], [with_code(run)])
    assert rig.free == 0
    child.says(ok(run))
    assert len(rig.pool.receive(worker, NOW)) == 1
    rig.pool.close(NOW)
    assert child.received == [with_code(run), Finish()]
    for each in rig.children:
        each.ends(0)
    assert rig.pool.reap(NOW) == []
    rig.pool.fill(NOW + 10)
    assert rig.pool.workers == {}
    assert rig.pool.next_deadline() is None


def test_a_pool_may_be_closed_before_it_was_filled() -> None:
    """It stays empty."""
    rig = PoolRig()
    rig.pool.close(NOW)
    rig.pool.fill(NOW)
    assert rig.children == []
    assert rig.pool.next_deadline() is None


def test_only_running_computes_are_interrupted(rig: PoolRig) -> None:
    """An idle worker has nothing to interrupt."""
    _, child = rig.busy(recorded())
    rig.pool.interrupt()
    assert [other.signals for other in rig.children if other is not child] == [[]]
    assert child.signals == [signal.SIGUSR1]


def test_the_runs_of_killed_workers_end_as_cancelled(rig: PoolRig) -> None:
    """They did not fail: the engine stops. Killing twice asks for the stack once."""
    _, child = rig.busy(recorded())
    [idle] = [other for other in rig.children if other is not child]
    rig.pool.close(NOW)
    rig.pool.kill(NOW)
    rig.pool.kill(NOW)
    assert child.signals == [signal.SIGUSR2]
    assert set(idle.signals) == {signal.SIGKILL}
    rig.pool.enforce(NOW + TRACE_SECONDS)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    for each in rig.children:
        each.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(NOW + 1)
    assert (ended.result.status, ended.result.error) == ("cancelled", None)
    assert rig.pool.workers == {}


def test_a_run_that_timed_out_stays_a_timeout_when_the_engine_stops(rig: PoolRig) -> None:
    """The first reason to kill its worker counts."""
    _, child = rig.busy(recorded())
    rig.pool.enforce(NOW + 60)
    rig.pool.kill(NOW + 60)
    child.ends(-signal.SIGKILL)
    assert [ended.result.status for ended in rig.pool.reap(NOW + 61)] == ["timeout"]
