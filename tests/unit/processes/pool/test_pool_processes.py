"""The pool with real processes."""

from __future__ import annotations

import faulthandler
import select
import signal
from typing import cast

import pytest
from support.children import enter
from support.pool import GRACE, NOW, TIMEOUT, ok, recorded

from nerve.ipc.channel import Channel
from nerve.processes.child import Boot, Child, ChildContext, Role
from nerve.processes.messages import Finish, Ready, Run, ToChild
from nerve.processes.pool import TRACE_SECONDS, Pool
from nerve.processes.worker_handle import EndedRun, WorkerHandle


def serve(context: ChildContext) -> None:
    """Be a worker with the senses `good`, `stuck` and `deadly` (child)."""
    faulthandler.register(signal.SIGUSR2, file=context.crash, all_threads=False)
    link = enter(context)
    link.send(Ready())
    while not link.ended:
        for message in link.wait(None):
            match message:
                case Run(sense="good"):
                    link.send(ok(message, "1"))
                case Run(sense="stuck"):
                    get_stuck(link)
                case Run(sense="deadly"):
                    signal.raise_signal(signal.SIGKILL)
                case Finish():
                    return
                case _:
                    raise AssertionError(message)


def get_stuck(link: Channel[ToChild]) -> None:
    """Do nothing until the kernel ends (child)."""
    while not link.ended:
        link.wait(None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_real_workers_run_hang_die_and_finish() -> None:
    """A run of each kind ends as it should, and no process is left."""
    role = Role("worker", serve)
    watched: dict[int, WorkerHandle] = {}
    pool = Pool(
        lambda: Child(role, cast(Boot, None)),
        lambda worker: watched.update({worker.child.pid: worker}),
        lambda worker: cast(None, watched.pop(worker.child.pid, None)),
        size=3,
    )
    endings: dict[str, EndedRun] = {}
    now = NOW

    def turn() -> None:
        select.select([worker.child.link for worker in watched.values()], [], [], 0.01)
        for worker in list(watched.values()):
            endings.update({ended.run.sense: ended for ended in pool.receive(worker, NOW)})
        endings.update({ended.run.sense: ended for ended in pool.reap(now)})
        pool.enforce(now)

    pool.fill(now)
    while not all(worker.is_free for worker in pool.workers.values()):
        turn()
    for run in (recorded("good"), recorded("stuck"), recorded("deadly")):
        slot = pool.reserve(run.run.sense, run.version, quick=False)
        assert slot
        pool.dispatch([(run, slot)], now)
    while endings.keys() < {"good", "deadly"}:
        turn()
    now += TIMEOUT + GRACE
    turn()
    now += TRACE_SECONDS
    while "stuck" not in endings:
        turn()
    pool.close(NOW)
    while pool.workers:
        turn()
    assert {sense: ended.result.status for sense, ended in endings.items()} == {
        "good": "ok",
        "stuck": "timeout",
        "deadly": "died",
    }
    stuck = endings["stuck"].result.error
    assert stuck
    assert "in get_stuck" in (stuck.traceback or "")
    assert watched == {}
