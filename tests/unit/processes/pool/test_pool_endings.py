"""How the pool ends what does not end by itself: runs past their deadline, and all of them when the engine stops."""

from __future__ import annotations

import signal

from support.pool import GRACE, NOW, TIMEOUT, Rig, ok, run_of

from nerve.processes.messages import Finish
from nerve.processes.pool import TRACE_SECONDS

# Deadlines.


def test_a_run_past_its_timeout_and_grace_is_asked_where_it_hangs_and_then_killed(rig: Rig) -> None:
    """Not a moment earlier; the run ends as a timeout with the trace, and the loop knows each moment beforehand."""
    run = run_of()
    _, child = rig.busy(run)
    deadline = NOW + TIMEOUT + GRACE
    assert rig.pool.next_moment() == deadline
    rig.pool.enforce(deadline - 0.001)
    assert child.signals == []
    rig.pool.enforce(deadline)
    assert child.signals == [signal.SIGUSR2]
    assert rig.pool.next_moment() == deadline + TRACE_SECONDS
    rig.pool.enforce(deadline + TRACE_SECONDS / 2)
    assert child.signals == [signal.SIGUSR2]
    rig.pool.enforce(deadline + TRACE_SECONDS)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    child.trace = "in compute"
    child.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(deadline + 1)
    assert (ended.outcome.status, ended.died) == ("timeout", True)
    assert ended.outcome.error
    assert (ended.outcome.error.kind, ended.outcome.error.traceback) == ("timeout", "in compute")
    assert "longer than its timeout of 30s" in ended.outcome.error.message


def test_a_killed_worker_that_is_not_gone_yet_neither_spins_the_loop_nor_is_killed_again(rig: Rig) -> None:
    """A process can take its time to die; another one has its place meanwhile."""
    _, child = rig.busy(run_of())
    for late in range(60, 70):
        rig.pool.fill(NOW + late)
        rig.pool.enforce(NOW + late)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    assert rig.pool.next_moment() is None
    assert len(rig.children) == 3


def test_an_outcome_just_before_the_kill_counts_and_the_dying_worker_gets_no_other_run(rig: Rig) -> None:
    """What was in the link when the kill was sent is heard first."""
    run = run_of()
    worker, child = rig.busy(run)
    rig.pool.enforce(NOW + 60)
    rig.pool.enforce(NOW + 61)
    assert child.signals[-1] == signal.SIGKILL
    child.says(ok(run))
    assert [ended.outcome.status for ended in rig.pool.hear(worker, NOW)] == ["ok"]
    assert rig.pool.free == 1
    child.ends(-signal.SIGKILL)
    assert list(rig.pool.reap(NOW + 61)) == []
    rig.pool.fill(NOW + 61)
    assert len(rig.pool.workers) == 2


def test_an_outcome_between_question_and_kill_spares_the_worker(rig: Rig) -> None:
    """It has come back after all: what it wrote about where it hung is not mistaken for a later run's."""
    run = run_of()
    worker, child = rig.busy(run)
    rig.pool.enforce(NOW + 60)
    child.trace = "where it hung"
    child.says(ok(run))
    assert len(list(rig.pool.hear(worker, NOW))) == 1
    rig.pool.enforce(NOW + 100)
    assert child.signals == [signal.SIGUSR2]
    rig.dispatch(run_of(), now=NOW + 100)
    rig.dispatch(run_of(), now=NOW + 100)
    child.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(NOW + 101)
    assert ended.outcome.error
    assert (ended.outcome.status, ended.outcome.error.traceback) == ("died", None)


def test_each_deadline_is_its_run_s(rig: Rig) -> None:
    """The next moment is the earliest of them."""
    rig.busy(run_of("a"), now=NOW + 3)
    rig.busy(run_of("b"), now=NOW + 1)
    assert rig.pool.next_moment() == NOW + 1 + TIMEOUT + GRACE
    rig.pool.enforce(NOW + 2 + TIMEOUT + GRACE)
    assert sorted(child.signals for child in rig.children) == [[], [signal.SIGUSR2]]


# The end.


def test_closing_lets_everybody_finish_once(rig: Rig) -> None:
    """Idle workers are told at once, busy ones with their outcome, and no new ones are forked; it may be done twice."""
    run = run_of()
    worker, child = rig.busy(run)
    [idle] = [other for other in rig.children if other is not child]
    rig.pool.close(NOW)
    rig.pool.close(NOW)
    assert (idle.told, child.told) == ([Finish()], [run])
    assert rig.pool.free == 0
    child.says(ok(run))
    assert len(list(rig.pool.hear(worker, NOW))) == 1
    rig.pool.close(NOW)
    assert child.told == [run, Finish()]
    for each in rig.children:
        each.ends(0)
    assert list(rig.pool.reap(NOW)) == []
    rig.pool.fill(NOW + 10)
    assert rig.pool.workers == {}
    assert rig.pool.next_moment() is None


def test_a_pool_may_be_closed_before_it_was_filled() -> None:
    """Then it stays empty."""
    rig = Rig()
    rig.pool.close(NOW)
    rig.pool.fill(NOW)
    assert rig.children == []
    assert rig.pool.next_moment() is None


def test_only_running_computes_are_interrupted(rig: Rig) -> None:
    """An idle worker has nothing to interrupt."""
    _, child = rig.busy(run_of())
    rig.pool.interrupt()
    assert [other.signals for other in rig.children if other is not child] == [[]]
    assert child.signals == [signal.SIGUSR1]


def test_what_is_condemned_ends_as_cancelled(rig: Rig) -> None:
    """The engine stops: whoever still runs is killed, that is nobody's failure, and being told twice is fine."""
    run = run_of()
    _, child = rig.busy(run)
    [idle] = [other for other in rig.children if other is not child]
    rig.pool.close(NOW)
    rig.pool.condemn(NOW)
    rig.pool.condemn(NOW)
    assert child.signals == [signal.SIGUSR2]
    assert set(idle.signals) == {signal.SIGKILL}
    rig.pool.enforce(NOW + TRACE_SECONDS)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]
    for each in rig.children:
        each.ends(-signal.SIGKILL)
    [ended] = rig.pool.reap(NOW + 1)
    assert (ended.outcome.status, ended.outcome.error) == ("cancelled", None)
    assert rig.pool.workers == {}


def test_a_run_that_is_already_late_stays_a_timeout_when_the_engine_stops(rig: Rig) -> None:
    """The first reason is the reason."""
    _, child = rig.busy(run_of())
    rig.pool.enforce(NOW + 60)
    rig.pool.condemn(NOW + 60)
    child.ends(-signal.SIGKILL)
    assert [ended.outcome.status for ended in rig.pool.reap(NOW + 61)] == ["timeout"]
