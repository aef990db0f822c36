"""Runs that are handed out ahead: behind quick ones only, in their order, and taken back when it takes too long."""

from __future__ import annotations

import signal
from collections import deque

import pytest
from support.children import FakeChild
from support.pool import GRACE, NOW, TIMEOUT, Rig, ok, run_of, version_of

from nerve.processes.messages import Finish, Run, RunResult
from nerve.processes.pool import TRACE_SECONDS, Limits
from nerve.processes.worker_handle import WorkerHandle
from nerve.scheduling.slots import PREFETCH_RUNS, STALL_SECONDS

STALLED = NOW + STALL_SECONDS


def quick(sense: str) -> bool:
    """Take every sense for a quick one."""
    return True


@pytest.fixture
def one() -> Rig:
    """Give a pool of one worker, which is idle."""
    rig = Rig(size=1)
    rig.start()
    return rig


def given(rig: Rig, count: int) -> tuple[WorkerHandle, FakeChild, list[Run]]:
    """Give the one worker so many quick runs at once."""
    runs = [run_of("a", number) for number in range(count)]
    assert rig.dispatch(*runs, quick=True) == []
    [worker] = rig.workers()
    return worker, rig.child_of(worker), runs


def test_what_comes_behind_is_put_there_before_the_worker_is_woken_up(one: Rig) -> None:
    """It begins with the first, which comes by its link, and finds the others."""
    worker, child, runs = given(one, 3)
    assert [run.run_id for run in child.prefetch.waiting] == ["a/1", "a/2"]
    assert [run.after for run in child.prefetch.waiting] == [1, 1]
    assert child.told == runs[:1]
    assert worker.open_run
    assert (worker.open_run.run, list(worker.ahead), worker.runs) == (runs[0], runs[1:], 1)


def test_a_single_run_goes_by_the_link(one: Rig) -> None:
    """As it would without any of this."""
    _, child, [run] = given(one, 1)
    assert (child.told, child.prefetch.put_there) == ([run], [])


def test_the_next_run_begins_when_the_one_before_has_ended(one: Rig) -> None:
    """From then on its deadline counts, and its outcome is awaited."""
    worker, child, runs = given(one, 2)
    child.says(ok(runs[0]), ok(runs[1]))
    assert [ended.open_run.started for ended in one.pool.hear(worker, NOW + 1)] == [NOW, NOW + 1]
    assert (worker.state, worker.runs) == ("idle", 2)


def test_nobody_gets_more_than_there_is_room_for(one: Rig) -> None:
    """What is left waits in the kernel, until a run has ended."""
    runs = [run_of("a", number) for number in range(PREFETCH_RUNS + 3)]
    left = one.dispatch(*runs, quick=True)
    assert left == runs[-2:]
    [worker] = one.workers()
    child = one.child_of(worker)
    child.says(ok(runs[0]))
    assert len(list(one.pool.hear(worker, NOW))) == 1
    child.prefetch.take()
    assert one.dispatch(*left, quick=True) == left[1:]
    assert child.told == runs[:1]
    assert child.prefetch.put_there[-1].run_id == left[0].run_id


def test_places_are_those_that_dispatch_fills(rig: Rig) -> None:
    """Two idle workers have room for as many as they begin with, and as many as wait behind these."""
    places, runs = rig.pool.places(quick), []
    while places.claim("a"):
        runs.append(run_of("a", len(runs)))
    assert len(runs) == 2 + 2 * PREFETCH_RUNS
    assert rig.dispatch(*runs, quick=True) == []
    assert not rig.pool.places(quick).claim("a")
    assert [len(worker.ahead) for worker in rig.workers()] == [PREFETCH_RUNS] * 2


def test_nothing_waits_behind_a_slow_run(one: Rig) -> None:
    """However quick it is itself."""
    one.dispatch(run_of("slow"), quick=False)
    assert not one.pool.places(quick).claim("a")
    assert one.dispatch(run_of("a"), quick=True) == [run_of("a")]


def test_what_waits_behind_a_run_that_takes_too_long_is_taken_back(one: Rig) -> None:
    """The loop knows the moment; the worker gets nothing more until that run is over."""
    worker, child, runs = given(one, 3)
    assert one.pool.next_moment() == STALLED
    one.pool.enforce(STALLED - 0.001)
    assert one.pool.returned == []
    one.pool.enforce(STALLED)
    assert one.pool.returned == runs[1:]
    assert (list(worker.ahead), worker.state) == ([], "busy")
    assert one.pool.next_moment() != STALLED
    assert not one.pool.places(quick).claim("a")
    child.says(ok(runs[0]))
    assert len(list(one.pool.hear(worker, STALLED))) == 1
    assert one.pool.places(quick).claim("a")


def test_a_worker_that_does_not_wake_up_keeps_its_run_and_its_deadline(one: Rig) -> None:
    """It may hang between two runs: what it was to begin with ends as a timeout, and it is replaced."""
    worker, child, runs = given(one, 2)
    one.pool.enforce(STALLED)
    assert one.pool.returned == runs[1:]
    assert (worker.state, one.pool.free) == ("busy", 0)
    assert one.dispatch(*one.pool.returned, quick=True) == runs[1:]
    deadline = NOW + TIMEOUT + GRACE
    assert one.pool.next_moment() == deadline
    for moment in (deadline, deadline + TRACE_SECONDS):
        one.pool.enforce(moment)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]


def test_a_worker_that_does_not_come_to_its_next_run_is_relieved_of_it(one: Rig) -> None:
    """The run before has ended, so it is idle, as far as anybody can tell; what it gets then has a deadline again."""
    worker, child, runs = given(one, 3)
    child.says(ok(runs[0]))
    assert len(list(one.pool.hear(worker, NOW))) == 1
    one.pool.enforce(STALLED)
    assert one.pool.returned == runs[1:]
    assert (worker.state, worker.runs, one.pool.free) == ("idle", 1, 1)
    assert one.dispatch(*runs[1:], quick=True) == []
    assert child.told == runs[:2]


def test_a_run_that_the_worker_took_at_that_moment_stays_with_it(one: Rig) -> None:
    """Its end comes after that of the one before, and the loop does not spin until then."""
    worker, child, runs = given(one, 3)
    child.prefetch.take()
    one.pool.enforce(STALLED)
    assert (one.pool.returned, list(worker.ahead)) == (runs[2:], [runs[1]])
    assert one.pool.next_moment() != STALLED
    child.says(ok(runs[0]), ok(runs[1]))
    assert [ended.open_run.run for ended in one.pool.hear(worker, STALLED)] == runs[:2]


def test_a_dead_worker_costs_the_run_that_it_did_and_no_other(one: Rig) -> None:
    """What it had not begun is dispatched again."""
    _, child, runs = given(one, 3)
    child.prefetch.take()
    child.ends(-signal.SIGKILL, ok(runs[0]))
    endings = list(one.pool.reap(NOW + 1))
    assert [(ended.open_run.run, ended.outcome.status) for ended in endings] == [(runs[0], "ok"), (runs[1], "died")]
    assert one.pool.returned == runs[2:]


def test_what_a_dead_worker_had_taken_and_not_begun_is_done_by_another(one: Rig) -> None:
    """It may take a run before the one that comes first has reached it, but it never begins with it before that."""
    _, child, runs = given(one, 3)
    child.prefetch.take()
    child.ends(-signal.SIGKILL)
    endings = list(one.pool.reap(NOW + 1))
    assert [(ended.open_run.run, ended.outcome.status) for ended in endings] == [(runs[0], "died")]
    assert one.pool.returned == runs[1:]


def test_a_worker_whose_words_make_no_sense_ends_all_that_it_may_have_begun(one: Rig) -> None:
    """Nobody knows how far it was: none of these may be done again."""
    _, child, runs = given(one, 3)
    child.prefetch.take()
    child.link.garbage = True
    child.code = -signal.SIGKILL
    assert [(ended.open_run.run, ended.outcome.status) for ended in one.pool.reap(NOW)] == [
        (runs[0], "died"),
        (runs[1], "died"),
    ]
    assert one.pool.returned == runs[2:]


def test_a_worker_that_leaves_no_memory_gives_back_the_rest(one: Rig) -> None:
    """It ends after its run, and begins with nothing else."""
    worker, child, runs = given(one, 2)
    child.says(RunResult(runs[0].run_id, "error", 1.0, spent=True))
    assert len(list(one.pool.hear(worker, NOW))) == 1
    child.ends(0)
    list(one.pool.reap(NOW))
    assert one.pool.returned == runs[1:]


@pytest.mark.parametrize("way", ["close", "resize"])
def test_a_worker_that_is_to_finish_gives_back_the_rest(rig: Rig, way: str) -> None:
    """It does what it has begun, and is then told to finish."""
    runs = [run_of("a", number) for number in range(4)]
    rig.dispatch(*runs, quick=True)
    worker = rig.workers()[0]
    child = rig.child_of(worker)
    rig.pool.close(NOW) if way == "close" else rig.pool.resize(1, NOW)
    assert runs[2] in rig.pool.returned
    child.says(ok(runs[0]))
    assert len(list(rig.pool.hear(worker, NOW))) == 1
    assert child.told[-1] == Finish()


def test_workers_that_may_be_worn_have_nothing_before_them() -> None:
    """They are replaced between two runs, so the next one is another worker's."""
    rig = Rig(size=1)
    rig.start()
    rig.pool.limits = Limits(max_runs=5)
    runs = [run_of("a", number) for number in range(2)]
    assert rig.dispatch(*runs, quick=True) == runs[1:]


def test_a_run_that_finds_no_room_there_is_refused(one: Rig) -> None:
    """The caller hears of it, and it is nobody's; the one that the worker begins with has room by its link."""
    [child] = one.children
    child.prefetch.room = 1
    runs = [run_of("a", number) for number in range(4)]
    waiting = deque(runs)
    assert one.pool.dispatch(waiting, NOW, quick) == runs[2:]
    [worker] = one.workers()
    assert (child.told, list(worker.ahead), list(waiting)) == (runs[:1], runs[1:2], [])


def test_code_goes_by_the_link_only(rig: Rig) -> None:
    """A run waits behind another only where the worker has the code of its sense."""
    version = version_of("d")
    known = run_of("a", 0, version)
    rig.dispatch(known, quick=True)
    [knowing] = rig.pool.busy
    rig.complete(knowing)
    first, second, third = (run_of("b", number) for number in range(3))
    rig.dispatch(first, second, quick=True)
    assert rig.dispatch(run_of("a", 4, version), run_of("c", 5, version), third, quick=True) == [
        run_of("c", 5, version),
        third,
    ]
    assert [(run.run_id, run.version) for run in rig.child_of(knowing).prefetch.waiting] == [("a/4", None)]


def test_code_that_the_worker_has_is_not_sent_again(one: Rig) -> None:
    """Or else its module would be loaded anew, and forget what it had kept, each time a run is taken back."""
    version = version_of("d")
    one.dispatch(first := run_of("a", 0, version), quick=True)
    [worker] = one.workers()
    child = one.child_of(worker)
    child.says(ok(first))
    list(one.pool.hear(worker, NOW))
    one.dispatch(other := run_of("b", 1), again := run_of("a", 2, version), quick=True)
    one.pool.enforce(STALLED)
    assert one.pool.returned == [again]
    child.says(ok(other))
    list(one.pool.hear(worker, STALLED))
    one.dispatch(again, quick=True)
    assert isinstance(told := child.told[-1], Run)
    assert (told.run_id, told.version) == ("a/2", None)


def test_a_smaller_pool_takes_back_only_from_those_that_end(rig: Rig) -> None:
    """The others go on with what they have before them."""
    runs = [run_of("a", number) for number in range(6)]
    rig.dispatch(*runs, quick=True)
    rig.pool.resize(1, NOW)
    assert sorted(len(worker.ahead) for worker in rig.workers()) == [0, 2]
    assert len(rig.pool.returned) == 2
