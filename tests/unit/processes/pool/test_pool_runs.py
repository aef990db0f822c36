"""One run per worker at a time, with its code; and a worker's death costs that run and nothing else."""

from __future__ import annotations

import signal

import pytest
from support.pool import NOW, PoolRig, ok, recorded, version_of, with_code

from nerve.control.status import WorkerStatus
from nerve.events.model import ErrorDetail
from nerve.processes.messages import Failed, Ready, Run, RunResult

# Runs.


def test_a_run_goes_to_an_idle_worker_and_its_result_comes_back(rig: PoolRig) -> None:
    """Each worker has one run; with the result it is free again."""
    first, second = recorded("a"), recorded("b")
    worker, child = rig.busy(first)
    other, _ = rig.busy(second)
    assert other is not worker
    assert child.received == [with_code(first)]
    assert (rig.free, worker.state, worker.runs) == (0, "busy", 1)
    child.says(ok(first, "1"))
    [ended] = rig.pool.receive(worker, NOW)
    assert (ended.run, ended.result, ended.pid, ended.died) == (first.run, ok(first, "1"), child.pid, False)
    assert (rig.free, worker.state) == (1, "idle")


def test_the_status_of_a_worker_names_its_run(rig: PoolRig) -> None:
    """An idle worker has none; the memory is left to the command that shows it."""
    worker, child = rig.busy(recorded("a", 3))
    [idle] = [other for other in rig.children if other is not child]
    statuses = {status.pid: status for status in rig.pool.statuses()}
    assert statuses[child.pid] == WorkerStatus(
        pid=child.pid, state="busy", run="a/3", sense="a", rss_bytes=None, runs=1
    )
    assert statuses[idle.pid] == WorkerStatus(pid=idle.pid, state="idle", run=None, sense=None, rss_bytes=None, runs=0)
    rig.complete(worker)
    assert [status.runs for status in rig.pool.statuses() if status.pid == child.pid] == [1]


def test_nothing_is_dispatched_to_a_worker_whose_link_has_ended(rig: PoolRig) -> None:
    """Its messages are handled, its link is no longer watched, and the next run goes to another worker."""
    rig.children[0].link.hung_up = True
    for worker in rig.workers():
        assert rig.pool.receive(worker, NOW) == []
    assert rig.free == 1
    _, child = rig.busy(recorded())
    assert child is rig.children[1]
    assert rig.children[0].pid in rig.forgotten


def test_the_result_of_another_run_ends_nothing(rig: PoolRig) -> None:
    """It is noted as a failure of the worker, and its run goes on."""
    run = recorded()
    worker, child = rig.busy(run)
    child.says(ok(recorded("other")), Ready(), ok(run))
    assert [ended.result for ended in rig.pool.receive(worker, NOW)] == [ok(run)]
    assert child.failure == "it sent an unexpected RunResult"
    child.says(ok(run))
    assert rig.pool.receive(worker, NOW) == []


def test_the_run_of_a_worker_that_dies_ends_as_died(rig: PoolRig) -> None:
    """The error names the worker, how it died, and its last stack; the next worker is forked at once."""
    run = recorded()
    _, child = rig.busy(run)
    child.trace = "Fatal Python error: Segmentation fault"
    child.ends(-signal.SIGSEGV)
    [ended] = rig.pool.reap(NOW + 2)
    assert (ended.run, ended.died, ended.pid) == (run.run, True, child.pid)
    assert ended.result == RunResult(
        run_id="disk/1",
        status="died",
        duration_ms=2000,
        error=ErrorDetail(
            "worker_died",
            f"the worker (pid {child.pid}) that ran disk died: killed by SIGSEGV",
            traceback="Fatal Python error: Segmentation fault",
            exit_code=-signal.SIGSEGV,
        ),
    )
    rig.pool.fill(NOW + 2)
    assert len(rig.pool.workers) == 2


def test_the_reason_that_a_worker_sent_is_in_the_error(rig: PoolRig) -> None:
    """It says more than its exit code."""
    worker, child = rig.busy(recorded())
    child.says(Failed("the code can't be read"))
    assert rig.pool.receive(worker, NOW) == []
    child.ends(1)
    [ended] = rig.pool.reap(NOW)
    assert ended.result.error
    assert ended.result.error.message.endswith("died: the code can't be read")


def test_a_result_that_came_just_before_the_death_counts(rig: PoolRig) -> None:
    """The run ended well, whatever happened to the worker afterwards."""
    run = recorded()
    _, child = rig.busy(run)
    child.ends(-signal.SIGKILL, ok(run))
    [ended] = rig.pool.reap(NOW)
    assert (ended.result, ended.died) == (ok(run), False)
    assert len(rig.pool.workers) == 1


def test_a_run_that_used_up_the_memory_costs_the_worker(rig: PoolRig) -> None:
    """The worker exits by itself, gets no further run, and is replaced at once."""
    worker, child = rig.busy(recorded())
    error = ErrorDetail("compute", "MemoryError")
    child.says(RunResult(run_id="disk/1", status="error", duration_ms=1.0, error=error, out_of_memory=True))
    [ended] = rig.pool.receive(worker, NOW)
    assert ended.died
    assert (worker.state, rig.free) == ("stopping", 1)
    child.ends(0)
    assert rig.pool.reap(NOW) == []
    rig.pool.fill(NOW)
    assert len(rig.pool.workers) == 2


@pytest.mark.parametrize("busy", [True, False])
def test_a_worker_that_sends_an_invalid_message_is_killed_and_costs_its_run_at_most(
    rig: PoolRig, *, busy: bool
) -> None:
    """The pool reads nothing more from it."""
    worker, child = rig.busy(recorded()) if busy else (rig.workers()[0], rig.children[0])
    child.link.garbage = True
    assert rig.pool.receive(worker, NOW) == []
    assert child.signals == [signal.SIGKILL]
    assert rig.forgotten == [child.pid]
    assert rig.free == 1
    child.code = -signal.SIGKILL
    endings = rig.pool.reap(NOW)
    assert [ended.result.status for ended in endings] == ["died"] * busy
    for ended in endings:
        assert ended.result.error
        assert "it sent an invalid message" in ended.result.error.message
    rig.pool.fill(NOW)
    assert len(rig.pool.workers) == 2


# Code.


def test_the_code_of_a_sense_is_sent_to_each_worker_once() -> None:
    """It is sent again when the version is another one, even of the same digest: it may be a forced reload."""
    rig = PoolRig(size=1)
    rig.start()
    first, second, reloaded = version_of("d1"), version_of("d2"), version_of("d2")
    for version in (first, first, second, second, reloaded, reloaded, first):
        worker, _ = rig.busy(recorded("disk", version=version))
        rig.complete(worker)
    sent = [message.version for message in rig.children[0].received if isinstance(message, Run)]
    assert [version if version is None else id(version) for version in sent] == [
        id(first),
        None,
        id(second),
        None,
        id(reloaded),
        None,
        id(first),
    ]


def test_another_worker_and_another_sense_get_their_code_too(rig: PoolRig) -> None:
    """The code that one worker was sent is not known to another, nor that of one sense for another sense."""
    runs = [recorded("a", 1), recorded("a", 2)]
    workers = [rig.busy(run)[0] for run in runs]
    assert [child.received for child in rig.children] == [[with_code(run)] for run in runs]
    rig.complete(workers[0])
    again = recorded("b", 3)
    rig.busy(again)
    assert rig.child_of(workers[0]).received[-1] == with_code(again)
