"""One run a worker at a time, with its code; and a worker's death costs that run and nothing else."""

from __future__ import annotations

import signal

import pytest
from support.pool import NOW, Rig, ok, run_of, version_of

from nerve.events.model import ErrorDetail
from nerve.processes.messages import Failed, Ready, Run, RunResult

# Runs.


def test_a_run_goes_to_an_idle_worker_and_its_outcome_comes_back(rig: Rig) -> None:
    """One run a worker; with the outcome it is free again."""
    first, second = run_of("a"), run_of("b")
    worker, child = rig.busy(first)
    other, _ = rig.busy(second)
    assert other is not worker
    assert child.told == [first]
    assert (rig.pool.free, worker.state, worker.runs) == (0, "busy", 1)
    child.says(ok(first, "1"))
    [ended] = rig.pool.hear(worker, NOW)
    assert (ended.open_run.run, ended.outcome, ended.pid, ended.died) == (first, ok(first, "1"), child.pid, False)
    assert (rig.pool.free, worker.state) == (1, "idle")


def test_nothing_is_dispatched_to_a_worker_that_can_not_take_it(rig: Rig) -> None:
    """Neither to one that isn't ready, nor to one whose link has ended."""
    rig.children[0].link.hung_up = True
    for worker in rig.workers():
        assert list(rig.pool.hear(worker, NOW)) == []
    assert rig.pool.free == 1
    _, child = rig.busy(run_of())
    assert child is rig.children[1]
    assert rig.children[0].pid in rig.forgotten


def test_an_outcome_of_another_run_ends_nothing(rig: Rig) -> None:
    """A worker's slip of the tongue is noted, and its run goes on."""
    run = run_of()
    worker, child = rig.busy(run)
    child.says(ok(run_of("other")), Ready(), ok(run))
    assert [ended.outcome for ended in rig.pool.hear(worker, NOW)] == [ok(run)]
    assert child.failure == "it sent an unexpected RunResult"
    child.says(ok(run))
    assert list(rig.pool.hear(worker, NOW)) == []


def test_a_worker_that_dies_ends_its_run_as_died(rig: Rig) -> None:
    """The end says which worker, how it died, and where, if it could tell; the next worker comes at once."""
    run = run_of()
    _, child = rig.busy(run)
    child.trace = "Fatal Python error: Segmentation fault"
    child.ends(-signal.SIGSEGV)
    [ended] = rig.pool.reap(NOW + 2)
    assert (ended.died, ended.pid) == (True, child.pid)
    assert (ended.outcome.run_id, ended.outcome.status, ended.outcome.signal) == (run.run_id, "died", None)
    assert ended.outcome.duration_ms == 2000
    assert ended.outcome.error == ErrorDetail(
        "worker_died",
        f"the worker (pid {child.pid}) that ran disk died: killed by SIGSEGV",
        traceback="Fatal Python error: Segmentation fault",
        exit_code=-signal.SIGSEGV,
    )
    rig.pool.fill(NOW + 2)
    assert len(rig.pool.workers) == 2


def test_a_worker_that_says_why_it_ends_is_quoted(rig: Rig) -> None:
    """Its own words say more than its exit code."""
    worker, child = rig.busy(run_of())
    child.says(Failed("the sense of it all is gone"))
    assert list(rig.pool.hear(worker, NOW)) == []
    child.ends(1)
    [ended] = rig.pool.reap(NOW)
    assert ended.outcome.error
    assert ended.outcome.error.message.endswith("died: the sense of it all is gone")


def test_an_outcome_that_came_just_before_the_death_counts(rig: Rig) -> None:
    """The run went well; that the worker died right after it is another matter."""
    run = run_of()
    _, child = rig.busy(run)
    child.ends(-signal.SIGKILL, ok(run))
    [ended] = rig.pool.reap(NOW)
    assert (ended.outcome, ended.died) == (ok(run), False)
    assert len(rig.pool.workers) == 1


def test_a_run_that_has_used_up_the_worker_s_memory_costs_the_worker(rig: Rig) -> None:
    """The worker ends by itself, gets no further run, and is replaced at once."""
    run = run_of()
    worker, child = rig.busy(run)
    child.says(RunResult(run.run_id, "error", 1.0, None, ErrorDetail("compute", "MemoryError"), spent=True))
    [ended] = rig.pool.hear(worker, NOW)
    assert ended.died
    assert (worker.state, rig.pool.free) == ("stopping", 1)
    child.ends(0)
    assert list(rig.pool.reap(NOW)) == []
    rig.pool.fill(NOW)
    assert len(rig.pool.workers) == 2


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_that_speaks_nonsense_is_killed_and_costs_its_run_at_most(rig: Rig, *, busy: bool) -> None:
    """Bytes that are no message never get further than the pool."""
    worker, child = rig.busy(run_of()) if busy else (rig.workers()[0], rig.children[0])
    child.link.garbage = True
    assert list(rig.pool.hear(worker, NOW)) == []
    assert child.signals == [signal.SIGKILL]
    assert rig.forgotten == [child.pid]
    assert rig.pool.free == 1
    child.code = -signal.SIGKILL
    endings = list(rig.pool.reap(NOW))
    assert [ended.outcome.status for ended in endings] == ["died"] * busy
    for ended in endings:
        assert ended.outcome.error
        assert "no message" in ended.outcome.error.message
    rig.pool.fill(NOW)
    assert len(rig.pool.workers) == 2


# Code.


def test_the_code_of_a_sense_is_sent_to_each_worker_once() -> None:
    """Then again when it is another version, even one of the same digest: it may be meant to be loaded anew."""
    rig = Rig(size=1)
    rig.start()
    first, second, anew = version_of("d1"), version_of("d2"), version_of("d2")
    for version in (first, first, second, second, anew, anew, first):
        worker, _ = rig.busy(run_of("disk", version=version))
        rig.complete(worker)
    sent = [message.version for message in rig.children[0].told if isinstance(message, Run)]
    assert [version if version is None else id(version) for version in sent] == [
        id(first),
        None,
        id(second),
        None,
        id(anew),
        None,
        id(first),
    ]


def test_another_worker_and_another_sense_get_their_code_too(rig: Rig) -> None:
    """What one worker has been sent says nothing of another, nor one sense of another."""
    version = version_of("d")
    runs = [run_of("a", 1, version), run_of("a", 2, version)]
    workers = [rig.busy(run)[0] for run in runs]
    assert [child.told for child in rig.children] == [[run] for run in runs]
    rig.complete(workers[0])
    again = run_of("b", 3, version)
    rig.busy(again)
    assert rig.child_of(workers[0]).told[-1] is again


def test_the_open_run_keeps_its_code() -> None:
    """What is left out on the way to the worker is not left out of what the pool knows."""
    rig = Rig(size=1)
    rig.start()
    version = version_of("d")
    for number in range(2):
        worker, _ = rig.busy(run_of("disk", number, version))
        assert worker.open_run
        assert worker.open_run.run.version is version
        rig.complete(worker)
