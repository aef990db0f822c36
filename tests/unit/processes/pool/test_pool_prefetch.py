"""Runs that are queued on busy workers: behind quick ones only, in order, and taken back when one turns out slow."""

from __future__ import annotations

import signal

import msgspec
import pytest
from support.children import FakeChild
from support.pool import GRACE, NOW, TIMEOUT, VERSION, PoolRig, ok, quick_runs, recorded, version_of

from nerve.processes.messages import Finish, Run, RunResult
from nerve.processes.pool import TRACE_SECONDS, Limits
from nerve.processes.prefetch import MAX_QUEUED_RUNS
from nerve.processes.worker_handle import STALL_SECONDS, RecordedRun, WorkerHandle

STALLED = NOW + STALL_SECONDS


@pytest.fixture
def one() -> PoolRig:
    """Return a pool of one worker, which is idle and has the code of sense `a`."""
    rig = PoolRig(size=1)
    rig.start()
    know(rig, "a")
    return rig


def know(rig: PoolRig, sense: str) -> None:
    """Let every worker do a run of a sense, so that it has its code."""
    workers = [rig.busy(recorded(sense, 100 + n))[0] for n in range(len(rig.workers()))]
    for worker in workers:
        rig.complete(worker)
        worker.runs = 0
        rig.child_of(worker).received.clear()


def queue(rig: PoolRig, count: int) -> tuple[WorkerHandle, FakeChild, list[RecordedRun]]:
    """Dispatch `count` quick runs to the only worker."""
    runs = quick_runs(count)
    assert rig.dispatch(*runs) == []
    [worker] = rig.workers()
    return worker, rig.child_of(worker), runs


def returned(rig: PoolRig) -> list[RecordedRun]:
    """Return the runs that the pool gives back."""
    return rig.pool.take_returned()


def test_queued_runs_are_in_the_pipe_before_the_link_wakes_the_worker(one: PoolRig) -> None:
    """It begins with the first run, which comes by its link, and finds the others."""
    worker, child, runs = queue(one, 3)
    assert [run.run_id for run in child.prefetch.waiting] == ["a/1", "a/2"]
    assert [run.after for run in child.prefetch.waiting] == [2, 2]  # one before this test, and a/0
    assert child.received == [runs[0].run]
    assert (worker.open_run, list(worker.queued), worker.runs) == (runs[0], runs[1:], 1)


def test_a_single_run_goes_by_the_link(one: PoolRig) -> None:
    """The pipe is used only for runs that are queued."""
    _, child, [run] = queue(one, 1)
    assert (child.received, child.prefetch.put_there) == ([run.run], [])


def test_the_next_run_begins_when_the_one_before_has_ended(one: PoolRig) -> None:
    """From then on its deadline counts, and its result is awaited."""
    worker, child, runs = queue(one, 2)
    child.says(ok(runs[0]))
    assert [ended.run for ended in one.pool.receive(worker, NOW + 1)] == [runs[0].run]
    assert (worker.open_run, worker.started, worker.deadline) == (runs[1], NOW + 1, NOW + 1 + TIMEOUT + GRACE)
    child.says(ok(runs[1]))
    assert [ended.run for ended in one.pool.receive(worker, NOW + 2)] == [runs[1].run]
    assert (worker.state, worker.runs) == ("idle", 2)


def test_a_worker_gets_no_more_runs_than_it_has_slots(one: PoolRig) -> None:
    """The others wait in the kernel until a run has ended."""
    runs = quick_runs(MAX_QUEUED_RUNS + 3)
    left = one.dispatch(*runs)
    assert left == runs[-2:]
    [worker] = one.workers()
    child = one.child_of(worker)
    child.says(ok(runs[0]))
    assert len(one.pool.receive(worker, NOW)) == 1
    child.prefetch.take()
    assert one.dispatch(*left) == left[1:]
    assert child.received == [runs[0].run]
    assert child.prefetch.put_there[-1].run_id == left[0].run.run_id


def test_a_pipe_that_is_small_has_fewer_slots(one: PoolRig) -> None:
    """Each packet takes a page, and a user's share of pipe memory is limited."""
    [child] = one.children
    child.prefetch.capacity = 2
    runs = quick_runs(5)
    assert one.dispatch(*runs) == runs[3:]
    assert returned(one) == []


def test_idle_workers_are_reserved_first_and_the_queues_grow_evenly(rig: PoolRig) -> None:
    """Two idle workers have a slot each to begin with, and as many as can be queued behind that."""
    know(rig, "a")
    slots = []
    while slot := rig.pool.reserve("a", VERSION, quick=True):
        slots.append(slot)
    assert [slot.worker for slot in slots[:2]] == rig.workers()
    assert len(slots) == 2 + 2 * MAX_QUEUED_RUNS
    for n in range(2, len(slots), 2):
        assert {slot.worker for slot in slots[n : n + 2]} == set(rig.workers())
    rig.pool.dispatch(zip(quick_runs(len(slots)), slots, strict=True), NOW)
    assert [len(worker.queued) for worker in rig.workers()] == [MAX_QUEUED_RUNS] * 2
    assert returned(rig) == []


def test_released_slots_can_be_reserved_again(rig: PoolRig) -> None:
    """As if they had never been reserved, whether on an idle worker or behind a run."""
    know(rig, "a")
    rig.dispatch(*quick_runs(1))
    for _ in range(2):
        slots = [rig.pool.reserve("a", VERSION, quick=True) for _ in range(3)]
        assert not rig.has_slot(recorded("slow"))
        rig.pool.release(slot for slot in slots if slot)
    assert rig.free == 1


def test_nothing_is_queued_behind_a_slow_run(one: PoolRig) -> None:
    """However quick the second run is; nor is a slow run queued behind a quick one."""
    slow, quick = recorded("a"), recorded("a", 2, quick=True)
    one.dispatch(slow)
    assert one.dispatch(quick) == [quick]
    one.complete(one.workers()[0])
    one.dispatch(quick)
    assert one.dispatch(slow) == [slow]


def test_a_slot_that_is_reserved_for_a_slow_run_has_none_behind_it(one: PoolRig) -> None:
    """A worker that is about to begin a slow run is like one that has begun it."""
    slot = one.pool.reserve("a", VERSION, quick=False)
    assert slot
    assert one.pool.reserve("a", VERSION, quick=True) is None


def test_runs_queued_behind_a_slow_run_are_taken_back(one: PoolRig) -> None:
    """The loop knows the moment; nothing more is queued on the worker until that run is over."""
    worker, child, runs = queue(one, 3)
    assert one.pool.next_deadline() == STALLED
    one.pool.enforce(STALLED - 0.001)
    assert returned(one) == []
    one.pool.enforce(STALLED)
    assert returned(one) == runs[1:]
    assert (list(worker.queued), worker.state) == ([], "busy")
    assert one.pool.next_deadline() != STALLED
    assert not one.has_slot(runs[1])
    child.says(ok(runs[0]))
    assert len(one.pool.receive(worker, STALLED)) == 1
    assert one.has_slot(runs[1])


def test_runs_are_returned_once(one: PoolRig) -> None:
    """The caller has them from then on."""
    _, _, runs = queue(one, 2)
    one.pool.enforce(STALLED)
    assert (returned(one), returned(one)) == (runs[1:], [])


def test_a_worker_that_does_not_wake_up_keeps_its_run_and_its_deadline(one: PoolRig) -> None:
    """It may hang between two runs: the run that it was sent ends as a timeout, and it is replaced."""
    worker, child, runs = queue(one, 2)
    one.pool.enforce(STALLED)
    assert returned(one) == runs[1:]
    assert (worker.state, one.free) == ("busy", 0)
    assert one.dispatch(*runs[1:]) == runs[1:]
    deadline = NOW + TIMEOUT + GRACE
    assert one.pool.next_deadline() == deadline
    for moment in (deadline, deadline + TRACE_SECONDS):
        one.pool.enforce(moment)
    assert child.signals == [signal.SIGUSR2, signal.SIGKILL]


def test_a_worker_that_does_not_come_to_its_next_run_loses_it(one: PoolRig) -> None:
    """The run before has ended, so the worker counts as idle; its next run has a deadline again."""
    worker, child, runs = queue(one, 3)
    child.says(ok(runs[0]))
    assert len(one.pool.receive(worker, NOW)) == 1
    one.pool.enforce(STALLED)
    assert returned(one) == runs[1:]
    assert (worker.state, worker.runs, one.free) == ("idle", 1, 1)
    assert one.dispatch(*runs[1:]) == []
    assert child.received == [run.run for run in runs[:2]]


def test_a_run_that_the_worker_takes_at_that_moment_stays_with_it(one: PoolRig) -> None:
    """Its result comes after that of the run before, and the loop does not spin until then."""
    worker, child, runs = queue(one, 3)
    child.prefetch.take()
    one.pool.enforce(STALLED)
    assert (returned(one), list(worker.queued)) == (runs[2:], [runs[1]])
    assert one.pool.next_deadline() != STALLED
    child.says(ok(runs[0]), ok(runs[1]))
    assert [ended.run for ended in one.pool.receive(worker, STALLED)] == [run.run for run in runs[:2]]


def test_a_dead_worker_costs_only_the_run_that_it_had_begun(one: PoolRig) -> None:
    """All other runs are returned."""
    _, child, runs = queue(one, 3)
    child.prefetch.take()
    child.ends(-signal.SIGKILL, ok(runs[0]))
    endings = one.pool.reap(NOW + 1)
    assert [(ended.run, ended.result.status) for ended in endings] == [(runs[0].run, "ok"), (runs[1].run, "died")]
    assert returned(one) == runs[2:]


def test_a_run_that_a_dead_worker_had_taken_but_not_begun_is_returned(one: PoolRig) -> None:
    """It may take a run before the first one has reached it, but it never begins with it before that."""
    _, child, runs = queue(one, 3)
    child.prefetch.take()
    child.ends(-signal.SIGKILL)
    assert [(ended.run, ended.result.status) for ended in one.pool.reap(NOW + 1)] == [(runs[0].run, "died")]
    assert returned(one) == runs[1:]


def test_a_worker_that_sent_an_invalid_message_ends_all_runs_that_it_may_have_begun(one: PoolRig) -> None:
    """The message may have been a result: none of these runs may be done again."""
    _, child, runs = queue(one, 3)
    child.prefetch.take()
    child.link.garbage = True
    child.code = -signal.SIGKILL
    assert [(ended.run, ended.result.status) for ended in one.pool.reap(NOW)] == [
        (runs[0].run, "died"),
        (runs[1].run, "died"),
    ]
    assert returned(one) == runs[2:]


def test_a_worker_that_is_out_of_memory_returns_its_queued_runs(one: PoolRig) -> None:
    """It exits after its run, and begins no other."""
    worker, child, runs = queue(one, 2)
    child.says(RunResult(run_id="a/0", status="error", duration_ms=1.0, out_of_memory=True))
    assert len(one.pool.receive(worker, NOW)) == 1
    child.ends(0)
    assert one.pool.reap(NOW) == []
    assert returned(one) == runs[1:]


@pytest.mark.parametrize("way", ["close", "resize"])
def test_a_worker_that_is_to_finish_returns_its_queued_runs(rig: PoolRig, way: str) -> None:
    """It does the run that it has begun, and then gets Finish."""
    know(rig, "a")
    runs = quick_runs(4)
    rig.dispatch(*runs)
    worker = rig.workers()[0]
    child = rig.child_of(worker)
    rig.pool.close(NOW) if way == "close" else rig.pool.resize(1, NOW)
    assert runs[2] in returned(rig)
    child.says(ok(runs[0]))
    assert len(rig.pool.receive(worker, NOW)) == 1
    assert child.received[-1] == Finish()


def test_nothing_is_queued_on_workers_that_have_limits(one: PoolRig) -> None:
    """They are replaced between two runs, so the next run is another worker's."""
    one.pool.limits = Limits(max_runs=5)
    runs = quick_runs(2)
    assert one.dispatch(*runs) == runs[1:]


def test_a_run_that_is_too_large_for_a_pipe_waits_for_an_idle_worker(one: PoolRig) -> None:
    """It is returned with those behind it, and is not queued again; the first run goes by the link."""
    [child] = one.children
    child.prefetch.room = 1
    worker, child, runs = queue(one, 4)
    assert (child.received, list(worker.queued)) == ([runs[0].run], runs[1:2])
    too_large, last = returned(one)
    assert (too_large, last) == (msgspec.structs.replace(runs[2], quick=False), runs[3])
    child.prefetch.room = 100
    assert one.has_slot(last)
    assert not one.has_slot(too_large)


def test_code_goes_by_the_link_only(rig: PoolRig) -> None:
    """A run is queued only on a worker that has its code."""
    version = version_of("d1")
    known = recorded("a", 0, version, quick=True)
    rig.dispatch(known)
    [knowing] = rig.pool.busy
    rig.complete(knowing)
    rig.dispatch(recorded("b", 1, quick=True), recorded("b", 2, quick=True))
    assert rig.dispatch(other := recorded("c", 3, version, quick=True)) == [other]
    assert rig.dispatch(newer := recorded("a", 4, version_of("d1"), quick=True)) == [newer]
    assert rig.dispatch(recorded("a", 5, version, quick=True)) == []
    assert [(run.run_id, run.version) for run in rig.child_of(knowing).prefetch.waiting] == [("a/5", None)]


def test_code_that_the_worker_has_is_not_sent_again(one: PoolRig) -> None:
    """Else its module would be loaded again, and lose its state, each time a run is taken back."""
    one.dispatch(other := recorded("b", 1, quick=True), again := recorded("a", 2, quick=True))
    one.pool.enforce(STALLED)
    assert returned(one) == [again]
    [worker] = one.workers()
    child = one.child_of(worker)
    child.says(ok(other))
    assert len(one.pool.receive(worker, STALLED)) == 1
    one.dispatch(again)
    last = child.received[-1]
    assert isinstance(last, Run)
    assert (last.run_id, last.version) == ("a/2", None)


def test_a_smaller_pool_takes_runs_back_only_from_workers_that_end(rig: PoolRig) -> None:
    """The others keep their queues."""
    know(rig, "a")
    rig.dispatch(*quick_runs(6))
    rig.pool.resize(1, NOW)
    assert sorted(len(worker.queued) for worker in rig.workers()) == [0, 2]
    assert len(returned(rig)) == 2
